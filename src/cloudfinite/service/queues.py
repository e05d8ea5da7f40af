"""Queues from the client's side: list and update; one per service and bucket, made when first looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cloudfinite.domain.ids import new_queue_id
from cloudfinite.domain.queue import SERVICES, Queue, QueueLoad, QueueState
from cloudfinite.errors import NoSuchBucket, QueueNotFound
from cloudfinite.ports import Store, Transaction


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What a new queue starts with: jobs that may wait in it, and that may run at once over all machines."""

    max_size: int = 1_000_000
    max_concurrent: int = 1_000


class QueueService:
    """What clients do with queues.

    `check_url` raises InvalidArgument for a URL that is never called. `on_change` wakes the dispatcher: a queue may run
    again.
    """

    def __init__(
        self,
        store: Store,
        limits: QueueLimits,
        check_url: Callable[[str], object],
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._limits = limits
        self._check_url = check_url
        self._on_change = on_change

    async def list_queues(
        self, bucket: str, service: str, *, ids: Sequence[str] = (), state: QueueState | None = None
    ) -> tuple[list[Queue], list[str]]:
        """(queues, those of `ids` that do not exist)."""
        present = await self._store.read(lambda tx: tx.queues.of_bucket(bucket, service))
        if not present:
            present = [await self._store.run(ensure_queue, bucket, service, self._limits)]
        known = {queue.id for queue in present}
        found = [queue for queue in present if (not ids or queue.id in ids) and (state is None or queue.state is state)]
        return found, [queue_id for queue_id in ids if queue_id not in known]

    async def update_queue(
        self, bucket: str, service: str, queue_id: str, change: Callable[[Queue, datetime], Queue]
    ) -> Queue:
        """Apply `change` (queue, now) to the queue as it is; raises QueueNotFound, and what `change` raises."""

        def checked(queue: Queue, now: datetime) -> Queue:
            changed = change(queue, now)
            if changed.notify.is_on and changed.notify.url != queue.notify.url:
                self._check_url(changed.notify.url)
            return changed

        queue = await self._store.run(update_queue, bucket, service, queue_id, checked)
        self._on_change()
        return queue

    # --- for operators, who see all buckets

    async def list_all(self, bucket: str, after: tuple[str, str], limit: int) -> list[tuple[Queue, QueueLoad]]:
        """A page of those that exist, by bucket and service; "" is all buckets."""
        return await self._store.read(select_queues, bucket, after, limit)

    async def find_queue(self, queue_id: str) -> tuple[Queue, QueueLoad]:
        """Raises QueueNotFound."""
        return await self._store.read(find_queue, queue_id)

    async def change_queue(self, queue_id: str, change: Callable[[Queue, datetime], Queue]) -> tuple[Queue, QueueLoad]:
        """Apply `change` (queue, now), limits included. Raises QueueNotFound, and what `change` raises."""
        found = await self._store.run(change_queue, queue_id, change)
        self._on_change()
        return found


def select_queues(tx: Transaction, bucket: str, after: tuple[str, str], limit: int) -> list[tuple[Queue, QueueLoad]]:
    queues = tx.queues.select(bucket, after, limit)
    loads = tx.queues.loads([queue.id for queue in queues])
    return [(queue, loads[queue.id]) for queue in queues]


def find_queue(tx: Transaction, queue_id: str) -> tuple[Queue, QueueLoad]:
    queue = tx.queues.get(queue_id)
    if queue is None:
        raise QueueNotFound(f"the queue {queue_id} does not exist")
    return queue, tx.queues.loads([queue_id])[queue_id]


def change_queue(tx: Transaction, queue_id: str, change: Callable[[Queue, datetime], Queue]) -> tuple[Queue, QueueLoad]:
    queue, load = find_queue(tx, queue_id)
    changed = change(queue, tx.now)
    tx.queues.replace(changed)
    return changed, load


def update_queue(
    tx: Transaction, bucket: str, service: str, queue_id: str, change: Callable[[Queue, datetime], Queue]
) -> Queue:
    queue = tx.queues.get(queue_id)
    if queue is None or queue.bucket != bucket or queue.service != service:
        raise QueueNotFound(f"the queue {queue_id} does not exist in this bucket")
    changed = change(queue, tx.now)
    tx.queues.replace(changed)
    return changed


def ensure_queue(tx: Transaction, bucket: str, service: str, limits: QueueLimits) -> Queue:
    """The bucket's queue of that service, made when first needed. Raises NoSuchBucket."""
    present = tx.queues.of_bucket(bucket, service)
    if present:
        return present[0]
    if tx.buckets.get(bucket) is None:
        raise NoSuchBucket(f"the bucket {bucket} does not exist here")
    return tx.queues.ensure(
        Queue(
            id=new_queue_id(),
            bucket=bucket,
            service=service,
            name=SERVICES[service].queue_name,
            created_at=tx.now,
            updated_at=tx.now,
            max_size=limits.max_size,
            max_concurrent=limits.max_concurrent,
        )
    )
