"""One run of a job: its input opened, its operation run in a child, its output stored; whatever happens, an outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from cloudfinite.domain.job import JobInput, Lease, Outcome
from cloudfinite.domain.objects import StoredObject
from cloudfinite.errors import JobFailed
from cloudfinite.ports import Pool, Task, Transaction
from cloudfinite.service.keepers import FoundObject
from cloudfinite.service.outputs import Outputs
from cloudfinite.service.sources import Sources
from cloudfinite.wire.operation import Operation, OutputFile

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is ours, and its input as the claim saw it; None where the claim could not tell."""

    lease: Lease
    source: FoundObject | None


def claim_jobs(
    tx: Transaction,
    owner: str,
    limit: int,
    lease: timedelta,
    after_queue: str,
    locate: Callable[[Transaction, str, JobInput], FoundObject | None],
) -> tuple[list[Claimed], str]:
    leases, last_queue = tx.jobs.claim(owner, limit, lease, after_queue)
    return [Claimed(one, locate(tx, one.job.bucket, one.job.input)) for one in leases], last_queue


class JobRunner:
    """Runs claimed jobs in the pool."""

    def __init__(self, pool: Pool, sources: Sources, outputs: Outputs, operations: Mapping[str, Operation]) -> None:
        self._pool = pool
        self._sources = sources
        self._outputs = outputs
        self._operations = operations

    async def run(self, claimed: Claimed, on_child: Callable[[], None]) -> Outcome:
        """Run the job; every failure of the job becomes its outcome. on_child: called just before a child is taken."""
        lease = claimed.lease
        job = lease.job
        etag = ""
        try:
            async with (
                self._sources.opened(job.bucket, job.input, claimed.source) as source,
                self._outputs.opened(job.output) as output,
            ):
                etag = source.etag
                task = Task(
                    tag=job.tag,
                    params=job.params,
                    source=source.path,
                    name=source.name,
                    size_bytes=source.size_bytes,
                    etag=source.etag,
                    last_modified=source.last_modified,
                    label=job.id,
                    output=output,
                )
                on_child()
                result = await self._pool.run(task)
                made = await self._store_output(job.tag, result, output) if output else None
            return Outcome(lease, result=result, source_etag=etag, made=made)
        except JobFailed as exc:
            log.info("job.failed", job_id=job.id, tag=job.tag, code=exc.code, reason=exc.message)
            return Outcome(lease, None, exc.code, exc.message, exc.retryable, etag)
        except Exception:
            log.exception("job.crashed", job_id=job.id, tag=job.tag)
            return Outcome(
                lease, None, "InternalError", f"an unexpected error; the log tells more of {job.id}", True, etag
            )

    async def _store_output(self, tag: str, result: Mapping[str, Any], output: OutputFile) -> StoredObject:
        operation = self._operations[tag]
        return await self._outputs.store(output, operation.content_type(operation.result_value(result)))
