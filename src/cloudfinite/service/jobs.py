"""Jobs from the client's side: submit, describe, list, cancel; and the one way a job ends.

Functions whose first argument is a transaction are whole transactions, run by `Store.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cache
from urllib.parse import urlsplit

from cloudfinite.domain.delivery import Delivery
from cloudfinite.domain.events import Cause
from cloudfinite.domain.ids import new_job_id
from cloudfinite.domain.job import (
    Job,
    JobFilter,
    JobInput,
    JobOutput,
    JobRequest,
    JobState,
    Lease,
    Outcome,
    expand_key,
)
from cloudfinite.domain.objects import Bucket
from cloudfinite.domain.queue import SERVICES, Queue, QueueState
from cloudfinite.errors import (
    InvalidArgument,
    JobNotFound,
    OutputRefused,
    QueueNotFound,
    QueuePaused,
    QueueSaturated,
    SourceNotFound,
)
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.deliveries import NO_CALLBACK, plan_delivery
from cloudfinite.service.keepers import put_written
from cloudfinite.service.objects import check_key
from cloudfinite.service.openings import check_open
from cloudfinite.service.queues import QueueLimits, ensure_queue
from cloudfinite.service.runs import Progress, advance_runs, lock_runs, run_of
from cloudfinite.service.templates import find_template
from cloudfinite.wire.operation import Operation


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of jobs; `next_position` is where the following page starts, None on the last."""

    jobs: list[Job]
    next_position: tuple[Job, int] | None


