"""Multipart uploads: parts that come in any order and become one object without being read again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

from cloudfinite.domain.crc64 import combine_crc64
from cloudfinite.domain.events import Cause, Creation
from cloudfinite.domain.objects import ListQuery, Part, StoredObject, Upload, UploadPage, new_upload_id
from cloudfinite.errors import AccessDenied, InvalidArgument, InvalidPart, InvalidPartOrder, NoSuchUpload
from cloudfinite.ports import Storage, Transaction
from cloudfinite.service.keepers import hold_bucket, put_written, require_bucket
from cloudfinite.service.object_files import Body, ObjectFiles
from cloudfinite.service.objects import check_key

MAX_PART_NUMBER = 10_000  # Wire: COS documentation, "Upload Part".

_SET_BY_STORE = datetime.fromtimestamp(0, UTC)


class UploadService:
    """Uploads are named by bucket, key and id; an id that belongs to another key is unknown."""

    def __init__(self, files: ObjectFiles, on_created: Callable[[], None] = lambda: None) -> None:
        """on_created: called when the event of a new object has become durable."""
        self._files = files
        self._on_created = on_created
        self._store = files.store
        self._storages = files.storages

    async def start_upload(self, bucket: str, key: str, headers: Mapping[str, str]) -> Upload:
        """`headers` are those of the object to come. Raises NoSuchBucket, KeyTooLong."""
        check_key(key)
        if (storage := self._storages.get(bucket)) and storage.is_read_only:
            raise AccessDenied(f"the bucket {bucket} is only read here; change its objects where they are kept")
        return await self._store.run(_start, Upload(new_upload_id(), bucket, key, _SET_BY_STORE, headers))

    async def put_part(self, bucket: str, key: str, upload_id: str, number: int, body: Body) -> Part:
        """Store a part, replacing one of this number. Raises NoSuchUpload, InvalidArgument, and what `write` raises."""
        if not 1 <= number <= MAX_PART_NUMBER:
            raise InvalidArgument(f"partNumber is {number}; it must be from 1 to {MAX_PART_NUMBER}")
        await self._store.read(_require, bucket, key, upload_id)
        stored = await self._files.write(body)
        file_id = await self._files.staging.put(bucket, stored) if bucket in self._storages else stored.file_id
        part = Part(
            upload_id=upload_id,
            number=number,
            file_id=file_id,
            size_bytes=stored.size_bytes,
            etag=f'"{stored.md5.hex()}"',
            crc64=stored.crc64,
            modified_at=_SET_BY_STORE,
        )
        return await self._files.commit([file_id], _put_part, bucket, key, part)

    async def list_parts(
        self, bucket: str, key: str, upload_id: str, after: int, limit: int
    ) -> tuple[list[Part], bool]:
        """Parts with numbers above `after`, and whether more follow. Raises NoSuchUpload."""
        parts = await self._store.read(_parts, bucket, key, upload_id, after, limit + 1)
        return parts[:limit], len(parts) > limit

    async def list_uploads(self, bucket: str, wanted: ListQuery) -> UploadPage:
        """Raises NoSuchBucket."""
        return await self._store.read(_list, bucket, wanted)

    async def complete_upload(
        self, bucket: str, key: str, upload_id: str, wanted: Sequence[tuple[int, str]], request_id: str = ""
    ) -> StoredObject:
        """Make the object of these parts (number, ETag with or without quotes); other parts are dropped.

        Raises NoSuchUpload, InvalidPart, InvalidPartOrder, NoSuchBucket.
        """
        numbers = [number for number, _ in wanted]
        if not numbers:
            raise InvalidPart("there is no part to complete with")
        if any(left >= right for left, right in pairwise(numbers)):
            raise InvalidPartOrder()
        cause = Cause(Creation.COMPLETE, request_id)
        if storage := self._storages.get(bucket):
            item = await self._complete_elsewhere(storage, (bucket, key, upload_id), wanted, cause)
        else:
            item = await self._store.run(_complete, bucket, key, upload_id, wanted, cause)
        self._on_created()
        return item

    async def _complete_elsewhere(
        self, storage: Storage, upload: tuple[str, str, str], wanted: Sequence[tuple[int, str]], cause: Cause
    ) -> StoredObject:
        """The parts become one object of the storage; only then does the upload end, so it can be completed again."""
        item, parts = await self._store.read(_assemble, *upload, wanted)
        reader = self._files.staging.reader(parts)
        try:
            kept = await storage.put(item, reader)
        finally:
            await reader.close()
        kept = replace(kept, is_elsewhere=True, is_told=storage.tells_creations)
        return await self._store.run(_end, upload, kept, cause)

    async def abort_upload(self, bucket: str, key: str, upload_id: str) -> None:
        """Raises NoSuchUpload."""
        await self._store.run(_abort, bucket, key, upload_id)


# --- transactions --------------------------------------------------------------------------------------------------


def _start(tx: Transaction, upload: Upload) -> Upload:
    hold_bucket(tx, upload.bucket)
    upload = replace(upload, created_at=tx.now)
    tx.objects.uploads.create(upload)
    return upload


def _require(tx: Transaction, bucket: str, key: str, upload_id: str) -> Upload:
    return _same(tx.objects.uploads.get(upload_id), bucket, key, upload_id)


def _hold(tx: Transaction, bucket: str, key: str, upload_id: str) -> Upload:
    return _same(tx.objects.uploads.hold(upload_id), bucket, key, upload_id)


def _same(upload: Upload | None, bucket: str, key: str, upload_id: str) -> Upload:
    if upload is None or (upload.bucket, upload.key) != (bucket, key):
        raise NoSuchUpload(f"the upload {upload_id!r} of the object {key!r} does not exist")
    return upload


def _put_part(tx: Transaction, bucket: str, key: str, part: Part) -> Part:
    _hold(tx, bucket, key, part.upload_id)
    part = replace(part, modified_at=tx.now)
    tx.objects.uploads.put_part(part)
    return part


def _parts(tx: Transaction, bucket: str, key: str, upload_id: str, after: int, limit: int) -> list[Part]:
    _require(tx, bucket, key, upload_id)
    return tx.objects.uploads.parts(upload_id, after, limit)


def _list(tx: Transaction, bucket: str, wanted: ListQuery) -> UploadPage:
    require_bucket(tx, bucket)
    return tx.objects.uploads.select(bucket, wanted)


def _complete(
    tx: Transaction, bucket: str, key: str, upload_id: str, wanted: Sequence[tuple[int, str]], cause: Cause
) -> StoredObject:
    hold_bucket(tx, bucket)
    upload = _hold(tx, bucket, key, upload_id)
    parts = _chosen(tx.objects.uploads.parts(upload_id), wanted)
    tx.objects.uploads.complete(upload_id, [part.number for part in parts])
    return put_written(tx, _assembled(upload, parts, tx.now), cause)


def _assemble(
    tx: Transaction, bucket: str, key: str, upload_id: str, wanted: Sequence[tuple[int, str]]
) -> tuple[StoredObject, list[Part]]:
    upload = _require(tx, bucket, key, upload_id)
    parts = _chosen(tx.objects.uploads.parts(upload_id), wanted)
    return _assembled(upload, parts, tx.now), parts


def _end(tx: Transaction, upload: tuple[str, str, str], item: StoredObject, cause: Cause) -> StoredObject:
    _hold(tx, *upload)
    tx.objects.uploads.abort(upload[2])
    return put_written(tx, item, cause)


def _chosen(parts: Sequence[Part], wanted: Sequence[tuple[int, str]]) -> list[Part]:
    by_number = {part.number: part for part in parts}
    chosen = []
    for number, etag in wanted:
        part = by_number.get(number)
        if part is None or part.etag.strip('"') != etag.strip('"').lower():
            raise InvalidPart(f"part {number} with the ETag {etag} was not uploaded")
        chosen.append(part)
    return chosen


def _assembled(upload: Upload, parts: Sequence[Part], now: datetime) -> StoredObject:
    digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    crc64 = 0
    for part in parts:
        crc64 = combine_crc64(crc64, part.crc64, part.size_bytes)
    return StoredObject(
        bucket=upload.bucket,
        key=upload.key,
        file_id=upload.id,
        size_bytes=sum(part.size_bytes for part in parts),
        etag=f'"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(parts)}"',
        crc64=crc64,
        modified_at=now,
        headers=upload.headers,
        is_multipart=True,
    )


def _abort(tx: Transaction, bucket: str, key: str, upload_id: str) -> None:
    _hold(tx, bucket, key, upload_id)
    tx.objects.uploads.abort(upload_id)
