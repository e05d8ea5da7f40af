"""Events of objects that another store keeps: recorded as if they had been created here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import structlog

from cloudfinite.domain.events import ObjectEvent
from cloudfinite.errors import RequestError
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.objects import check_key
from cloudfinite.wire.notifications import RemoteCreation

log = structlog.get_logger()


class EventService:
    """`buckets` are the other stores' buckets and the one of ours that each stands for; others keep their names.

    silent: buckets of ours whose events are those that we write ourselves: told from outside too, they would be double.
    """

    def __init__(
        self,
        store: Store,
        buckets: Mapping[str, str],
        on_created: Callable[[], None],
        silent: Collection[str] = (),
    ) -> None:
        self._store = store
        self._silent = silent
        self._buckets = buckets
        self._on_created = on_created

    async def record(self, creations: Sequence[RemoteCreation]) -> int:
        """How many of them are new. One told again, of no bucket of ours, or with a key that is none is left out."""
        wanted = []
        for item in creations:
            try:
                check_key(item.key)
            except RequestError as exc:
                log.warning("event.refused", bucket=item.bucket, reason=exc.message)
                continue
            bucket = self._buckets.get(item.bucket, item.bucket)
            if bucket in self._silent:
                log.warning("event.refused", bucket=bucket, reason="tells_creations is not set for its storage")
                continue
            wanted.append((bucket, item))
        count, unknown = await self._store.run(_record, wanted)
        for bucket in unknown:
            log.warning("event.refused", bucket=bucket, reason="there is no such bucket; see the setting event_buckets")
        if count:
            self._on_created()
        return count


def _record(tx: Transaction, wanted: Sequence[tuple[str, RemoteCreation]]) -> tuple[int, list[str]]:
    names = {name for name, _ in wanted}
    known = {name for name in names if tx.buckets.get(name) is not None}
    count = sum(tx.events.insert(_event(tx, name, item)) for name, item in wanted if name in known)
    return count, sorted(names - known)


def _event(tx: Transaction, bucket: str, item: RemoteCreation) -> ObjectEvent:
    return ObjectEvent(
        id=item.id,
        name=item.creation.event_name,
        bucket=bucket,
        key=item.key,
        size_bytes=item.size_bytes,
        created_at=tx.now,
        etag=item.etag,
        request_id=item.request_id,
        headers=item.headers,
    )