class JobService:
    """What clients do with jobs.

    `check_url` raises InvalidArgument for a URL that is never called. `on_submitting` is called while jobs are on their
    way to the store, where a claim behind them can share their commit; `on_submitted` is told of them once durable,
    `on_progress` of what a cancelled job brought its workflow's run.
    """

    def __init__(
        self,
        store: Store,
        operations: Mapping[str, Operation],
        limits: QueueLimits,
        check_url: Callable[[str], object],
        on_submitting: Callable[[], None],
        on_submitted: Callable[[Sequence[Job]], None],
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._store = store
        self._operations = operations
        self._on_progress = on_progress
        self._on_submitting = on_submitting
        self._limits = limits
        self._check_url = check_url
        self._on_submitted = on_submitted

    async def submit_jobs(
        self, bucket: str, requests: Sequence[JobRequest], check: Callable[[Job], None] = lambda job: None
    ) -> list[Job]:
        """Accept all or none; `check` may refuse one by raising. When this returns, the jobs survive anything.

        Raises ServiceClosed, QueuePaused, QueueSaturated, QueueNotFound, TemplateNotFound, SourceNotFound (the bucket).
        """
        for url in {url for request in requests for url in (request.callback.url, request.input.url)}:
            if url and url.lower() != NO_CALLBACK:
                self._check_url(url)
        self._on_submitting()
        jobs = await self._store.run(submit_jobs, bucket, requests, self._operations, self._limits, check)
        self._on_submitted(jobs)
        return jobs

    async def describe_jobs(
        self, bucket: str, ids: Sequence[str], sees: Callable[[Job], bool] = lambda job: True
    ) -> tuple[list[Job], list[str]]:
        """(those of this bucket that the caller sees, ids that it does not have), in the order asked for."""
        jobs = await self._store.read(lambda tx: tx.jobs.get(ids))
        found = {job.id: job for job in jobs if job.bucket == bucket and sees(job)}
        return [found[job_id] for job_id in ids if job_id in found], [one for one in ids if one not in found]

    async def list_jobs(self, bucket: str, wanted: JobFilter) -> JobPage:
        # One more than asked tells whether a page follows.
        rows = await self._store.read(lambda tx: tx.jobs.select(bucket, replace(wanted, size=wanted.size + 1)))
        page = rows[: wanted.size]
        return JobPage([job for job, _ in page], page[-1] if len(rows) > wanted.size else None)

    async def cancel_job(self, bucket: str, job_id: str, sees: Callable[[Job], bool] = lambda job: True) -> None:
        """End a waiting job; again is harmless. Raises JobNotFound, or InvalidArgument naming the state."""
        self._on_progress(await self._store.run(cancel_job, bucket, job_id, self._operations, sees))


def submit_jobs(
    tx: Transaction,
    bucket_name: str,
    requests: Sequence[JobRequest],
    operations: Mapping[str, Operation],
    limits: QueueLimits,
    check: Callable[[Job], None] = lambda job: None,
) -> list[Job]:
    bucket = tx.buckets.get(bucket_name)
    if bucket is None:
        raise SourceNotFound(f"the bucket {bucket_name} does not exist here")
    jobs: list[Job] = []
    for request in requests:
        job, queue = draft_job(tx, bucket, request, operations, limits)
        check_room(tx, queue, sum(other.queue_id == queue.id for other in jobs))
        jobs.append(finish_draft(job, operations[job.tag], tx.now, job.input))
    for job in jobs:
        check(job)
    tx.jobs.insert(jobs)
    return jobs


def draft_job(
    tx: Transaction, bucket: Bucket, request: JobRequest, operations: Mapping[str, Operation], limits: QueueLimits
) -> tuple[Job, Queue]:
    """The job of a request, without an id and with the variables of its output; and the queue it is for.

    Raises what `JobService.submit_jobs` raises, but says nothing of the room in the queue.
    """
    operation = operations[request.tag]
    check_open(bucket, operation.service)
    queue = _find_queue(tx, bucket.name, request, operation, limits)
    template = None
    if request.template_id:
        template = find_template(tx, bucket.name, request.template_id)
        if template.tag != request.tag:
            raise InvalidArgument(f"the template {template.id} is for the tag {template.tag}, not {request.tag}")
    params = template.params if template else request.params
    assert params is not None, "a request carries parameters or a template"
    job = Job(
        id="",
        bucket=bucket.name,
        region=bucket.region,
        tag=request.tag,
        queue_id=queue.id,
        input=request.input,
        params=params,
        created_at=tx.now,
        level=request.level,
        template_id=template.id if template else "",
        template_name=template.name if template else "",
        user_data=request.user_data,
        callback=request.callback,
        output=settle_output(tx, bucket, operation, request.output),
    )
    return job, queue


def settle_output(tx: Transaction, own: Bucket, operation: Operation, wanted: JobOutput | None) -> JobOutput | None:
    """The output with bucket and region, those of the job's own bucket where it names none. Raises InvalidArgument."""
    if not operation.produces:
        return None
    if wanted is None:
        raise InvalidArgument(f"{operation.tag} produces a {operation.produces}; name the object with Operation.Output")
    bucket = tx.buckets.get(wanted.bucket) if wanted.bucket else own
    if bucket is None:
        raise InvalidArgument(f"Output.Bucket is {wanted.bucket!r}, which does not exist here")
    if wanted.region not in ("", bucket.region):
        raise InvalidArgument(f"Output.Region is {wanted.region!r}; the bucket {bucket.name} is in {bucket.region}")
    return JobOutput(bucket.name, bucket.region, wanted.key)


def finish_draft(draft: Job, operation: Operation, now: datetime, source: JobInput, batch_id: str = "") -> Job:
    """A draft as the job of one input. Raises InvalidArgument, KeyTooLong for the key of its output."""
    job_id = new_job_id(SERVICES[operation.service].letter, now)
    output = draft.output
    if output is not None:
        extension = operation.extension(operation.params_value(draft.params))
        name = source.object_key or urlsplit(source.url).path
        key = expand_key(output.key, name, job_id=job_id, extension=extension, batch_id=batch_id)
        check_key(key)
        output = replace(output, key=key)
    return replace(draft, id=job_id, input=source, created_at=now, output=output)


def _find_queue(tx: Transaction, bucket: str, request: JobRequest, operation: Operation, limits: QueueLimits) -> Queue:
    """The queue that the request names, else its service's default one, made when first needed."""
    if not request.queue_id:
        return ensure_queue(tx, bucket, operation.service, limits)
    queue = tx.queues.get(request.queue_id)
    if queue is None or queue.bucket != bucket:
        raise QueueNotFound(f"the queue {request.queue_id} does not exist in this bucket")
    if queue.service != operation.service:
        wanted = SERVICES[operation.service].queue_path
        raise InvalidArgument(
            f"QueueId is {queue.id}, a queue of {queue.category}; {operation.tag} jobs need one of /{wanted}"
        )
    return queue


def check_room(tx: Transaction, queue: Queue, taken: int) -> None:
    """Raises QueuePaused or QueueSaturated unless one more job may come, behind `taken` of the same transaction."""
    if queue.state is QueueState.PAUSED:
        raise QueuePaused(f"the queue {queue.id} is paused")
    if tx.queues.waiting(queue.id) + taken >= queue.max_size:
        raise QueueSaturated(f"the queue {queue.id} is full: {queue.max_size} jobs wait in it")


def cancel_job(
    tx: Transaction,
    bucket: str,
    job_id: str,
    operations: Mapping[str, Operation],
    sees: Callable[[Job], bool] = lambda job: True,
) -> Progress:
    """Wire: our choice – a job that runs or has ended answers 400 naming its state; a cancelled one 200 again."""
    job = next(iter(tx.jobs.get([job_id])), None)
    if job is None or job.bucket != bucket or not sees(job):
        raise JobNotFound(f"the job {job_id} does not exist in this bucket")
    if job.state is JobState.CANCEL:
        return Progress()
    runs = lock_runs(tx, [job])
    if tx.jobs.cancel(job_id):
        return advance_runs(tx, runs, [replace(job, state=JobState.CANCEL)], operations)
    raise InvalidArgument(f"the job {job_id} is {job.state}; only a waiting job can be cancelled")


def _makeable(tx: Transaction, outcome: Outcome) -> Outcome:
    """The outcome, or a failure when the bucket of the object that was made has gone since."""
    if outcome.made is None or tx.buckets.hold(outcome.made.bucket) is not None:
        return outcome
    refused = OutputRefused(f"the bucket {outcome.made.bucket} does not exist")
    return Outcome(outcome.lease, None, refused.code, refused.message, source_etag=outcome.source_etag)


def release_jobs(tx: Transaction, leases: Sequence[Lease], operations: Mapping[str, Operation]) -> list[Job]:
    """Give jobs back unrun; those of runs that were cancelled meanwhile are cancelled with them."""
    runs = lock_runs(tx, [lease.job for lease in leases])
    jobs = tx.jobs.release(leases)
    advance_runs(tx, runs, jobs, operations)
    return jobs


@dataclass(frozen=True, slots=True)
class Ends:
    """What became of runs: their jobs as they now are, new deliveries, and the jobs of workflows' next steps."""

    jobs: list[Job] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    started: list[Job] = field(default_factory=list)


def finish_jobs(tx: Transaction, outcomes: Sequence[Outcome], operations: Mapping[str, Operation]) -> Ends:
    """End jobs, or put them back; deliveries and the next steps of workflows are part of the same transaction.

    An outcome whose lease was lost changes nothing and is left out.
    """
    ends = Ends()
    find_queue = cache(tx.queues.get)
    runs = lock_runs(tx, [outcome.lease.job for outcome in outcomes])
    for outcome in outcomes:
        job = tx.jobs.finish(_makeable(tx, outcome))
        if job is None:
            continue
        run = run_of(job, runs)
        if outcome.made and job.state is JobState.SUCCESS:
            lineage = (*run.source.lineage, run.workflow_id) if run else ()
            put_written(tx, outcome.made, Cause(request_id=job.id, lineage=lineage))
        ends.jobs.append(job)
        if job.state.is_final:
            delivery = plan_delivery(job, find_queue, operations[job.tag], tx.now, run)
            if delivery is not None:
                ends.deliveries.append(delivery)
    tx.deliveries.insert(*ends.deliveries)
    if runs:
        progress = advance_runs(tx, runs, ends.jobs, operations)
        ends.started.extend(progress.jobs)
        ends.deliveries.extend(progress.deliveries)
    return ends
