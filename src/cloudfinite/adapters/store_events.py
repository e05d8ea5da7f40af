"""The SQL of object events: an outbox between the store of objects and what their arrival sets off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, select, text, update

from cloudfinite.adapters.schema_base import from_us, to_us
from cloudfinite.adapters.schema_objects import event
from cloudfinite.adapters.sql import SqlUnit
from cloudfinite.domain.events import ObjectEvent

_INSERT = text(
    "INSERT INTO event (id, name, bucket, key, size_bytes, etag, request_id, headers, lineage, created_us) "
    "VALUES (:id, :name, :bucket, :key, :size_bytes, :etag, :request_id, :headers, :lineage, :created_us) "
    "ON CONFLICT (id) DO NOTHING"
)
_IS_UNDONE = event.c.done_us.is_(None)
# SKIP LOCKED: several processes take side by side; SQLite has one writer anyway.
_TAKE = select(event).where(_IS_UNDONE).order_by(event.c.seq).limit(bindparam("rows")).with_for_update(skip_locked=True)


class SqlEventRows:
    """`ports.EventRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def insert(self, item: ObjectEvent) -> bool:
        values = {
            "id": item.id,
            "name": item.name,
            "bucket": item.bucket,
            "key": item.key.encode(),
            "size_bytes": item.size_bytes,
            "etag": item.etag,
            "request_id": item.request_id,
            "headers": json.dumps(dict(item.headers)),
            "lineage": json.dumps(item.lineage) if item.lineage else "",
            "created_us": to_us(item.created_at),
        }
        return bool(self._unit.connection.execute(_INSERT, values).rowcount)

    def take(self, limit: int) -> list[ObjectEvent]:
        return [_event(row) for row in self._unit.connection.execute(_TAKE, {"rows": limit})]

    def finish(self, ids: Sequence[str]) -> None:
        done = update(event).where(event.c.id.in_(ids), _IS_UNDONE).values(done_us=to_us(self._unit.now))
        self._unit.connection.execute(done)

    def purge(self, before: datetime, limit: int) -> int:
        old = select(event.c.seq).where(event.c.done_us < to_us(before)).order_by(event.c.done_us).limit(limit)
        return int(self._unit.connection.execute(delete(event).where(event.c.seq.in_(old))).rowcount)


def _event(row: Any) -> ObjectEvent:
    return ObjectEvent(
        id=row.id,
        name=row.name,
        bucket=row.bucket,
        key=bytes(row.key).decode(),
        size_bytes=row.size_bytes,
        created_at=from_us(row.created_us),
        etag=row.etag,
        request_id=row.request_id,
        headers=json.loads(row.headers),
        lineage=tuple(json.loads(row.lineage)) if row.lineage else (),
    )
