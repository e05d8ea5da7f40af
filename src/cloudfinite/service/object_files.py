"""Files of objects: written, then named by a committed row; and the removal of those that no row names.

The file comes first and the row after it, so a crash between the two leaves an orphan. What makes their collection
safe: a row is committed within ten minutes of its file's last byte or not at all, and an orphan is an hour old.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Concatenate, ParamSpec, TypeVar

import structlog

from cloudfinite.errors import EntityTooLarge, RequestError, ServiceUnavailable
from cloudfinite.ports import Objects, Storage, Store, StoredBytes, Transaction
from cloudfinite.service.staging import Staging

P = ParamSpec("P")
R = TypeVar("R")

log = structlog.get_logger()

MAX_OBJECT_BYTES = 5 << 30  # Wire: COS documentation, "PUT Object" and "Upload Part".

_NONE: Mapping[str, Storage] = MappingProxyType({})
_COMMIT_LIMIT_S = 600.0
_ORPHAN_AGE_S = 3600.0
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Body:
    """What a client sends: the bytes, and what it announced of them."""

    chunks: AsyncIterator[bytes]
    size_bytes: int | None = None
    md5: bytes | None = None


class ObjectFiles:
    """The store and the object store together. `limit_bytes` bounds one body."""

    def __init__(
        self,
        store: Store,
        objects: Objects,
        storages: Mapping[str, Storage] = _NONE,
        *,
        limit_bytes: int = MAX_OBJECT_BYTES,
    ) -> None:
        """storages: by the names of the buckets that they keep."""
        self.store = store
        self.objects = objects
        self.storages = storages
        self.staging = Staging(storages, objects)
        self._limit_bytes = limit_bytes
        self._removal = asyncio.Lock()

    def holding(self) -> AbstractAsyncContextManager[None]:
        """Inside this block no file is removed by this process: a backup copies them."""
        return self._removal

    async def write(self, body: Body) -> StoredBytes:
        """Raises EntityTooLarge, IncompleteBody, BadDigest, InsufficientStorage; nothing is left then."""
        if (body.size_bytes or 0) > self._limit_bytes:
            raise EntityTooLarge(f"the body has {body.size_bytes} bytes; at most {self._limit_bytes} are allowed")
        return await self.objects.write(
            body.chunks, limit_bytes=self._limit_bytes, size_bytes=body.size_bytes, md5=body.md5
        )

    async def commit(
        self,
        file_ids: Sequence[str],
        work: Callable[Concatenate[Transaction, P], R],
        /,
        *arguments: P.args,
        **named: P.kwargs,
    ) -> R:
        """Run the transaction that gives new files their row; removes them when it refuses."""
        try:
            return await self.store.run(in_time(work), *arguments, **named)
        except ServiceUnavailable:
            raise  # It may have been committed all the same; if not, the files are orphans.
        except RequestError:
            await self.objects.delete(file_ids)
            raise

    async def collect_garbage(self, retain: timedelta) -> int:
        """Remove files whose row went `retain` ago and that nobody reads; returns how many. Any process may."""
        count = 0
        async with self._removal:
            while file_ids := await self.store.read(_garbage, retain):
                removed = await self._delete(file_ids)
                await self.store.run(_forget_garbage, removed)
                count += len(removed)
                if len(removed) < _AT_ONCE:
                    break
        return count

    async def collect_orphans(self, age_s: float = _ORPHAN_AGE_S) -> int:
        """Remove files that a crash left without a row; returns how many. Reads every folder: once a day is enough."""
        count = 0
        for place in (self.objects, self.staging):
            async for stale in place.stale(age_s):
                for start in range(0, len(stale), _AT_ONCE):
                    async with self._removal:
                        count += await self._remove_orphans(stale[start : start + _AT_ONCE])
        if count:
            log.info("objects.orphans_removed", files=count)
        return count

    async def _remove_orphans(self, candidates: Sequence[str]) -> int:
        known = await self.store.read(_known, candidates)
        return len(await self._delete([file_id for file_id in candidates if file_id not in known]))

    async def _delete(self, file_ids: Sequence[str]) -> list[str]:
        staged = [file_id for file_id in file_ids if "/" in file_id]
        ours = [file_id for file_id in file_ids if "/" not in file_id]
        return await self.objects.delete(ours) + await self.staging.delete(staged)


def in_time(work: Callable[Concatenate[Transaction, P], R]) -> Callable[Concatenate[Transaction, P], R]:
    """`work` as a transaction that commits within ten minutes of now or not at all: it gives new files their row."""
    until = time.monotonic() + _COMMIT_LIMIT_S

    def work_in_time(tx: Transaction, /, *arguments: P.args, **named: P.kwargs) -> R:
        result = work(tx, *arguments, **named)
        if time.monotonic() > until:
            raise ServiceUnavailable("the store took too long")
        return result

    return work_in_time


def _garbage(tx: Transaction, retain: timedelta) -> list[str]:
    return tx.objects.garbage(tx.now - retain, _AT_ONCE)


def _forget_garbage(tx: Transaction, file_ids: Sequence[str]) -> None:
    tx.objects.forget_garbage(file_ids)


def _known(tx: Transaction, file_ids: Sequence[str]) -> set[str]:
    return tx.objects.file_ids(file_ids)
