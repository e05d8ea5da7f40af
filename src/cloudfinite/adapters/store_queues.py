"""The SQL of queues and templates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row, delete, func, insert, select, text, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from cloudfinite.adapters.schema import job, queue, queue_lock, template
from cloudfinite.adapters.schema_base import from_us, to_us
from cloudfinite.adapters.sql import SqlUnit, is_postgres
from cloudfinite.domain.job import CallbackFormat
from cloudfinite.domain.queue import Notify, Queue, QueueLoad, QueueState
from cloudfinite.domain.template import Template
from cloudfinite.errors import TemplateNameDuplicate

_QUEUE = text("SELECT * FROM queue WHERE id = :id")
_OF_BUCKET = text("SELECT * FROM queue WHERE bucket = :bucket ORDER BY created_us, id")
_OF_SERVICE = text("SELECT * FROM queue WHERE bucket = :bucket AND service = :service")
_WAITING = text("SELECT waiting FROM queue WHERE id = :id")


class SqlQueueRows:
    """`ports.QueueRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def ensure(self, item: Queue) -> Queue:
        db = self._unit.connection
        dialect = postgresql if is_postgres(db) else sqlite
        statement = dialect.insert(queue).values(_queue_values(item)).on_conflict_do_nothing()
        # A returned row tells; PostgreSQL's rowcount is 1 even where nothing was inserted.
        if db.execute(statement.returning(queue.c.id)).scalar() is not None:
            db.execute(insert(queue_lock).values(id=item.id))
        return self.of_bucket(item.bucket, item.service)[0]

    def get(self, queue_id: str) -> Queue | None:
        row = self._unit.connection.execute(_QUEUE, {"id": queue_id}).one_or_none()
        return _queue(row) if row else None

    def of_bucket(self, bucket: str, service: str | None = None) -> list[Queue]:
        query = _OF_SERVICE if service else _OF_BUCKET
        values = {"bucket": bucket} | ({"service": service} if service else {})
        return [_queue(row) for row in self._unit.connection.execute(query, values)]

    def replace(self, item: Queue) -> None:
        self._unit.connection.execute(update(queue).where(queue.c.id == item.id).values(_queue_values(item)))

    def waiting(self, queue_id: str) -> int:
        return self._unit.connection.execute(_WAITING, {"id": queue_id}).scalar() or 0

    def select(self, bucket: str, after: tuple[str, str], limit: int) -> list[Queue]:
        query = select(queue).where(tuple_(queue.c.bucket, queue.c.service) > after)
        if bucket:
            query = query.where(queue.c.bucket == bucket)
        rows = self._unit.connection.execute(query.order_by(queue.c.bucket, queue.c.service).limit(limit))
        return [_queue(row) for row in rows]

    def loads(self, queue_ids: Sequence[str]) -> Mapping[str, QueueLoad]:
        db = self._unit.connection
        # The state is written into the text: a bound one would hide the index of the running jobs from the planner.
        counted = db.execute(
            select(job.c.queue_id, func.count().label("number"))
            .where(job.c.state == text("'Running'"), job.c.queue_id.in_(queue_ids))
            .group_by(job.c.queue_id)
        )
        running = {row.queue_id: row.number for row in counted}
        rows = db.execute(select(queue.c.id, queue.c.waiting).where(queue.c.id.in_(queue_ids)))
        return {row.id: QueueLoad(row.waiting, running.get(row.id, 0)) for row in rows}


def _queue_values(item: Queue) -> dict[str, Any]:
    return {
        "id": item.id,
        "bucket": item.bucket,
        "service": item.service,
        "name": item.name,
        "state": item.state.value,
        "notify": json.dumps(asdict(item.notify)),
        "max_size": item.max_size,
        "max_concurrent": item.max_concurrent,
        "created_us": to_us(item.created_at),
        "updated_us": to_us(item.updated_at),
    }


def _queue(row: Row[Any]) -> Queue:
    notify = json.loads(row.notify)
    return Queue(
        id=row.id,
        bucket=row.bucket,
        service=row.service,
        name=row.name,
        created_at=from_us(row.created_us),
        updated_at=from_us(row.updated_us),
        state=QueueState(row.state),
        notify=Notify(
            is_on=notify["is_on"],
            url=notify["url"],
            events=tuple(notify["events"]),
            format=CallbackFormat(notify["format"]),
            type=notify["type"],
        ),
        max_size=row.max_size,
        max_concurrent=row.max_concurrent,
    )


class SqlTemplateRows:
    """`ports.TemplateRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def insert(self, item: Template) -> None:
        self._write(insert(template).values(_template_values(item)), item.name)

    def replace(self, item: Template) -> None:
        self._write(update(template).where(template.c.id == item.id).values(_template_values(item)), item.name)

    def _write(self, statement: Any, name: str) -> None:
        try:
            # A savepoint of its own: PostgreSQL ends the whole transaction at a failed statement.
            with self._unit.connection.begin_nested():
                self._unit.connection.execute(statement)
        except IntegrityError as exc:
            raise TemplateNameDuplicate(f"this bucket already has a template named {name!r}") from exc

    def get(self, bucket: str, template_id: str) -> Template | None:
        query = select(template).where(template.c.bucket == bucket, template.c.id == template_id)
        row = self._unit.connection.execute(query).one_or_none()
        return _template(row) if row else None

    def exists(self, template_id: str) -> bool:
        query = select(template.c.id).where(template.c.id == template_id)
        return self._unit.connection.execute(query).scalar() is not None

    def select(self, bucket: str, *, tag: str = "", name_prefix: str = "", ids: Sequence[str] = ()) -> list[Template]:
        query = select(template).where(template.c.bucket == bucket).order_by(template.c.created_us, template.c.id)
        if tag:
            query = query.where(template.c.tag == tag)
        if name_prefix:
            query = query.where(template.c.name.startswith(name_prefix, autoescape=True))
        if ids:
            query = query.where(template.c.id.in_(ids))
        return [_template(row) for row in self._unit.connection.execute(query)]

    def delete(self, bucket: str, template_id: str) -> bool:
        statement = delete(template).where(template.c.bucket == bucket, template.c.id == template_id)
        return bool(self._unit.connection.execute(statement).rowcount)


def _template_values(item: Template) -> dict[str, Any]:
    return {
        "id": item.id,
        "bucket": item.bucket,
        "tag": item.tag,
        "name": item.name,
        "params": json.dumps(item.params),
        "created_us": to_us(item.created_at),
        "updated_us": to_us(item.updated_at),
    }


def _template(row: Row[Any]) -> Template:
    return Template(
        id=row.id,
        bucket=row.bucket,
        tag=row.tag,
        name=row.name,
        params=json.loads(row.params),
        created_at=from_us(row.created_us),
        updated_at=from_us(row.updated_us),
    )
