"""The SQL of buckets and objects, and of the files that await their removal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import (
    Executable,
    Integer,
    Row,
    bindparam,
    delete,
    exists,
    insert,
    literal,
    select,
    text,
    union_all,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from cloudfinite.adapters.schema_base import from_us, to_us
from cloudfinite.adapters.schema_objects import bucket as bucket_table
from cloudfinite.adapters.schema_objects import garbage, part, stored_object, upload
from cloudfinite.adapters.sql import SqlUnit, is_postgres
from cloudfinite.adapters.store_listing import Bounds, list_entries
from cloudfinite.adapters.store_uploads import SqlUploadRows
from cloudfinite.domain.cors import CorsRule
from cloudfinite.domain.objects import Acl, Bucket, ListQuery, ObjectPage, Piece, StoredObject, Switch
from cloudfinite.errors import BucketNotEmpty

# The statements of a put and a get are made once: building one takes as long as running it.
_BUCKET = select(bucket_table).where(bucket_table.c.name == bindparam("name"))
_GET_BUCKET = text("SELECT * FROM bucket WHERE name = :name")
# KEY SHARE: objects are put side by side, only the bucket's own deletion waits.
_HOLD_BUCKET = _BUCKET.with_for_update(read=True, key_share=True)
_LOCK_BUCKET = _BUCKET.with_for_update()

_IS_OBJECT = (stored_object.c.bucket == bindparam("of_bucket")) & (stored_object.c.key == bindparam("of_key"))
_OBJECT = select(stored_object).where(_IS_OBJECT)
_GET_OBJECT = text("SELECT * FROM object WHERE bucket = :of_bucket AND key = :of_key")
_HOLD_OBJECT = _OBJECT.with_for_update()
_UPDATE_OBJECT = update(stored_object).where(_IS_OBJECT)
_DELETE_OBJECT = delete(stored_object).where(_IS_OBJECT)
_OBJECT_LIST = (
    select(stored_object)
    .where(
        stored_object.c.bucket == bindparam("of_bucket"),
        stored_object.c.key >= bindparam("low"),
        stored_object.c.key < bindparam("high"),
    )
    .order_by(stored_object.c.key)
    .limit(bindparam("rows", type_=Integer()))
)

# RETURNING tells whether a row came in: SQLAlchemy's rowcount of an INSERT is -1 on PostgreSQL.
_INSERT_IF_ABSENT = {
    (table.name, is_pg): dialect.insert(table).on_conflict_do_nothing().returning(literal(True))
    for table in (bucket_table, stored_object)
    for is_pg, dialect in ((True, postgresql), (False, sqlite))
}


class SqlBucketRows:
    """`ports.BucketRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def ensure(self, item: Bucket) -> bool:
        values = {
            "name": item.name,
            "region": item.region,
            "created_us": to_us(item.created_at),
            "acl": item.acl.value,
        }
        return _insert_if_absent(self._unit, bucket_table.name, values)

    def get(self, name: str) -> Bucket | None:
        return self._one(_GET_BUCKET, name)

    def hold(self, name: str) -> Bucket | None:
        return self._one(_HOLD_BUCKET, name)

    def lock(self, name: str) -> Bucket | None:
        return self._one(_LOCK_BUCKET, name)

    def replace(self, item: Bucket) -> None:
        values = {"switches": _switches_text(item.switches), "cors": _cors_text(item.cors), "acl": item.acl.value}
        self._unit.connection.execute(update(bucket_table).where(bucket_table.c.name == item.name).values(values))

    def delete(self, name: str) -> bool:
        db = self._unit.connection
        if self._one(_LOCK_BUCKET, name) is None:
            return False
        if db.execute(select(exists().where(stored_object.c.bucket == name))).scalar():
            raise BucketNotEmpty(f"the bucket {name} still holds objects")
        uploads = SqlUploadRows(self._unit)
        for upload_id in db.execute(select(upload.c.id).where(upload.c.bucket == name)).scalars().all():
            uploads.abort(upload_id)
        db.execute(delete(bucket_table).where(bucket_table.c.name == name))
        return True

    def all(self) -> list[Bucket]:
        return [_bucket(row) for row in self._unit.connection.execute(select(bucket_table).order_by("name"))]

    def _one(self, query: Executable, name: str) -> Bucket | None:
        row = self._unit.connection.execute(query, {"name": name}).one_or_none()
        return _bucket(row) if row else None


def _bucket(row: Row[Any]) -> Bucket:
    return Bucket(
        row.name,
        row.region,
        from_us(row.created_us),
        _read_switches(row.switches),
        _read_cors(row.cors),
        Acl(row.acl),
    )


def _switches_text(switches: Mapping[str, Switch]) -> str:
    data = {name: [switch.is_on, to_us(switch.changed_at)] for name, switch in switches.items()}
    return json.dumps(data) if data else ""


def _read_switches(text: str) -> dict[str, Switch]:
    data = json.loads(text) if text else {}
    return {name: Switch(is_on, from_us(changed_us)) for name, (is_on, changed_us) in data.items()}


def _cors_text(rules: Sequence[CorsRule]) -> str:
    return json.dumps([asdict(rule) for rule in rules]) if rules else ""


def _read_cors(text: str) -> tuple[CorsRule, ...]:
    return tuple(map(_cors_rule, json.loads(text))) if text else ()


def _cors_rule(data: Mapping[str, Any]) -> CorsRule:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    return CorsRule(**values)


class SqlObjectRows:
    """`ports.ObjectRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    @cached_property
    def uploads(self) -> SqlUploadRows:
        return SqlUploadRows(self._unit)

    def put(self, item: StoredObject) -> None:
        values = _object_values(item)
        while True:  # Again when another transaction's insert, or delete, of this key came in between.
            if old := self.hold(item.bucket, item.key):
                self._unit.connection.execute(_UPDATE_OBJECT, values | _place(item.bucket, item.key))
                self._discard(old)
                return
            if _insert_if_absent(self._unit, stored_object.name, values):
                return

    def get(self, bucket: str, key: str) -> StoredObject | None:
        return self._one(_GET_OBJECT, bucket, key)

    def hold(self, bucket: str, key: str) -> StoredObject | None:
        return self._one(_HOLD_OBJECT, bucket, key)

    def _one(self, query: Executable, bucket: str, key: str) -> StoredObject | None:
        row = self._unit.connection.execute(query, _place(bucket, key)).one_or_none()
        return _object(row) if row else None

    def extend(self, item: StoredObject) -> None:
        self._unit.connection.execute(_UPDATE_OBJECT, _object_values(item) | _place(item.bucket, item.key))

    def pieces(self, item: StoredObject) -> tuple[Piece, ...]:
        if not item.is_multipart:
            return (Piece(item.file_id, item.size_bytes),)
        query = (
            select(part.c.file_id, part.c.size_bytes).where(part.c.upload_id == item.file_id).order_by(part.c.number)
        )
        return tuple(Piece(row.file_id, row.size_bytes) for row in self._unit.connection.execute(query))

    def select(self, bucket: str, wanted: ListQuery) -> ObjectPage:
        def fetch(bounds: Bounds, limit: int) -> Sequence[Row[Any]]:
            values = {"of_bucket": bucket, "low": bounds.low, "high": bounds.high, "rows": limit}
            return list(self._unit.connection.execute(_OBJECT_LIST, values))

        entries, is_truncated = list_entries(wanted, fetch)
        return ObjectPage(
            objects=tuple(_object(entry.row) for entry in entries if entry.row is not None),
            common_prefixes=tuple(entry.name.decode() for entry in entries if entry.row is None),
            next_marker=entries[-1].name.decode() if is_truncated else "",
        )

    def delete(self, bucket: str, key: str) -> bool:
        old = self.hold(bucket, key)
        if old is None:
            return False
        self._unit.connection.execute(_DELETE_OBJECT, _place(bucket, key))
        self._discard(old)
        return True

    def _discard(self, item: StoredObject) -> None:
        if item.is_multipart:
            self.uploads.discard_parts(item.file_id)
        else:
            values = {"file_id": item.file_id, "since_us": to_us(self._unit.now)}
            self._unit.connection.execute(insert(garbage).values(values))

    def file_ids(self, candidates: Sequence[str]) -> set[str]:
        columns = (stored_object.c.file_id, part.c.file_id, garbage.c.file_id)
        query = union_all(*(select(column).where(column.in_(candidates)) for column in columns))
        return set(self._unit.connection.execute(query).scalars())

    def garbage(self, before: datetime, limit: int) -> list[str]:
        query = (
            select(garbage.c.file_id)
            .where(garbage.c.since_us <= to_us(before))
            .order_by(garbage.c.since_us)
            .limit(limit)
        )
        return list(self._unit.connection.execute(query).scalars())

    def forget_garbage(self, file_ids: Sequence[str]) -> None:
        self._unit.connection.execute(delete(garbage).where(garbage.c.file_id.in_(file_ids)))


def _insert_if_absent(unit: SqlUnit, table: str, values: dict[str, Any]) -> bool:
    statement = _INSERT_IF_ABSENT[table, is_postgres(unit.connection)]
    return unit.connection.execute(statement, values).scalar() is not None


def _place(bucket: str, key: str) -> dict[str, Any]:
    return {"of_bucket": bucket, "of_key": key.encode()}


def _object_values(item: StoredObject) -> dict[str, Any]:
    return {
        "bucket": item.bucket,
        "key": item.key.encode(),
        "file_id": item.file_id,
        "is_multipart": item.is_multipart,
        "size_bytes": item.size_bytes,
        "etag": item.etag,
        "crc64": str(item.crc64),  # known of all that have rows
        "modified_us": to_us(item.modified_at),
        "headers": json.dumps(dict(item.headers)),
    }


def _object(row: Row[Any]) -> StoredObject:
    return StoredObject(
        bucket=row.bucket,
        key=bytes(row.key).decode(),
        file_id=row.file_id,
        size_bytes=row.size_bytes,
        etag=row.etag,
        crc64=int(row.crc64),
        modified_at=from_us(row.modified_us),
        headers=json.loads(row.headers),
        is_multipart=bool(row.is_multipart),
    )
