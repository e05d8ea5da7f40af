"""Existing files as a bucket that is only read: a file's key is its path below the folder, with `/` between the names.

A key is walked name by name from the folder's own handle, and no link is followed on the way: nothing outside the
folder can be read, whatever the key says and whoever changes the folder meanwhile. An ETag is made of the size and the
time of the last change, so a file that is written anew has another one, without being read.

Wire: our choice – COS has nothing like it.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import TypeVar

from cloudfinite.adapters.store_listing import Bounds, list_entries
from cloudfinite.domain.media_types import guess_type
from cloudfinite.domain.objects import MAX_KEY_BYTES, ListQuery, ObjectPage, StoredObject
from cloudfinite.errors import AccessDenied, NoSuchBucket, NoSuchKey, SetupError, StorageUnavailable
from cloudfinite.ports import BytesReader

R = TypeVar("R")

_THREADS = 4
_READ_BYTES = 1 << 18
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FOLDER = _OPEN | os.O_DIRECTORY
_OPEN_ROOT = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN_FILE = _OPEN | os.O_NONBLOCK  # else opening a pipe would wait for its writer


@dataclass(frozen=True, slots=True)
class _File:
    """A row of a list."""

    key: bytes
    facts: os.stat_result


class FolderStorage:
    """`ports.Storage` on a folder of this machine, or one mounted on all; `bucket` is the name of our bucket."""

    is_read_only = True
    tells_creations = False

    def __init__(self, bucket: str, folder: Path) -> None:
        self._bucket = bucket
        self._folder = folder
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="folder")

    async def close(self) -> None:
        self._threads.shutdown()

    async def check(self) -> None:
        if not self._folder.is_absolute() or not os.access(self._folder / ".", os.R_OK | os.X_OK):
            raise SetupError(
                f"the folder {self._folder} of the bucket {self._bucket} is no readable folder",
                "write an existing folder as file:///srv/scans",
            )

    async def find(self, key: str) -> StoredObject:
        return await self.in_thread(self._find, key)

    def _find(self, key: str) -> StoredObject:
        handle, facts = self._open(key)
        os.close(handle)
        return self._object(key, facts)

    async def select(self, wanted: ListQuery) -> ObjectPage:
        return await self.in_thread(self._select, wanted)

    def _select(self, wanted: ListQuery) -> ObjectPage:
        def fetch(bounds: Bounds, limit: int) -> Sequence[_File]:
            return list(islice(self._walk(bounds), limit))

        try:
            entries, is_truncated = list_entries(wanted, fetch)
        except FileNotFoundError as exc:
            raise self._gone() from exc
        return ObjectPage(
            objects=tuple(
                self._object(entry.name.decode(), entry.row.facts) for entry in entries if entry.row is not None
            ),
            common_prefixes=tuple(entry.name.decode() for entry in entries if entry.row is None),
            next_marker=entries[-1].name.decode() if is_truncated else "",
        )

    def _walk(self, bounds: Bounds) -> Iterator[_File]:
        handle = os.open(self._folder, _OPEN_ROOT)
        try:
            yield from _walk(handle, b"", bounds)
        finally:
            os.close(handle)

    async def reader(self, item: StoredObject, start: int, size_bytes: int) -> BytesReader:
        return await self.in_thread(self._reader, item, start, size_bytes)

    def _reader(self, item: StoredObject, start: int, size_bytes: int) -> BytesReader:
        handle, facts = self._open(item.key)
        if _etag(facts) != item.etag:
            os.close(handle)
            raise StorageUnavailable("the file changed while it was read; try again")
        os.lseek(handle, start, os.SEEK_SET)
        return _FolderReader(self, handle, size_bytes)

    async def put(self, item: StoredObject, source: BytesReader) -> StoredObject:
        raise self._refusal()

    async def copy(self, source: StoredObject, target: StoredObject) -> StoredObject:
        raise self._refusal()

    async def delete(self, key: str) -> None:
        raise self._refusal()

    def _refusal(self) -> AccessDenied:
        return AccessDenied(f"the bucket {self._bucket} is a folder that is only read")

    def _open(self, key: str) -> tuple[int, os.stat_result]:
        """A handle of the file, and its facts. Raises NoSuchKey for whatever is not a plain file below the folder."""
        *folders, name = key.split("/")
        missing = NoSuchKey(f"the object {key!r} does not exist")
        if not all(_is_name(part) for part in [*folders, name]):
            raise missing
        try:
            at = os.open(self._folder, _OPEN_ROOT)
        except FileNotFoundError as exc:
            raise self._gone() from exc
        try:
            for folder in folders:
                inner = os.open(folder, _OPEN_FOLDER, dir_fd=at)
                os.close(at)
                at = inner
            handle = os.open(name, _OPEN_FILE, dir_fd=at)
        except OSError as exc:  # not there, a link, no folder, a name too long, not ours to read
            raise missing from exc
        finally:
            os.close(at)
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            os.close(handle)
            raise missing
        return handle, facts

    def _gone(self) -> NoSuchBucket:
        return NoSuchBucket(f"the folder of the bucket {self._bucket} is gone")

    def _object(self, key: str, facts: os.stat_result) -> StoredObject:
        return StoredObject(
            bucket=self._bucket,
            key=key,
            file_id="",
            size_bytes=facts.st_size,
            etag=_etag(facts),
            crc64=None,
            modified_at=datetime.fromtimestamp(facts.st_mtime, UTC),
            headers={"Content-Type": guess_type(key)},
        )

    async def in_thread(self, function: Callable[..., R], *arguments: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


class _FolderReader:
    """`ports.BytesReader` of an open file."""

    def __init__(self, storage: FolderStorage, handle: int, size_bytes: int) -> None:
        self._storage = storage
        self._file = os.fdopen(handle, "rb", buffering=0)
        self._left_bytes = size_bytes

    async def read(self) -> bytes:
        if not self._left_bytes:
            return b""
        data: bytes = await self._storage.in_thread(self._file.read, min(_READ_BYTES, self._left_bytes))
        if not data:
            raise StorageUnavailable("the file became shorter while it was read")
        self._left_bytes -= len(data)
        return data

    async def close(self) -> None:
        self._file.close()


def _walk(handle: int, prefix: bytes, bounds: Bounds) -> Iterator[_File]:
    """The files below an open folder whose keys lie within the bounds, in the byte order of their keys."""
    for path in _names(handle, prefix):
        name = path[len(prefix) :].rstrip(b"/")
        if path >= bounds.high:
            return
        if path < bounds.low and not (path.endswith(b"/") and bounds.low.startswith(path)):
            continue
        try:
            if path.endswith(b"/"):
                inner = os.open(name, _OPEN_FOLDER, dir_fd=handle)
            else:
                facts = os.stat(name, dir_fd=handle, follow_symlinks=False)
        except OSError:
            continue  # removed meanwhile, or not ours to read
        if not path.endswith(b"/"):
            yield _File(path, facts)
            continue
        try:
            yield from _walk(inner, path, bounds)
        finally:
            os.close(inner)


def _names(handle: int, prefix: bytes) -> list[bytes]:
    """The keys of a folder's files, and the prefixes of its folders, in byte order."""
    found = []
    with os.scandir(handle) as entries:
        for entry in entries:
            if not _is_name(entry.name):
                continue
            path = prefix + entry.name.encode()
            if entry.is_dir(follow_symlinks=False):
                found.append(path + b"/")
            elif entry.is_file(follow_symlinks=False) and len(path) <= MAX_KEY_BYTES:
                found.append(path)
    return sorted(found)


def _is_name(name: str) -> bool:
    """Whether it can be part of a key and names something in its own folder."""
    if name in ("", ".", "..") or any(character < " " or character == "\x7f" for character in name):
        return False
    try:
        name.encode()
    except UnicodeEncodeError:  # a file name that is not UTF-8
        return False
    return True


def _etag(facts: os.stat_result) -> str:
    """The hyphen tells SDKs that it is no MD5."""
    return f'"{facts.st_size:x}-{facts.st_mtime_ns:x}"'
