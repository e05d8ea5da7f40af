"""Objects: put, get, copy, list and delete them; their bytes as a job's input."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from cloudfinite.domain.events import Cause, Creation
from cloudfinite.domain.objects import MAX_KEY_BYTES, ListQuery, ObjectPage, StoredObject
from cloudfinite.errors import InvalidArgument, KeyTooLong, NoSuchBucket, NoSuchCopySource, NoSuchKey
from cloudfinite.ports import StoredBytes, Transaction
from cloudfinite.service.keepers import FoundObject, Keeper, Place, put_written, stream_bytes
from cloudfinite.service.kept_elsewhere import KeptElsewhere
from cloudfinite.service.kept_here import KeptHere, copied_headers
from cloudfinite.service.object_files import Body, ObjectFiles
from cloudfinite.wire.operation import LocalFile
from cloudfinite.wire.times import http_date

_PUT = Cause()
_SET_BY_KEEPER = datetime.fromtimestamp(0, UTC)


class ObjectService:
    """Objects of buckets. The files of replaced and deleted ones are kept for `retain_s`: see `adapters/objects.py`."""

    def __init__(
        self, files: ObjectFiles, *, retain_s: float = 600.0, on_created: Callable[[], None] = lambda: None
    ) -> None:
        """on_created: called when the event of a new object has become durable."""
        self._files = files
        self._on_created = on_created
        self._retain = timedelta(seconds=retain_s)
        self._here = KeptHere(files)
        self._elsewhere: Mapping[str, Keeper] = {
            bucket: KeptElsewhere(bucket, storage, files) for bucket, storage in files.storages.items()
        }

    def _keeper(self, bucket: str) -> Keeper:
        return self._elsewhere.get(bucket, self._here)

    async def put_object(
        self, bucket: str, key: str, body: Body, headers: Mapping[str, str], cause: Cause = _PUT
    ) -> StoredObject:
        """Store an object, replacing one of this key. Raises NoSuchBucket, KeyTooLong, and what `write` raises."""
        return await self._bring_into_being(await self.write_object(bucket, key, body, headers), cause)

    async def _bring_into_being(self, item: StoredObject, cause: Cause) -> StoredObject:
        item = await self._files.commit([] if item.is_elsewhere else [item.file_id], put_written, item, cause)
        self._on_created()
        return item

    async def write_object(self, bucket: str, key: str, body: Body, headers: Mapping[str, str]) -> StoredObject:
        """Store the bytes of an object that a transaction with `put_written` is to bring into being.

        Raises what `put_object` raises. A file that no transaction names is removed by `discard_written`, or later; in
        a bucket that is kept elsewhere the object is there at once.
        """
        check_key(key)
        keeper = self._keeper(bucket)
        await keeper.check_writable(bucket)  # before gigabytes are taken for nothing
        stored = await self._files.write(body)
        item = StoredObject(
            bucket=bucket,
            key=key,
            file_id=stored.file_id,
            size_bytes=stored.size_bytes,
            etag=f'"{stored.md5.hex()}"',
            crc64=stored.crc64,
            modified_at=_SET_BY_KEEPER,
            headers=headers,
        )
        return await keeper.settle(item)

    async def discard_written(self, items: Sequence[StoredObject]) -> None:
        """Remove the bytes of objects that did not come into being."""
        await self._files.objects.delete([item.file_id for item in items if not item.is_elsewhere])

    def tell_created(self) -> None:
        """Call when a transaction with `put_written` is durable: events wait."""
        self._on_created()

    async def append_object(
        self, bucket: str, key: str, position: int, body: Body, headers: Mapping[str, str], request_id: str = ""
    ) -> tuple[StoredObject, StoredBytes]:
        """Make an appendable object longer, or a new one at position 0, whose `headers` are kept.

        Returns the object as it now is, and what was appended. Raises AppendPositionWrong, ObjectNotAppendable, and
        what `put_object` raises.
        """
        check_key(key)
        keeper = self._keeper(bucket)
        await keeper.check_append((bucket, key), position)
        stored = await self._files.write(body)
        item = await keeper.append((bucket, key), position, stored, headers, Cause(Creation.APPEND, request_id))
        self._on_created()
        return item, stored

    async def find_object(self, bucket: str, key: str) -> StoredObject:
        """Raises NoSuchKey, NoSuchBucket."""
        return (await self.locate_object(bucket, key)).item

    async def locate_object(self, bucket: str, key: str) -> FoundObject:
        """The object and the way to its bytes. Raises NoSuchKey, NoSuchBucket."""
        check_key(key)
        return await self._keeper(bucket).find((bucket, key))

    def locate_in(self, tx: Transaction, bucket: str, key: str) -> FoundObject | None:
        """An object that we keep, inside a transaction of the caller's; None for all others."""
        return None if bucket in self._elsewhere else self._here.find_in(tx, (bucket, key))

    @asynccontextmanager
    async def opened_source(self, bucket: str, key: str, found: FoundObject | None = None) -> AsyncIterator[LocalFile]:
        """The object as a file that stays as it is inside the block; `found`, where it was located already.

        Raises NoSuchKey, NoSuchBucket.
        """
        found = found or await self.locate_object(bucket, key)
        async with found.readable() as path:
            yield LocalFile(
                path,
                name=key,
                size_bytes=found.item.size_bytes,
                etag=found.item.etag,
                last_modified=http_date(found.item.modified_at),
            )

    async def object_exists(self, bucket: str, key: str) -> bool:
        try:
            await self.locate_object(bucket, key)
        except (NoSuchKey, NoSuchBucket, InvalidArgument, KeyTooLong):
            return False
        return True

    async def list_objects(self, bucket: str, wanted: ListQuery) -> ObjectPage:
        """Raises NoSuchBucket."""
        return await self._keeper(bucket).select(bucket, wanted)

    async def delete_object(self, bucket: str, key: str) -> None:
        """One that is not there is fine. Raises NoSuchBucket."""
        check_key(key)
        await self._keeper(bucket).delete(bucket, key)

    async def delete_objects(self, bucket: str, keys: Sequence[str]) -> list[tuple[str, str, str]]:
        """Those that were not deleted, as (key, code, message); one that is not there is fine. Raises NoSuchBucket."""
        return await self._keeper(bucket).delete_many(bucket, keys)

    async def copy_object(
        self,
        source: Place,
        target: Place,
        headers: Mapping[str, str] | None,
        check: Callable[[StoredObject], None],
        request_id: str = "",
    ) -> StoredObject:
        """Copy (bucket, key) to (bucket, key). `headers` replace the source's; `check` may refuse it by raising.

        Raises NoSuchCopySource, NoSuchBucket.
        """
        check_key(target[1])
        keeper, cause = self._keeper(target[0]), Cause(Creation.COPY, request_id)
        if self._keeper(source[0]) is not keeper:
            return await self._copy_between(source, target, headers, check, cause)
        item = await keeper.copy(source, target, headers, check, cause)
        self._on_created()
        return item

    async def _copy_between(
        self,
        source: Place,
        target: Place,
        headers: Mapping[str, str] | None,
        check: Callable[[StoredObject], None],
        cause: Cause,
    ) -> StoredObject:
        """Copy from one keeper to another: the bytes go through us."""
        try:
            found = await self._keeper(source[0]).find(source)
        except (NoSuchKey, NoSuchBucket) as exc:
            raise NoSuchCopySource(exc.message) from exc
        check(found.item)
        body = Body(stream_bytes(found, 0, found.item.size_bytes), found.item.size_bytes)
        kept = copied_headers(found.item) if headers is None else headers
        return await self._bring_into_being(await self.write_object(*target, body, kept), cause)

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
