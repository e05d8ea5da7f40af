"""Objects that we keep ourselves: bytes in files, keys and headers in rows, each change one transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from cloudfinite.domain.crc64 import combine_crc64
from cloudfinite.domain.events import Cause, object_created
from cloudfinite.domain.objects import ListQuery, ObjectPage, Part, Piece, StoredObject, new_upload_id
from cloudfinite.errors import (
    AppendPositionWrong,
    InvalidArgument,
    NoSuchCopySource,
    NoSuchKey,
    ObjectNotAppendable,
)
from cloudfinite.ports import BytesReader, Objects, StoredBytes, Transaction
from cloudfinite.service.keepers import Place, hold_bucket, put_written, require_bucket
from cloudfinite.service.object_files import ObjectFiles

MAX_APPENDS = 10_000  # Each is a file that a reader opens.

OBJECT_TYPE = "x-cos-object-type"
_APPENDABLE = "appendable"


@dataclass(frozen=True, slots=True)
class FoundHere:
    """`keepers.FoundObject`: a row and the files that hold its bytes."""

    item: StoredObject
    _pieces: tuple[Piece, ...]
    _objects: Objects

    async def open(self, start: int, size_bytes: int) -> BytesReader:
        return await self._objects.reader(self._pieces, start, size_bytes)

    def readable(self) -> AbstractAsyncContextManager[Path]:
        return self._objects.readable(self._pieces)


class KeptHere:
    """`keepers.Keeper` of all buckets that no other storage keeps."""

    def __init__(self, files: ObjectFiles) -> None:
        self._files = files
        self._store = files.store

    async def check_writable(self, bucket: str) -> None:
        await self._store.read(require_bucket, bucket)

    async def find(self, place: Place) -> FoundHere:
        item, pieces = await self._store.read(_find, *place)
        return FoundHere(item, pieces, self._files.objects)

    def find_in(self, tx: Transaction, place: Place) -> FoundHere | None:
        """As `find`, inside a transaction of the caller's; None when there is no such object."""
        item = tx.objects.get(*place)
        return FoundHere(item, tx.objects.pieces(item), self._files.objects) if item else None

    async def select(self, bucket: str, wanted: ListQuery) -> ObjectPage:
        return await self._store.read(_list, bucket, wanted)

    async def settle(self, item: StoredObject) -> StoredObject:
        return item

    async def append(
        self, place: Place, position: int, stored: StoredBytes, headers: Mapping[str, str], cause: Cause
    ) -> StoredObject:
        return await self._files.commit([stored.file_id], _append, place, position, stored, headers, cause)

    async def check_append(self, place: Place, position: int) -> None:
        await self._store.read(_check_append, *place, position)

    async def copy(
        self,
        source: Place,
        target: Place,
        headers: Mapping[str, str] | None,
        check: Callable[[StoredObject], None],
        cause: Cause,
    ) -> StoredObject:
        item, pieces, parts = await self._store.read(_find_to_copy, *source)
        check(item)
        await self._store.read(require_bucket, target[0])
        file_ids = [await self._files.objects.copy(piece.file_id) for piece in pieces]
        copy = replace(
            item,
            bucket=target[0],
            key=target[1],
            file_id=new_upload_id() if item.is_multipart else file_ids[0],
            headers=copied_headers(item) if headers is None else headers,
        )
        copied = [
            replace(part, upload_id=copy.file_id, file_id=file_id)
            for part, file_id in zip(parts, file_ids, strict=False)
        ]
        return await self._files.commit(file_ids, put_written, copy, cause, copied)

    async def delete(self, bucket: str, key: str) -> None:
        await self._store.run(_delete, bucket, [key])

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> list[tuple[str, str, str]]:
        """All in one transaction."""
        await self._store.run(_delete, bucket, keys)
        return []


def copied_headers(item: StoredObject) -> dict[str, str]:
    """What a copy has of its source's headers: it is not appendable, however the source was made."""
    return {name: value for name, value in item.headers.items() if name != OBJECT_TYPE}


# --- transactions --------------------------------------------------------------------------------------------------


def _check_append(tx: Transaction, bucket: str, key: str, position: int) -> None:
    """Raises what `_append` would, before the bytes are taken."""
    require_bucket(tx, bucket)
    _require_length(tx.objects.get(bucket, key), position)


def _require_length(item: StoredObject | None, position: int) -> None:
    if item is not None and item.headers.get(OBJECT_TYPE) != _APPENDABLE:
        raise ObjectNotAppendable()
    size_bytes = item.size_bytes if item else 0
    if position != size_bytes:
        raise AppendPositionWrong(
            f"the position is {position}, the object has {size_bytes} bytes",
            headers=(("x-cos-next-append-position", str(size_bytes)),),
        )


def _append(
    tx: Transaction,
    place: Place,
    position: int,
    stored: StoredBytes,
    headers: Mapping[str, str],
    cause: Cause,
) -> StoredObject:
    """The object is a multipart one whose parts are what was appended."""
    bucket, key = place
    hold_bucket(tx, bucket)
    old = tx.objects.hold(bucket, key)
    _require_length(old, position)
    file_id = old.file_id if old else new_upload_id()
    number = tx.objects.uploads.last_number(file_id) + 1
    if number > MAX_APPENDS:
        raise InvalidArgument(f"the object was appended to {MAX_APPENDS} times; copy it to go on")
    digest = hashlib.md5((old.etag if old else "").encode() + stored.md5, usedforsecurity=False).hexdigest()
    item = StoredObject(
        bucket=bucket,
        key=key,
        file_id=file_id,
        size_bytes=position + stored.size_bytes,
        etag=f'"{digest}-{number}"',
        crc64=combine_crc64((old.crc64 if old else 0) or 0, stored.crc64, stored.size_bytes),
        modified_at=tx.now,
        headers=old.headers if old else {**headers, OBJECT_TYPE: _APPENDABLE},
        is_multipart=True,
    )
    part = Part(file_id, number, stored.file_id, stored.size_bytes, f'"{stored.md5.hex()}"', stored.crc64, tx.now)
    tx.objects.uploads.put_part(part)
    if old:
        tx.objects.extend(item)
    else:
        tx.objects.put(item)
    tx.events.insert(object_created(item, cause, tx.now))
    return item


def _find(tx: Transaction, bucket: str, key: str) -> tuple[StoredObject, tuple[Piece, ...]]:
    item = tx.objects.get(bucket, key)
    if item is None:
        require_bucket(tx, bucket)
        raise NoSuchKey(f"the object {key!r} does not exist")
    return item, tx.objects.pieces(item)


def _find_to_copy(tx: Transaction, bucket: str, key: str) -> tuple[StoredObject, tuple[Piece, ...], list[Part]]:
    item = tx.objects.get(bucket, key)
    if item is None:
        raise NoSuchCopySource(f"the object {key!r} of the bucket {bucket} does not exist")
    parts = tx.objects.uploads.parts(item.file_id) if item.is_multipart else []
    return item, tx.objects.pieces(item), parts


def _list(tx: Transaction, bucket: str, wanted: ListQuery) -> ObjectPage:
    require_bucket(tx, bucket)
    return tx.objects.select(bucket, wanted)


def _delete(tx: Transaction, bucket: str, keys: Sequence[str]) -> None:
    require_bucket(tx, bucket)
    for key in sorted(set(keys)):  # Two deletions of the same keys in other orders would wait for each other.
        tx.objects.delete(bucket, key)
