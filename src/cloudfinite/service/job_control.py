"""Jobs from the operator's side: read with their deliveries, cancelled while they run, run again.

Functions whose first argument is a transaction are whole transactions, run by `Store.run`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cloudfinite.domain.delivery import Delivery, DeliveryFilter
from cloudfinite.domain.ids import new_job_id
from cloudfinite.domain.job import Job, JobFilter, JobState
from cloudfinite.domain.queue import SERVICES
from cloudfinite.errors import InvalidArgument, JobNotFound, QueueNotFound, SourceNotFound
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.jobs import check_room
from cloudfinite.service.openings import check_open
from cloudfinite.service.runs import Progress, advance_runs, lock_runs
from cloudfinite.wire.operation import Operation

_DELIVERIES = 100  # shown with a job; a job has one, and one more for each re-send to another URL


@dataclass(frozen=True, slots=True)
class Rerun:
    """A new job with the input, parameters and callback of an old one."""

    original: Job
    job: Job


@dataclass(frozen=True, slots=True)
class RerunPage:
    """What one call ran again; `after` and `until` are the filter values of the following call, None on the last."""

    reruns: list[Rerun]
    after: tuple[datetime, int] | None
    until: datetime


class JobControl:
    """What operators do with jobs of all buckets.

    on_submitted is told of new jobs once they are durable, on_cancelled of jobs that must not run on, on_progress of
    what a cancelled job brought its workflow's run.
    """

    def __init__(
        self,
        store: Store,
        operations: Mapping[str, Operation],
        on_submitted: Callable[[Sequence[Job]], None],
        on_cancelled: Callable[[Job], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._store = store
        self._operations = operations
        self._on_progress = on_progress
        self._on_submitted = on_submitted
        self._on_cancelled = on_cancelled

    async def show_job(self, job_id: str) -> tuple[Job, list[Delivery]]:
        """The job and its deliveries without their bodies. Raises JobNotFound."""
        return await self._store.read(show_job, job_id)

    async def cancel_job(self, job_id: str) -> Job:
        """End a waiting or running job without a callback; again is harmless.

        Raises JobNotFound, or InvalidArgument when it has ended otherwise.
        """
        job, progress = await self._store.run(cancel_job, job_id, self._operations)
        self._on_progress(progress)
        self._on_cancelled(job)
        return job

    async def rerun_job(self, job_id: str) -> Rerun:
        """Raises JobNotFound, ServiceClosed, QueuePaused, QueueSaturated; InvalidArgument when it has not ended."""
        rerun = await self._store.run(rerun_job, job_id)
        self._on_submitted([rerun.job])
        return rerun

    async def rerun_matching(self, bucket: str, wanted: JobFilter) -> RerunPage:
        """Run again the oldest `wanted.size` ended jobs that match; all or none of them. Raises as `rerun_job`."""
        reruns, after, until = await self._store.run(rerun_matching, bucket, wanted)
        self._on_submitted([rerun.job for rerun in reruns])
        return RerunPage(reruns, after, until)


def find_job(tx: Transaction, job_id: str) -> Job:
    found = tx.jobs.get([job_id])
    if not found:
        raise JobNotFound(f"the job {job_id} does not exist")
    return found[0]


def show_job(tx: Transaction, job_id: str) -> tuple[Job, list[Delivery]]:
    job = find_job(tx, job_id)
    rows = tx.deliveries.select(DeliveryFilter(job_id=job_id, size=_DELIVERIES))
    return job, [delivery for delivery, _ in rows]


def cancel_job(tx: Transaction, job_id: str, operations: Mapping[str, Operation]) -> tuple[Job, Progress]:
    """A job may go from waiting to running and back meanwhile, so what was read before decides nothing."""
    runs = lock_runs(tx, [find_job(tx, job_id)])
    is_ended = tx.jobs.cancel(job_id) or tx.jobs.cancel_running(job_id) or tx.jobs.cancel(job_id)
    job = find_job(tx, job_id)
    if is_ended:
        return job, advance_runs(tx, runs, [job], operations)
    if job.state is not JobState.CANCEL:
        raise InvalidArgument(f"the job {job_id} is {job.state}; only a waiting or running job can be cancelled")
    return job, Progress()


def rerun_job(tx: Transaction, job_id: str) -> Rerun:
    return _run_again(tx, [find_job(tx, job_id)])[0]


def rerun_matching(
    tx: Transaction, bucket: str, wanted: JobFilter
) -> tuple[list[Rerun], tuple[datetime, int] | None, datetime]:
    """Oldest first and none that is younger than the first call, so that no call meets what another one made."""
    youngest = tx.now - timedelta(microseconds=1)
    until = min(wanted.created_until or youngest, youngest)
    rows = tx.jobs.select(bucket, replace(wanted, newest_first=False, created_until=until, size=wanted.size + 1))
    page = rows[: wanted.size]
    reruns = _run_again(tx, [job for job, _ in page])
    if len(rows) <= wanted.size:
        return reruns, None, until
    last, position = page[-1]
    return reruns, (last.created_at, position), until


def _run_again(tx: Transaction, originals: Sequence[Job]) -> list[Rerun]:
    reruns: list[Rerun] = []
    taken: Counter[str] = Counter()
    for original in originals:
        if not original.state.is_final:
            raise InvalidArgument(f"the job {original.id} is {original.state}; only an ended job can be run again")
        queue = tx.queues.get(original.queue_id)
        if queue is None:
            raise QueueNotFound(f"the queue {original.queue_id} of the job {original.id} does not exist any more")
        bucket = tx.buckets.get(original.bucket)
        if bucket is None:
            raise SourceNotFound(f"the bucket {original.bucket} of the job {original.id} does not exist any more")
        check_open(bucket, queue.service)
        check_room(tx, queue, taken[queue.id])
        taken[queue.id] += 1
        job = Job(
            id=new_job_id(SERVICES[queue.service].letter, tx.now),
            bucket=original.bucket,
            region=original.region,
            tag=original.tag,
            queue_id=original.queue_id,
            input=original.input,
            params=original.params,
            created_at=tx.now,
            level=original.level,
            template_id=original.template_id,
            template_name=original.template_name,
            user_data=original.user_data,
            callback=original.callback,
            output=original.output,
        )
        reruns.append(Rerun(original, job))
    tx.jobs.insert([rerun.job for rerun in reruns])
    return reruns
