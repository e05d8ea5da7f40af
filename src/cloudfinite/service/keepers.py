"""Who keeps a bucket's objects: our own files and rows, or a storage; the services ask both in the same words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from cloudfinite.domain.events import Cause, object_created
from cloudfinite.domain.objects import ListQuery, ObjectPage, Part, StoredObject
from cloudfinite.errors import NoSuchBucket
from cloudfinite.ports import BytesReader, StoredBytes, Transaction

Place = tuple[str, str]
"""A bucket and a key in it."""


class FoundObject(Protocol):
    """An object in one of its states, and the way to the bytes of just that state."""

    @property
    def item(self) -> StoredObject: ...
    async def open(self, start: int, size_bytes: int) -> BytesReader: ...
    def readable(self) -> AbstractAsyncContextManager[Path]:
        """The whole object as a file that can be read by path inside the block."""


class Keeper(Protocol):
    """Whoever keeps the objects of a bucket. Keys have been checked."""

    async def check_writable(self, bucket: str) -> None:
        """Raises NoSuchBucket, or AccessDenied where objects are only read."""

    async def find(self, place: Place) -> FoundObject:
        """Raises NoSuchKey, NoSuchBucket."""

    async def select(self, bucket: str, wanted: ListQuery) -> ObjectPage:
        """Raises NoSuchBucket."""

    async def settle(self, item: StoredObject) -> StoredObject:
        """Bring the bytes of a new object, in the file `item.file_id` of ours, to where they are kept.

        What comes back is what a transaction with `put_written` brings into being.
        """

    async def append(
        self, place: Place, position: int, stored: StoredBytes, headers: Mapping[str, str], cause: Cause
    ) -> StoredObject:
        """Raises AppendPositionWrong, ObjectNotAppendable."""

    async def check_append(self, place: Place, position: int) -> None:
        """Raises what `append` would, before the bytes are taken."""

    async def copy(
        self,
        source: Place,
        target: Place,
        headers: Mapping[str, str] | None,
        check: Callable[[StoredObject], None],
        cause: Cause,
    ) -> StoredObject:
        """Copy between buckets of this keeper; arguments as of `ObjectService.copy_object`."""

    async def delete(self, bucket: str, key: str) -> None:
        """A key that is not there is fine. Raises NoSuchBucket, or AccessDenied where objects are only read."""

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> list[tuple[str, str, str]]:
        """As `delete`; returns those that were not deleted, as (key, code, message)."""


async def stream_bytes(found: FoundObject, start: int, size_bytes: int) -> AsyncIterator[bytes]:
    reader = await found.open(start, size_bytes)
    try:
        while chunk := await reader.read():
            yield chunk
    finally:
        await reader.close()


# --- transactions --------------------------------------------------------------------------------------------------


def require_bucket(tx: Transaction, bucket: str) -> None:
    """Raises NoSuchBucket."""
    if tx.buckets.get(bucket) is None:
        raise NoSuchBucket(f"the bucket {bucket} does not exist")


def hold_bucket(tx: Transaction, bucket: str) -> None:
    """As `require_bucket`, and it stays until the transaction ends."""
    if tx.buckets.hold(bucket) is None:
        raise NoSuchBucket(f"the bucket {bucket} does not exist")


def put_written(tx: Transaction, item: StoredObject, cause: Cause, parts: Sequence[Part] = ()) -> StoredObject:
    """Bring an object into being whose bytes are stored, with its event. Raises NoSuchBucket.

    One that is kept elsewhere is there already: then only its event is written, unless its storage tells it.
    """
    hold_bucket(tx, item.bucket)
    if not item.is_elsewhere:
        item = replace(item, modified_at=tx.now)
        for part in parts:
            tx.objects.uploads.put_part(part)
        tx.objects.put(item)
    if not item.is_told:
        tx.events.insert(object_created(item, cause, tx.now))
    return item
