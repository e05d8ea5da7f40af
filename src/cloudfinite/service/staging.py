"""Parts of uploads on their way into a storage: they wait there under a prefix of ours until the upload is complete.

The storage's own multipart uploads do not fit: all their parts but the last have at least 5 MiB, and SDKs of COS send
1 MiB. What waits there is found by every process, whichever machine took the part. A staged part's file id is
`<bucket>/<id>`; our own files have no slash in theirs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from cloudfinite.domain.objects import ListQuery, Part, Piece, StoredObject
from cloudfinite.errors import InvalidPart, RequestError, StorageUnavailable
from cloudfinite.ports import BytesReader, Objects, Storage, StoredBytes

log = structlog.get_logger()

PREFIX = ".cloudfinite/parts/"
_NOT_USED = datetime.fromtimestamp(0, UTC)


def is_staged(key: str) -> bool:
    """Whether a key, or a common prefix, is that of staged parts."""
    return key.startswith(PREFIX) or (PREFIX.startswith(key) and key.endswith("/"))


class Staging:
    """Staged parts of all storages. `objects` holds a part's bytes while they come in."""

    def __init__(self, storages: Mapping[str, Storage], objects: Objects) -> None:
        self._storages = storages
        self._objects = objects

    async def put(self, bucket: str, stored: StoredBytes) -> str:
        """Move a file of ours into the bucket's storage; returns its new file id. The file is gone in any case."""
        item = StoredObject(
            bucket=bucket,
            key=PREFIX + stored.file_id,
            file_id=stored.file_id,
            size_bytes=stored.size_bytes,
            etag="",
            crc64=stored.crc64,
            modified_at=_NOT_USED,
        )
        try:
            reader = await self._objects.reader([Piece(stored.file_id, stored.size_bytes)], 0, stored.size_bytes)
            try:
                await self._storages[bucket].put(item, reader)
            finally:
                await reader.close()
        finally:
            await self._objects.delete([stored.file_id])
        return f"{bucket}/{stored.file_id}"

    def reader(self, parts: Sequence[Part]) -> BytesReader:
        """The bytes of staged parts, one after the other."""
        return _PartsReader(self._storages, parts)

    async def delete(self, file_ids: Sequence[str]) -> list[str]:
        """Remove staged parts; returns the ids of those that are gone, or whose storage the settings name no more."""
        gone = []
        for file_id in file_ids:
            bucket, _, name = file_id.partition("/")
            try:
                if bucket in self._storages:
                    await self._storages[bucket].delete(PREFIX + name)
                else:
                    log.warning("staging.forgotten", bucket=bucket, file_id=file_id)
            except RequestError as exc:
                log.warning("staging.undeleted", bucket=bucket, file_id=file_id, reason=exc.message)
                continue
            gone.append(file_id)
        return gone

    async def stale(self, age_s: float) -> AsyncIterator[list[str]]:
        """The ids of parts that are at least `age_s` old, by the storage's times."""
        until = datetime.now(UTC) - timedelta(seconds=age_s)
        for bucket, storage in self._storages.items():
            if storage.is_read_only:
                continue
            wanted = ListQuery(prefix=PREFIX)
            while True:
                try:
                    page = await storage.select(wanted)
                except RequestError as exc:
                    log.warning("staging.unlisted", bucket=bucket, reason=exc.message)
                    break
                yield [
                    f"{bucket}/{item.key.removeprefix(PREFIX)}" for item in page.objects if item.modified_at <= until
                ]
                if not page.next_marker:
                    break
                wanted = ListQuery(prefix=PREFIX, marker=page.next_marker)


class _PartsReader:
    """`ports.BytesReader` over staged parts, of which one is open at a time."""

    def __init__(self, storages: Mapping[str, Storage], parts: Sequence[Part]) -> None:
        self._storages = storages
        self._parts = list(parts)
        self._open: BytesReader | None = None

    async def read(self) -> bytes:
        while True:
            if self._open is None:
                if not self._parts:
                    return b""
                self._open = await self._opened(self._parts.pop(0))
            if chunk := await self._open.read():
                return chunk
            await self.close()

    async def _opened(self, part: Part) -> BytesReader:
        bucket, _, name = part.file_id.partition("/")
        storage = self._storages.get(bucket)
        if storage is None:
            raise InvalidPart(f"part {part.number} was uploaded before the bucket was kept in a storage; begin anew")
        item = await storage.find(PREFIX + name)
        if item.size_bytes != part.size_bytes:
            raise StorageUnavailable(f"part {part.number} of the upload is not whole in the storage")
        return await storage.reader(item, 0, item.size_bytes)

    async def close(self) -> None:
        if self._open is not None:
            await self._open.close()
            self._open = None
