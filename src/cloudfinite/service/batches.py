"""Batch jobs from the client's side: create, describe, list, cancel, delete.

Functions whose first argument is a transaction are whole transactions, run by `Store.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cloudfinite.domain.batch import Batch, BatchFilter, BatchKind, BatchRequest
from cloudfinite.domain.ids import new_batch_id
from cloudfinite.domain.job import JobState
from cloudfinite.errors import BatchNotFound, InvalidArgument, NoSuchBucket
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.deliveries import NO_CALLBACK
from cloudfinite.service.jobs import draft_job
from cloudfinite.service.queues import QueueLimits
from cloudfinite.service.workflows import get_workflow
from cloudfinite.wire.batches import read_operation
from cloudfinite.wire.operation import Operation


@dataclass(frozen=True, slots=True)
class BatchPage:
    """One page of batches; `next_position` is where the following page starts, None on the last."""

    batches: list[Batch]
    next_position: tuple[Batch, int] | None


class BatchService:
    """What clients do with batches. `check_url` raises InvalidArgument; `on_created` wakes whoever runs batches."""

    def __init__(
        self,
        store: Store,
        operations: Mapping[str, Operation],
        limits: QueueLimits,
        check_url: Callable[[str], object],
        on_created: Callable[[], None],
    ) -> None:
        self._store = store
        self._operations = operations
        self._limits = limits
        self._check_url = check_url
        self._on_created = on_created

    async def create_batch(self, bucket: str, wanted: BatchRequest) -> Batch:
        """When this returns, the batch goes on whatever happens.

        Raises NoSuchBucket, WorkflowNotFound, and what a submission of its job would raise, room in the queue apart.
        """
        if wanted.kind is BatchKind.JOB:
            url = read_operation(wanted.operation, self._operations).callback.url
            if url and url.lower() != NO_CALLBACK:
                self._check_url(url)
        batch = await self._store.run(create_batch, bucket, wanted, self._operations, self._limits)
        self._on_created()
        return batch

    async def find_batch(self, bucket: str, batch_id: str) -> Batch:
        """Raises BatchNotFound."""
        return await self._store.read(find_batch, bucket, batch_id)

    async def list_batches(self, bucket: str, wanted: BatchFilter) -> BatchPage:
        # One more than asked tells whether a page follows.
        rows = await self._store.read(lambda tx: tx.batches.select(bucket, replace(wanted, size=wanted.size + 1)))
        page = rows[: wanted.size]
        return BatchPage([batch for batch, _ in page], page[-1] if len(rows) > wanted.size else None)

    async def cancel_batch(self, bucket: str, batch_id: str) -> None:
        """Make no more jobs; those that are made stay. Again is harmless. Raises BatchNotFound, InvalidArgument."""
        await self._store.run(cancel_batch, bucket, batch_id)

    async def delete_batch(self, bucket: str, batch_id: str) -> None:
        """Forget a batch that has ended. Raises BatchNotFound, or InvalidArgument while it goes on."""
        await self._store.run(delete_batch, bucket, batch_id)


def create_batch(
    tx: Transaction,
    bucket_name: str,
    wanted: BatchRequest,
    operations: Mapping[str, Operation],
    limits: QueueLimits,
) -> Batch:
    bucket = tx.buckets.get(bucket_name)
    if bucket is None:
        raise NoSuchBucket(f"the bucket {bucket_name} does not exist here")
    for workflow_id in wanted.workflow_ids:
        get_workflow(tx, bucket.name, workflow_id)
    if wanted.kind is BatchKind.JOB:
        draft_job(tx, bucket, read_operation(wanted.operation, operations), operations, limits)
    batch = Batch(
        id=new_batch_id(tx.now),
        bucket=bucket.name,
        name=wanted.name,
        kind=wanted.kind,
        input=wanted.input,
        operation=wanted.operation,
        created_at=tx.now,
        interval=wanted.interval,
        workflow_ids=wanted.workflow_ids,
    )
    tx.batches.insert(batch)
    return batch


def find_batch(tx: Transaction, bucket: str, batch_id: str) -> Batch:
    return _of_bucket(tx.batches.get(batch_id), bucket, batch_id)


def _of_bucket(batch: Batch | None, bucket: str, batch_id: str) -> Batch:
    if batch is None or batch.bucket != bucket:
        raise BatchNotFound(f"the batch job {batch_id} does not exist in this bucket")
    return batch


def cancel_batch(tx: Transaction, bucket: str, batch_id: str) -> None:
    batch = _of_bucket(tx.batches.lock(batch_id), bucket, batch_id)
    if batch.state is JobState.CANCEL:
        return
    if batch.state.is_final:
        raise InvalidArgument(f"the batch job {batch_id} is {batch.state}; only one that goes on can be cancelled")
    tx.batches.replace(replace(batch, state=JobState.CANCEL, ended_at=tx.now, held=""))


def delete_batch(tx: Transaction, bucket: str, batch_id: str) -> None:
    """Wire: our choice – no page deletes a batch; cos-python-sdk-v5 calls its cancellation so."""
    batch = _of_bucket(tx.batches.lock(batch_id), bucket, batch_id)
    if not batch.state.is_final:
        raise InvalidArgument(f"the batch job {batch_id} is {batch.state}; cancel it first")
    tx.batches.delete(batch_id)
