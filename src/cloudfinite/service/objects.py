"""Objects: put, get, copy, list and delete them; their bytes as a job's input."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cloudfinite.domain.crc64 import combine_crc64
from cloudfinite.domain.events import Cause, Creation, object_created
from cloudfinite.domain.objects import ListQuery, ObjectPage, Part, Piece, StoredObject, new_upload_id
from cloudfinite.errors import (
    AppendPositionWrong,
    InvalidArgument,
    KeyTooLong,
    NoSuchBucket,
    NoSuchCopySource,
    NoSuchKey,
    ObjectNotAppendable,
)
from cloudfinite.ports import BytesReader, StoredBytes, Transaction
from cloudfinite.service.object_files import Body, ObjectFiles
from cloudfinite.wire.operation import LocalFile
from cloudfinite.wire.times import http_date

MAX_KEY_BYTES = 850  # Wire: COS documentation, "Object Overview".

MAX_APPENDS = 10_000  # Each is a file that a reader opens.

OBJECT_TYPE = "x-cos-object-type"
_APPENDABLE = "appendable"
_PUT = Cause()
_SET_BY_STORE = datetime.fromtimestamp(0, UTC)  # Stands where the transaction will put its own time.


class ObjectService:
    """Objects of buckets. The files of replaced and deleted ones are kept for `retain_s`: see `adapters/objects.py`."""

    def __init__(
        self, files: ObjectFiles, *, retain_s: float = 600.0, on_created: Callable[[], None] = lambda: None
    ) -> None:
        """on_created: called when the event of a new object has become durable."""
        self._files = files
        self._on_created = on_created
        self._store = files.store
        self._retain = timedelta(seconds=retain_s)

    async def put_object(
        self, bucket: str, key: str, body: Body, headers: Mapping[str, str], cause: Cause = _PUT
    ) -> StoredObject:
        """Store an object, replacing one of this key. Raises NoSuchBucket, KeyTooLong, and what `write` raises."""
        check_key(key)
        await self._store.read(require_bucket, bucket)  # before gigabytes are taken for nothing
        stored = await self._files.write(body)
        item = StoredObject(
            bucket=bucket,
            key=key,
            file_id=stored.file_id,
            size_bytes=stored.size_bytes,
            etag=f'"{stored.md5.hex()}"',
            crc64=stored.crc64,
            modified_at=_SET_BY_STORE,
            headers=headers,
        )
        item = await self._files.commit([stored.file_id], _put, item, cause)
        self._on_created()
        return item

    async def append_object(
        self, bucket: str, key: str, position: int, body: Body, headers: Mapping[str, str], request_id: str = ""
    ) -> tuple[StoredObject, StoredBytes]:
        """Make an appendable object longer, or a new one at position 0, whose `headers` are kept.

        Returns the object as it now is, and what was appended. Raises AppendPositionWrong, ObjectNotAppendable, and
        what `put_object` raises.
        """
        check_key(key)
        await self._store.read(_check_append, bucket, key, position)
        stored = await self._files.write(body)
        cause = Cause(Creation.APPEND, request_id)
        item = await self._files.commit([stored.file_id], _append, bucket, key, position, stored, headers, cause)
        self._on_created()
        return item, stored

    async def find_object(self, bucket: str, key: str) -> StoredObject:
        """Raises NoSuchKey, NoSuchBucket."""
        check_key(key)
        item, _ = await self._store.read(_find, bucket, key)
        return item

    async def locate_object(self, bucket: str, key: str) -> tuple[StoredObject, tuple[Piece, ...]]:
        """The object and where its bytes are, for `open_bytes`. Raises NoSuchKey, NoSuchBucket."""
        check_key(key)
        return await self._store.read(_find, bucket, key)

    async def open_bytes(self, pieces: Sequence[Piece], start: int, size_bytes: int) -> BytesReader:
        return await self._files.objects.reader(pieces, start, size_bytes)

    async def stream_bytes(self, pieces: Sequence[Piece], start: int, size_bytes: int) -> AsyncIterator[bytes]:
        reader = await self.open_bytes(pieces, start, size_bytes)
        try:
            while chunk := await reader.read():
                yield chunk
        finally:
            await reader.close()

    @asynccontextmanager
    async def opened_source(self, bucket: str, key: str) -> AsyncIterator[LocalFile]:
        """The object as a file that stays as it is inside the block. Raises NoSuchKey, NoSuchBucket."""
        item, pieces = await self.locate_object(bucket, key)
        async with self._files.objects.readable(pieces) as path:
            yield LocalFile(
                path,
                name=key,
                size_bytes=item.size_bytes,
                etag=item.etag,
                last_modified=http_date(item.modified_at),
            )

    async def object_exists(self, bucket: str, key: str) -> bool:
        return await self._store.read(_exists, bucket, key)

    async def list_objects(self, bucket: str, wanted: ListQuery) -> ObjectPage:
        """Raises NoSuchBucket."""
        return await self._store.read(_list, bucket, wanted)

    async def delete_object(self, bucket: str, key: str) -> bool:
        """False when there was none. Raises NoSuchBucket."""
        check_key(key)
        return bool(await self._store.run(_delete, bucket, [key]))

    async def delete_objects(self, bucket: str, keys: Sequence[str]) -> None:
        """In one transaction; those that are not there are fine. Raises NoSuchBucket."""
        await self._store.run(_delete, bucket, keys)

    async def copy_object(
        self,
        source: tuple[str, str],
        target: tuple[str, str],
        headers: Mapping[str, str] | None,
        check: Callable[[StoredObject], None],
        request_id: str = "",
    ) -> StoredObject:
        """Copy (bucket, key) to (bucket, key). `headers` replace the source's; `check` may refuse it by raising.

        Raises NoSuchCopySource, NoSuchBucket.
        """
        check_key(target[1])
        item, pieces, parts = await self._store.read(_find_to_copy, *source)
        check(item)
        await self._store.read(require_bucket, target[0])
        file_ids = [await self._files.objects.copy(piece.file_id) for piece in pieces]
        copy = replace(
            item,
            bucket=target[0],
            key=target[1],
            file_id=new_upload_id() if item.is_multipart else file_ids[0],
            headers={name: value for name, value in item.headers.items() if name != OBJECT_TYPE}
            if headers is None
            else headers,
        )
        copied = [
            replace(part, upload_id=copy.file_id, file_id=file_id)
            for part, file_id in zip(parts, file_ids, strict=False)
        ]
        copy = await self._files.commit(file_ids, _put, copy, Cause(Creation.COPY, request_id), copied)
        self._on_created()
        return copy

    async def collect_garbage(self) -> int:
        """Remove the files of objects replaced or deleted some time ago: for each minute."""
        return await self._files.collect_garbage(self._retain)

    async def collect_orphans(self) -> int:
        """Remove what crashes left behind: after the start, and each day."""
        return await self._files.collect_orphans()


def check_key(key: str) -> None:
    """Raises KeyTooLong, or InvalidArgument for an empty key or one with control characters.

    Wire: our choice – control characters are refused whole: XML cannot list them, and the vendor advises against them.
    """
    if not key:
        raise InvalidArgument("the object key is empty")
    try:
        size_bytes = len(key.encode())
    except UnicodeEncodeError as exc:
        raise InvalidArgument("the object key is not Unicode text") from exc
    if size_bytes > MAX_KEY_BYTES:
        raise KeyTooLong(f"the object key has {size_bytes} bytes; at most {MAX_KEY_BYTES} are allowed")
    if any(character < " " or character == "\x7f" for character in key):
        raise InvalidArgument(f"the object key {key!r} holds control characters")


# --- transactions --------------------------------------------------------------------------------------------------


def require_bucket(tx: Transaction, bucket: str) -> None:
    """Raises NoSuchBucket."""
    if tx.buckets.get(bucket) is None:
        raise NoSuchBucket(f"the bucket {bucket} does not exist")


def hold_bucket(tx: Transaction, bucket: str) -> None:
    """As `require_bucket`, and it stays until the transaction ends."""
    if tx.buckets.hold(bucket) is None:
        raise NoSuchBucket(f"the bucket {bucket} does not exist")


def _put(tx: Transaction, item: StoredObject, cause: Cause, parts: Sequence[Part] = ()) -> StoredObject:
    hold_bucket(tx, item.bucket)
    item = replace(item, modified_at=tx.now)
    for part in parts:
        tx.objects.uploads.put_part(part)
    tx.objects.put(item)
    tx.events.insert(object_created(item, cause, tx.now))
    return item


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
    bucket: str,
    key: str,
    position: int,
    stored: StoredBytes,
    headers: Mapping[str, str],
    cause: Cause,
) -> StoredObject:
    """The object is a multipart one whose parts are what was appended."""
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
        crc64=combine_crc64(old.crc64 if old else 0, stored.crc64, stored.size_bytes),
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


def _exists(tx: Transaction, bucket: str, key: str) -> bool:
    return tx.objects.get(bucket, key) is not None


def _list(tx: Transaction, bucket: str, wanted: ListQuery) -> ObjectPage:
    require_bucket(tx, bucket)
    return tx.objects.select(bucket, wanted)


def _delete(tx: Transaction, bucket: str, keys: Sequence[str]) -> int:
    require_bucket(tx, bucket)
    # Sorted: two deletions of the same keys in other orders would wait for each other.
    return sum(tx.objects.delete(bucket, key) for key in sorted(set(keys)))
