"""A process that replaces an object and dies: `put_and_die.py FOLDER put|complete|alternate|fill POINT`."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from cloudfinite.adapters import objects as objects_module
from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.adapters.store import SqliteStore
from cloudfinite.errors import InsufficientStorage
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.object_files import Body, ObjectFiles
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.uploads import UploadService

BUCKET, KEY = "examplebucket-1250000000", "k"
OLD, NEW = b"old" * 500_000, b"new" * 700_000
DISK_BYTES = 2 << 20


async def stream(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def dying(function: Callable[..., Any], is_before: bool) -> Callable[..., Any]:
    """`function`, with death before or after it."""

    def call(*arguments: Any, **named: Any) -> Any:
        if is_before:
            die()
        function(*arguments, **named)
        die()

    return call


def arm(point: str) -> None:
    """Die before or after the next call of what `point` names, as in `before rename`."""
    when, _, name = point.partition(" ")
    is_before = when == "before"
    match name:
        case "fsync":
            os.fsync = dying(os.fsync, is_before)
        case "rename":
            os.rename = dying(os.rename, is_before)
        case "sync_folder":
            objects_module.sync_folder = dying(objects_module.sync_folder, is_before)
        case "commit":
            SqliteStore._commit = dying(SqliteStore._commit, is_before)  # type: ignore[method-assign]
        case _:
            raise ValueError(point)


async def main(folder: Path, act: str, point: str) -> None:
    store = SqliteStore(folder / "store.db")
    files = ObjectFiles(store, LocalObjects(folder / "objects"))
    objects, uploads = ObjectService(files), UploadService(files)
    await BucketService(store).ensure_bucket(BUCKET, "ap-chongqing")
    await objects.put_object(BUCKET, KEY, Body(stream(OLD)), {})
    match act:
        case "put":
            arm(point)
            await objects.put_object(BUCKET, KEY, Body(stream(NEW)), {})
        case "complete":
            upload = await uploads.start_upload(BUCKET, KEY, {})
            half = len(NEW) // 2
            parts = [
                await uploads.put_part(BUCKET, KEY, upload.id, number, Body(stream(data)))
                for number, data in ((1, NEW[:half]), (2, NEW[half:]))
            ]
            arm(point)
            await uploads.complete_upload(BUCKET, KEY, upload.id, [(part.number, part.etag) for part in parts])
        case "alternate":
            print("started", flush=True)
            while True:
                for data in (NEW, OLD):
                    await objects.put_object(BUCKET, KEY, Body(stream(data)), {})
        case "fill":
            resource.setrlimit(resource.RLIMIT_FSIZE, (DISK_BYTES, DISK_BYTES))
            try:
                await objects.put_object(BUCKET, KEY, Body(stream(bytes(2 * DISK_BYTES))), {})
            except InsufficientStorage as exc:
                print(exc.status)
            await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
