"""What the store knows that decides between an API call and an object of the same path."""

from __future__ import annotations

from cloudfinite.domain.queue import SERVICES
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.templates import OFFICIAL

_JOB_PATHS = frozenset(service.jobs_path for service in SERVICES.values())
_QUEUE_PATHS = frozenset(service.queue_path for service in SERVICES.values())


class StoreFacts:
    """`web.routes.Facts` from the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def object_exists(self, bucket: str, key: str, /) -> bool:
        return await self._store.read(_object_exists, bucket, key)

    async def id_is_ours(self, segment: str, item_id: str, /) -> bool:
        return await self._store.read(_id_is_ours, segment, item_id)


def _object_exists(tx: Transaction, bucket: str, key: str) -> bool:
    return tx.objects.get(bucket, key) is not None


def _id_is_ours(tx: Transaction, segment: str, item_id: str) -> bool:
    if segment in _JOB_PATHS:
        return bool(tx.jobs.get([item_id]))
    if segment in _QUEUE_PATHS:
        return tx.queues.get(item_id) is not None
    return segment == "template" and (item_id in OFFICIAL or tx.templates.exists(item_id))
