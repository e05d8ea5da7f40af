"""Jobs from the client's side: submit, describe, list, cancel; and the one way a job ends.

Functions whose first argument is a transaction are whole transactions, run by `Store.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cloudfinite.domain.delivery import Delivery
from cloudfinite.domain.ids import new_job_id
from cloudfinite.domain.job import Job, JobFilter, JobRequest, JobState, Outcome
from cloudfinite.domain.queue import SERVICES, Queue, QueueState
from cloudfinite.errors import (
    InvalidArgument,
    JobNotFound,
    QueueNotFound,
    QueuePaused,
    QueueSaturated,
    SourceNotFound,
)
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.deliveries import NO_CALLBACK, plan_delivery
from cloudfinite.service.openings import check_open
from cloudfinite.service.queues import QueueLimits, ensure_queue
from cloudfinite.service.templates import find_template
from cloudfinite.wire.operation import Operation


@dataclass(frozen=True, slots=True)
class JobPage:
    """One page of jobs; `next_position` is where the following page starts, None on the last."""

    jobs: list[Job]
    next_position: tuple[Job, int] | None


class JobService:
    """What clients do with jobs.

    `check_url` raises InvalidArgument for a URL that is never called. `on_submitted` is told of jobs once they are
    durable.
    """

    def __init__(
        self,
        store: Store,
        operations: Mapping[str, Operation],
        limits: QueueLimits,
        check_url: Callable[[str], object],
        on_submitted: Callable[[Sequence[Job]], None],
    ) -> None:
        self._store = store
        self._operations = operations
        self._limits = limits
        self._check_url = check_url
        self._on_submitted = on_submitted

    async def submit_jobs(self, bucket: str, requests: Sequence[JobRequest]) -> list[Job]:
        """Accept all or none. When this returns, the jobs survive anything.

        Raises ServiceClosed, QueuePaused, QueueSaturated, QueueNotFound, TemplateNotFound, SourceNotFound (the bucket).
        """
        for url in {url for request in requests for url in (request.callback.url, request.input.url)}:
            if url and url.lower() != NO_CALLBACK:
                self._check_url(url)
        jobs = await self._store.run(submit_jobs, bucket, requests, self._operations, self._limits)
        self._on_submitted(jobs)
        return jobs

    async def describe_jobs(self, bucket: str, ids: Sequence[str]) -> tuple[list[Job], list[str]]:
        """(those of this bucket, ids that it does not have), in the order asked for."""
        jobs = await self._store.read(lambda tx: tx.jobs.get(ids))
        found = {job.id: job for job in jobs if job.bucket == bucket}
        return [found[job_id] for job_id in ids if job_id in found], [one for one in ids if one not in found]

    async def list_jobs(self, bucket: str, wanted: JobFilter) -> JobPage:
        # One more than asked tells whether a page follows.
        rows = await self._store.read(lambda tx: tx.jobs.select(bucket, replace(wanted, size=wanted.size + 1)))
        page = rows[: wanted.size]
        return JobPage([job for job, _ in page], page[-1] if len(rows) > wanted.size else None)

    async def cancel_job(self, bucket: str, job_id: str) -> None:
        """End a waiting job; again is harmless. Raises JobNotFound, or InvalidArgument naming the state."""
        await self._store.run(cancel_job, bucket, job_id)


def submit_jobs(
    tx: Transaction,
    bucket_name: str,
    requests: Sequence[JobRequest],
    operations: Mapping[str, Operation],
    limits: QueueLimits,
) -> list[Job]:
    bucket = tx.buckets.get(bucket_name)
    if bucket is None:
        raise SourceNotFound(f"the bucket {bucket_name} does not exist here")
    jobs: list[Job] = []
    for request in requests:
        operation = operations[request.tag]
        check_open(bucket, operation.service)
        queue = _find_queue(tx, bucket.name, request, operation, limits)
        check_room(tx, queue, sum(job.queue_id == queue.id for job in jobs))
        template = None
        if request.template_id:
            template = find_template(tx, bucket.name, request.template_id)
            if template.tag != request.tag:
                raise InvalidArgument(f"the template {template.id} is for the tag {template.tag}, not {request.tag}")
        params = template.params if template else request.params
        assert params is not None, "a request carries parameters or a template"
        jobs.append(
            Job(
                id=new_job_id(SERVICES[operation.service].letter, tx.now),
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
            )
        )
    tx.jobs.insert(jobs)
    return jobs


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


def cancel_job(tx: Transaction, bucket: str, job_id: str) -> None:
    """Wire: our choice – a job that runs or has ended answers 400 naming its state; a cancelled one 200 again."""
    job = next(iter(tx.jobs.get([job_id])), None)
    if job is None or job.bucket != bucket:
        raise JobNotFound(f"the job {job_id} does not exist in this bucket")
    if job.state is JobState.CANCEL or tx.jobs.cancel(job_id):
        return
    raise InvalidArgument(f"the job {job_id} is {job.state}; only a waiting job can be cancelled")


def finish_jobs(
    tx: Transaction, outcomes: Sequence[Outcome], operations: Mapping[str, Operation]
) -> tuple[list[Job], list[Delivery]]:
    """End jobs, or put them back; their deliveries are part of the same transaction.

    Returns (jobs as they now are, new deliveries). An outcome whose lease was lost changes nothing and is left out.
    """
    jobs: list[Job] = []
    deliveries: list[Delivery] = []
    for outcome in outcomes:
        job = tx.jobs.finish(outcome)
        if job is None:
            continue
        jobs.append(job)
        if job.state.is_final:
            delivery = plan_delivery(job, tx.queues.get, operations[job.tag], tx.now)
            if delivery is not None:
                tx.deliveries.insert(delivery)
                deliveries.append(delivery)
    return jobs, deliveries
