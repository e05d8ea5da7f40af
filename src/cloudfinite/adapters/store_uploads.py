"""The SQL of multipart uploads and their parts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, insert, literal, select, tuple_

from cloudfinite.adapters.schema_base import from_us, to_us
from cloudfinite.adapters.schema_objects import garbage, part, upload
from cloudfinite.adapters.sql import SqlUnit
from cloudfinite.adapters.store_listing import Bounds, list_entries
from cloudfinite.domain.objects import ListQuery, Part, Upload, UploadPage


class SqlUploadRows:
    """`ports.UploadRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def create(self, item: Upload) -> None:
        values = {
            "id": item.id,
            "bucket": item.bucket,
            "key": item.key.encode(),
            "headers": json.dumps(dict(item.headers)),
            "created_us": to_us(item.created_at),
        }
        self._unit.connection.execute(insert(upload).values(values))

    def get(self, upload_id: str) -> Upload | None:
        row = self._unit.connection.execute(select(upload).where(upload.c.id == upload_id)).one_or_none()
        return _upload(row) if row else None

    def hold(self, upload_id: str) -> Upload | None:
        query = select(upload).where(upload.c.id == upload_id).with_for_update()
        row = self._unit.connection.execute(query).one_or_none()
        return _upload(row) if row else None

    def select(self, bucket: str, wanted: ListQuery) -> UploadPage:
        def fetch(bounds: Bounds, limit: int) -> Sequence[Row[Any]]:
            query = (
                select(upload)
                .where(
                    upload.c.bucket == bucket,
                    tuple_(upload.c.key, upload.c.id) > tuple_(literal(bounds.low), literal(bounds.low_id)),
                    upload.c.key < bounds.high,
                )
                .order_by(upload.c.key, upload.c.id)
                .limit(limit)
            )
            return list(self._unit.connection.execute(query))

        entries, is_truncated = list_entries(wanted, fetch, id_column="id")
        last = entries[-1] if is_truncated else None
        return UploadPage(
            uploads=tuple(_upload(entry.row) for entry in entries if entry.row is not None),
            common_prefixes=tuple(entry.name.decode() for entry in entries if entry.row is None),
            next_marker=last.name.decode() if last else "",
            next_marker_id=last.row.id if last and last.row is not None else "",
        )

    def put_part(self, item: Part) -> None:
        db = self._unit.connection
        values = {
            "upload_id": item.upload_id,
            "number": item.number,
            "file_id": item.file_id,
            "size_bytes": item.size_bytes,
            "etag": item.etag,
            "crc64": str(item.crc64),
            "modified_us": to_us(item.modified_at),
        }
        is_this = (part.c.upload_id == item.upload_id) & (part.c.number == item.number)
        self._discard(is_this)
        db.execute(insert(part).values(values))

    def parts(self, upload_id: str, after: int = 0, limit: int | None = None) -> list[Part]:
        query = (
            select(part)
            .where(part.c.upload_id == upload_id, part.c.number > after)
            .order_by(part.c.number)
            .limit(limit)
        )
        return [_part(row) for row in self._unit.connection.execute(query)]

    def last_number(self, upload_id: str) -> int:
        query = select(func.max(part.c.number)).where(part.c.upload_id == upload_id)
        return self._unit.connection.execute(query).scalar() or 0

    def complete(self, upload_id: str, numbers: Sequence[int]) -> None:
        kept = set(numbers)
        for item in self.parts(upload_id):
            if item.number not in kept:
                self._discard((part.c.upload_id == upload_id) & (part.c.number == item.number))
        self._unit.connection.execute(delete(upload).where(upload.c.id == upload_id))

    def abort(self, upload_id: str) -> None:
        self.discard_parts(upload_id)
        self._unit.connection.execute(delete(upload).where(upload.c.id == upload_id))

    def discard_parts(self, upload_id: str) -> None:
        """Turn the files of all its parts into garbage: of an upload that ends, or of an object it became."""
        self._discard(part.c.upload_id == upload_id)

    def _discard(self, condition: ColumnElement[bool]) -> None:
        db = self._unit.connection
        now = literal(to_us(self._unit.now), garbage.c.since_us.type)
        db.execute(insert(garbage).from_select(["file_id", "since_us"], select(part.c.file_id, now).where(condition)))
        db.execute(delete(part).where(condition))


def _upload(row: Row[Any]) -> Upload:
    return Upload(
        id=row.id,
        bucket=row.bucket,
        key=bytes(row.key).decode(),
        created_at=from_us(row.created_us),
        headers=json.loads(row.headers),
    )


def _part(row: Row[Any]) -> Part:
    return Part(
        upload_id=row.upload_id,
        number=row.number,
        file_id=row.file_id,
        size_bytes=row.size_bytes,
        etag=row.etag,
        crc64=int(row.crc64),
        modified_at=from_us(row.modified_us),
    )
