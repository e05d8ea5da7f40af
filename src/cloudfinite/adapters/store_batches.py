"""The SQL of batch jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, or_, select, text, update

from cloudfinite.adapters.schema_base import from_us, optional_time, optional_us, to_us
from cloudfinite.adapters.schema_batches import batch
from cloudfinite.adapters.sql import SqlUnit
from cloudfinite.adapters.store_pages import paged
from cloudfinite.domain.batch import Batch, BatchCounts, BatchFilter, BatchInput, BatchKind, TimeInterval
from cloudfinite.domain.job import JobState

# Written as the partial index has it, so that the planner knows it again.
_IS_ACTIVE = text("state IN ('Submitted', 'Running')")


class SqlBatchRows:
    """`ports.BatchRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def insert(self, item: Batch) -> None:
        self._unit.connection.execute(insert(batch).values(_values(item)))

    def get(self, batch_id: str) -> Batch | None:
        return self._one(select(batch).where(batch.c.id == batch_id))

    def lock(self, batch_id: str) -> Batch | None:
        return self._one(select(batch).where(batch.c.id == batch_id).with_for_update())

    def _one(self, query: Any) -> Batch | None:
        row = self._unit.connection.execute(query).one_or_none()
        return _batch(row) if row else None

    def replace(self, item: Batch) -> None:
        self._unit.connection.execute(update(batch).where(batch.c.id == item.id).values(_values(item)))

    def delete(self, batch_id: str) -> None:
        self._unit.connection.execute(delete(batch).where(batch.c.id == batch_id))

    def select(self, bucket: str, wanted: BatchFilter) -> list[tuple[Batch, int]]:
        query = select(batch).where(batch.c.bucket == bucket, *_conditions(wanted))
        return [(_batch(row), row.seq) for row in self._unit.connection.execute(paged(query, batch, wanted))]

    def lease(self, owner: str, lease: timedelta, limit: int) -> list[Batch]:
        now = self._unit.now
        is_free = or_(batch.c.lease_owner.is_(None), batch.c.lease_owner == owner, batch.c.lease_until_us < to_us(now))
        query = select(batch).where(_IS_ACTIVE, is_free).order_by(batch.c.seq).limit(limit)
        rows = self._unit.connection.execute(query.with_for_update(skip_locked=True)).all()
        leased = {"lease_owner": owner, "lease_until_us": to_us(now + lease)}
        ids = [row.id for row in rows]
        self._unit.connection.execute(update(batch).where(batch.c.id.in_(ids)).values(leased))
        return [_batch(row) for row in rows]

    def release(self, owner: str | None = None) -> None:
        is_held = batch.c.lease_owner.is_not(None) if owner is None else batch.c.lease_owner == owner
        self._unit.connection.execute(update(batch).where(_IS_ACTIVE, is_held).values(lease_owner=None))

    def purge(self, before: datetime, limit: int) -> int:
        old = select(batch.c.seq).where(batch.c.ended_us < to_us(before)).order_by(batch.c.ended_us).limit(limit)
        return int(self._unit.connection.execute(delete(batch).where(batch.c.seq.in_(old))).rowcount)


def _conditions(wanted: BatchFilter) -> Sequence[Any]:
    found: list[Any] = []
    if wanted.kind:
        found.append(batch.c.kind == wanted.kind.value)
    if wanted.states:
        found.append(batch.c.state.in_([state.value for state in wanted.states]))
    if wanted.workflow_id:
        found.append(batch.c.workflow_ids.contains(f",{wanted.workflow_id},", autoescape=True))
    if wanted.batch_id:
        found.append(batch.c.id == wanted.batch_id)
    if wanted.name:
        found.append(batch.c.name == wanted.name)
    return found


def _values(item: Batch) -> dict[str, Any]:
    return {
        "id": item.id,
        "bucket": item.bucket,
        "name": item.name,
        "kind": item.kind.value,
        "state": item.state.value,
        "input": json.dumps(asdict(item.input)),
        "operation": item.operation,
        "start_us": optional_us(item.interval.start),
        "end_us": optional_us(item.interval.end),
        "workflow_ids": f",{','.join(item.workflow_ids)}," if item.workflow_ids else "",
        "cursor": item.cursor,
        "found": item.counts.found,
        "started": item.counts.started,
        "skipped": item.counts.skipped,
        "held": item.held,
        "code": item.code,
        "message": item.message,
        "created_us": to_us(item.created_at),
        "started_us": optional_us(item.started_at),
        "ended_us": optional_us(item.ended_at),
    }


def _batch(row: Any) -> Batch:
    return Batch(
        id=row.id,
        bucket=row.bucket,
        name=row.name,
        kind=BatchKind(row.kind),
        input=BatchInput(**json.loads(row.input)),
        operation=row.operation,
        created_at=from_us(row.created_us),
        interval=TimeInterval(optional_time(row.start_us), optional_time(row.end_us)),
        workflow_ids=tuple(part for part in row.workflow_ids.split(",") if part),
        state=JobState(row.state),
        cursor=row.cursor,
        counts=BatchCounts(row.found, row.started, row.skipped),
        held=row.held,
        code=row.code,
        message=row.message,
        started_at=optional_time(row.started_us),
        ended_at=optional_time(row.ended_us),
    )
