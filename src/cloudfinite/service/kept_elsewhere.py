"""Objects that a storage keeps for us: it is the truth of their keys, bytes and headers; our rows are events alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cloudfinite.domain.events import Cause
from cloudfinite.domain.objects import ListQuery, ObjectPage, Piece, StoredObject, new_upload_id
from cloudfinite.errors import (
    AccessDenied,
    InvalidArgument,
    NoSuchCopySource,
    NoSuchKey,
    ObjectNotAppendable,
    RequestError,
)
from cloudfinite.ports import BytesReader, Storage, StoredBytes
from cloudfinite.service.keepers import Place, put_written, stream_bytes
from cloudfinite.service.object_files import Body, ObjectFiles
from cloudfinite.service.staging import is_staged

_DELETIONS = 16  # at once, of one call


@dataclass(frozen=True, slots=True)
class FoundElsewhere:
    """`keepers.FoundObject`: a state of an object in a storage."""

    item: StoredObject
    _storage: Storage
    _files: ObjectFiles

    async def open(self, start: int, size_bytes: int) -> BytesReader:
        return await self._storage.reader(self.item, start, size_bytes)

    @asynccontextmanager
    async def readable(self) -> AsyncIterator[Path]:
        """A copy among our own files, which goes again."""
        size_bytes = self.item.size_bytes
        stored = await self._files.write(Body(stream_bytes(self, 0, size_bytes), size_bytes))
        try:
            async with self._files.objects.readable([Piece(stored.file_id, size_bytes)]) as path:
                yield path
        finally:
            await asyncio.shield(self._files.objects.delete([stored.file_id]))


class KeptElsewhere:
    """`keepers.Keeper` of the one bucket that `storage` keeps."""

    def __init__(self, bucket: str, storage: Storage, files: ObjectFiles) -> None:
        self._bucket = bucket
        self._storage = storage
        self._files = files

    async def check_writable(self, bucket: str) -> None:
        if self._storage.is_read_only:
            raise AccessDenied(f"the bucket {bucket} is only read here; change its objects where they are kept")

    async def find(self, place: Place) -> FoundElsewhere:
        if is_staged(place[1]):
            raise NoSuchKey(f"the object {place[1]!r} does not exist")
        return FoundElsewhere(await self._storage.find(place[1]), self._storage, self._files)

    async def select(self, bucket: str, wanted: ListQuery) -> ObjectPage:
        while True:
            page = await self._storage.select(wanted)
            objects = tuple(item for item in page.objects if not is_staged(item.key))
            prefixes = tuple(name for name in page.common_prefixes if not is_staged(name))
            if objects or prefixes or not page.next_marker:
                return replace(page, objects=objects, common_prefixes=prefixes)
            wanted = replace(wanted, marker=page.next_marker)  # A page of nothing but parts of uploads.

    async def settle(self, item: StoredObject) -> StoredObject:
        try:
            self._check_key(item.key)
            reader = await self._files.objects.reader([Piece(item.file_id, item.size_bytes)], 0, item.size_bytes)
            try:
                kept = await self._storage.put(item, reader)
            finally:
                await reader.close()
        finally:
            await asyncio.shield(self._files.objects.delete([item.file_id]))
        return self._kept(kept)

    async def append(
        self, place: Place, position: int, stored: StoredBytes, headers: Mapping[str, str], cause: Cause
    ) -> StoredObject:
        raise ObjectNotAppendable(f"the bucket {place[0]} is kept in a storage that cannot append to objects")

    async def check_append(self, place: Place, position: int) -> None:
        await self.check_writable(place[0])
        raise ObjectNotAppendable(f"the bucket {place[0]} is kept in a storage that cannot append to objects")

    async def copy(
        self,
        source: Place,
        target: Place,
        headers: Mapping[str, str] | None,
        check: Callable[[StoredObject], None],
        cause: Cause,
    ) -> StoredObject:
        await self.check_writable(target[0])
        self._check_key(target[1])
        try:
            item = (await self.find(source)).item
            check(item)
            wanted = replace(
                item, key=target[1], file_id=new_upload_id(), headers=item.headers if headers is None else headers
            )
            copy = self._kept(await self._storage.copy(item, wanted))
        except NoSuchKey as exc:
            raise NoSuchCopySource(exc.message) from exc
        return await self._files.store.run(put_written, copy, cause)

    async def delete(self, bucket: str, key: str) -> None:
        await self.check_writable(bucket)
        if not is_staged(key):
            await self._storage.delete(key)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> list[tuple[str, str, str]]:
        await self.check_writable(bucket)

        turns = asyncio.Semaphore(_DELETIONS)

        async def refusal(key: str) -> tuple[str, str, str] | None:
            try:
                async with turns:
                    await self.delete(bucket, key)
            except RequestError as exc:
                return key, exc.code, exc.message
            return None

        return [found for found in await asyncio.gather(*map(refusal, keys)) if found]

    def _kept(self, item: StoredObject) -> StoredObject:
        return replace(item, is_elsewhere=True, is_told=self._storage.tells_creations)

    def _check_key(self, key: str) -> None:
        if is_staged(key):
            raise InvalidArgument(f"the key {key!r} is among those of unfinished uploads")
