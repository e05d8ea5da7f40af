"""The SQL of the per-minute counters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.dialects import postgresql, sqlite

from cloudfinite.adapters.schema import stat
from cloudfinite.adapters.schema_base import from_us, to_us
from cloudfinite.adapters.sql import SqlUnit, is_postgres
from cloudfinite.domain.stats import Counts, StatKey


class SqlStatRows:
    """`ports.StatRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def add(self, counts: Mapping[StatKey, Counts]) -> None:
        db = self._unit.connection
        dialect = postgresql if is_postgres(db) else sqlite
        # In one order everywhere: two processes that add to the same rows never wait for each other crosswise.
        for key in sorted(counts, key=lambda key: (key.minute_at, key.bucket, key.queue_id, key.tag)):
            numbers = asdict(counts[key])
            statement = dialect.insert(stat).values(
                minute_us=to_us(key.minute_at), bucket=key.bucket, queue_id=key.queue_id, tag=key.tag, **numbers
            )
            added = {name: stat.c[name] + statement.excluded[name] for name in numbers}
            db.execute(statement.on_conflict_do_update(index_elements=list(stat.primary_key), set_=added))

    def select(self, start: datetime, end: datetime, bucket: str, limit: int) -> list[tuple[StatKey, Counts]]:
        query = select(stat).where(stat.c.minute_us >= to_us(start), stat.c.minute_us < to_us(end))
        if bucket:
            query = query.where(stat.c.bucket == bucket)
        rows = self._unit.connection.execute(query.order_by(*stat.primary_key).limit(limit))
        return [
            (
                StatKey(from_us(row.minute_us), row.bucket, row.queue_id, row.tag),
                Counts(row.submitted, row.succeeded, row.failed, row.waited_ms, row.ran_ms),
            )
            for row in rows
        ]

    def purge(self, before: datetime) -> int:
        return int(self._unit.connection.execute(delete(stat).where(stat.c.minute_us < to_us(before))).rowcount)
