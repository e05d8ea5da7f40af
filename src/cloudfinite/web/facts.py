"""What the store knows that decides between an API call and an object of the same path."""

from __future__ import annotations

from cloudfinite.domain.queue import SERVICES
from cloudfinite.domain.workflow import WorkflowFilter
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.templates import OFFICIAL

_JOB_PATHS = frozenset(service.jobs_path for service in SERVICES.values())
_QUEUE_PATHS = frozenset(service.queue_path for service in SERVICES.values())


class StoreFacts:
    """`web.routes.Facts` from the store."""

    def __init__(self, store: Store, objects: ObjectService) -> None:
        self._store = store
        self._objects = objects

    async def object_exists(self, bucket: str, key: str, /) -> bool:
        return await self._objects.object_exists(bucket, key)

    async def id_is_ours(self, segment: str, item_id: str, /) -> bool:
        return await self._store.read(_id_is_ours, segment, item_id)


def _id_is_ours(tx: Transaction, segment: str, item_id: str) -> bool:
    if segment in _JOB_PATHS:
        return bool(tx.jobs.get([item_id]))
    if segment in _QUEUE_PATHS:
        return tx.queues.get(item_id) is not None
    if segment == "workflow":
        return bool(tx.workflows.select("", WorkflowFilter(ids=(item_id,)), 0, 1)[0])
    if segment == "workflowexecution":
        return tx.executions.get(item_id) is not None
    if segment == "inventorytriggerjob":
        return tx.batches.get(item_id) is not None
    return segment == "template" and (item_id in OFFICIAL or tx.templates.exists(item_id))
