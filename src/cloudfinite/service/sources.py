"""Where an operation's input comes from: an object of the bucket, or a URL fetched through the guarded client."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from cloudfinite.domain.job import JobInput
from cloudfinite.errors import (
    EntityTooLarge,
    InputDownloadFailed,
    InputMissing,
    NoSuchBucket,
    NoSuchKey,
    StorageFailed,
    StorageRefused,
    StorageUnavailable,
)
from cloudfinite.ports import Downloader, Transaction
from cloudfinite.service.keepers import FoundObject
from cloudfinite.service.objects import ObjectService
from cloudfinite.wire.operation import LocalFile


class Sources:
    """Gives inputs as local files. `limit_bytes` bounds what is fetched from a URL."""

    def __init__(self, objects: ObjectService, downloader: Downloader, scratch: Path, limit_bytes: int) -> None:
        self._objects = objects
        self._downloader = downloader
        self._scratch = scratch
        self._limit_bytes = limit_bytes

    def locate(self, tx: Transaction, bucket: str, wanted: JobInput) -> FoundObject | None:
        """Where the input is, if a transaction can tell: it saves `opened` one of its own."""
        return self._objects.locate_in(tx, bucket, wanted.object_key) if wanted.object_key else None

    @asynccontextmanager
    async def opened(self, bucket: str, wanted: JobInput, found: FoundObject | None = None) -> AsyncIterator[LocalFile]:
        """The input as a file that stays readable inside the block. Raises JobFailed (InputMissing, …)."""
        if wanted.url and not wanted.object_key:
            async with self._downloaded(wanted.url) as source:
                yield source
            return
        try:
            opened = self._objects.opened_source(bucket, wanted.object_key, found)
            async with opened as source:
                yield source
        except (NoSuchKey, NoSuchBucket) as exc:
            raise InputMissing() from exc
        except StorageUnavailable as exc:
            raise StorageFailed(exc.message) from exc
        except (StorageRefused, EntityTooLarge) as exc:
            raise InputDownloadFailed(exc.message) from exc

    @asynccontextmanager
    async def _downloaded(self, url: str) -> AsyncIterator[LocalFile]:
        self._scratch.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="url-", dir=self._scratch)
        os.close(handle)
        path = Path(name)
        try:
            size_bytes = await self._downloader.fetch(url, path, self._limit_bytes)
            yield LocalFile(path, name=url, size_bytes=size_bytes)
        finally:
            path.unlink(missing_ok=True)
