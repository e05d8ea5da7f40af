"""The local object store: bytes in files named by random ids, in a folder of this machine or one declared shared.

A new file is durable before its id is known to anybody: temporary file, fsync, rename, fsync of the folder; the row
that names it comes after. So a crash leaves the old or the new object, and at worst a file that no row names.

A file is not removed when its row goes, but a while later, and never while this process reads it: whoever has just
read the row can still open the file, readers on other machines of a shared folder finish, a job's input stays where
it is. Files never change, so a copy is a hard link.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

from fastcrc import crc64

from cloudfinite.domain.objects import Piece
from cloudfinite.errors import BadDigest, EntityTooLarge, IncompleteBody, InsufficientStorage
from cloudfinite.ports import StoredBytes

R = TypeVar("R")

_WRITE_BYTES = 1 << 20  # one thread hop per MiB: a hop costs a tenth of what hashing and writing it does
_READ_BYTES = 1 << 18  # what a slow reader holds of our memory
_FLUSH_S = 60.0  # A trickling upload touches its file this often, so that its age tells that it lives.
_THREADS = 8  # They wait for the disk, not for clients.
_HEX = "0123456789abcdef"
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.EXDEV})


class LocalObjects:
    """`ports.Objects` in a folder: files in `<hex digit>/<hex digit>/<id>`, unfinished ones in `tmp`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._tmp = folder / "tmp"
        _make_folders(folder, self._tmp)
        self._pins: Counter[str] = Counter()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")

    def close(self) -> None:
        self._threads.shutdown()

    def path(self, file_id: str) -> Path:
        return self._folder / file_id[0] / file_id[1] / file_id

    async def write(
        self,
        chunks: AsyncIterator[bytes],
        *,
        limit_bytes: int,
        size_bytes: int | None = None,
        md5: bytes | None = None,
    ) -> StoredBytes:
        file = _NewFile(self, self._tmp)
        buffered: list[bytes] = []
        buffered_bytes = total_bytes = 0
        flushed_at = time.monotonic()
        writing: asyncio.Future[None] | None = None  # The next MiB arrives while the last one is hashed and written.
        try:
            async for chunk in chunks:
                total_bytes += len(chunk)
                if total_bytes > limit_bytes:
                    raise EntityTooLarge(f"the object has more than {limit_bytes} bytes, the limit of this server")
                buffered.append(chunk)
                buffered_bytes += len(chunk)
                if buffered_bytes >= _WRITE_BYTES or time.monotonic() - flushed_at > _FLUSH_S:
                    if writing:
                        await writing
                    writing = self._submit(file.append, buffered)
                    buffered, buffered_bytes, flushed_at = [], 0, time.monotonic()
            if size_bytes is not None and total_bytes != size_bytes:
                raise IncompleteBody(f"the body has {total_bytes} bytes; Content-Length says {size_bytes}")
            if writing:
                await writing
            return await self._submit(file.finish, buffered, md5)
        except BaseException:
            if writing:
                writing.add_done_callback(_retrieve)
            await asyncio.shield(self._submit(file.discard))
            raise

    async def copy(self, file_id: str) -> str:
        with self._pinned([file_id]):
            return await self._submit(self._copy, file_id)

    def _copy(self, file_id: str) -> str:
        new_id = new_file_id()
        source, target = self.path(file_id), self.path(new_id)
        os.utime(source)  # Before the link: what has just been made must look young to `stale`.
        try:
            os.link(source, target)
        except OSError as exc:
            if exc.errno not in _NO_LINKS:
                raise
            self._concatenate([file_id], target)
        sync_folder(target.parent)
        return new_id

    async def reader(self, pieces: Sequence[Piece], start: int, size_bytes: int) -> LocalReader:
        reader = LocalReader(self, _spans(pieces, start, size_bytes))
        try:
            await self._submit(reader.prepare)
        except BaseException:
            await asyncio.shield(reader.close())
            raise
        return reader

    @asynccontextmanager
    async def readable(self, pieces: Sequence[Piece]) -> AsyncIterator[Path]:
        file_ids = [piece.file_id for piece in pieces]
        if len(pieces) == 1:
            with self._pinned(file_ids):
                yield self.path(file_ids[0])
            return
        whole_id = new_file_id()
        whole = self._tmp / whole_id
        with self._pinned([whole_id]):
            try:
                with self._pinned(file_ids):
                    await self._submit(self._concatenate, file_ids, whole)
                yield whole
            finally:
                await asyncio.shield(self._submit(_unlink, whole))

    def _concatenate(self, file_ids: Sequence[str], target: Path) -> None:
        try:
            with _full_disk_told(), target.open("xb") as whole:
                for file_id in file_ids:
                    with self.path(file_id).open("rb") as piece:
                        shutil.copyfileobj(piece, whole, _WRITE_BYTES)
                whole.flush()
                os.fsync(whole.fileno())
        except BaseException:
            _unlink(target)
            raise

    async def delete(self, file_ids: Sequence[str]) -> list[str]:
        unread = [file_id for file_id in file_ids if not self._pins[file_id]]
        await self._submit(_unlink_all, [self.path(file_id) for file_id in unread])
        return unread

    async def stale(self, age_s: float) -> AsyncIterator[list[str]]:
        until = time.time() - age_s
        for name in await self._submit(_stale_files, self._tmp, until):
            if not self._pins[name]:
                await self._submit(_unlink, self._tmp / name)
        for folder in await self._submit(lambda: sorted(self._folder.glob("[0-9a-f]"))):
            yield await self._submit(_stale_below, folder, until)

    def _submit(self, function: Callable[..., R], *arguments: object) -> asyncio.Future[R]:
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    async def in_thread(self, function: Callable[[], R]) -> R:
        return await self._submit(function)

    @contextmanager
    def _pinned(self, file_ids: Sequence[str]) -> Iterator[None]:
        self.pin(file_ids)
        try:
            yield
        finally:
            self.unpin(file_ids)

    def pin(self, file_ids: Sequence[str]) -> None:
        """Keep these files until `unpin`; called in the event loop's thread only."""
        self._pins.update(file_ids)

    def unpin(self, file_ids: Sequence[str]) -> None:
        self._pins.subtract(file_ids)
        for file_id in file_ids:
            if self._pins[file_id] <= 0:
                del self._pins[file_id]


class _NewFile:
    """A file being written; each method runs in a thread, and they exclude one another."""

    def __init__(self, store: LocalObjects, tmp: Path) -> None:
        self._store = store
        self._id = new_file_id()
        self._tmp = tmp / self._id
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._is_discarded = False
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc64 = 0
        self._size_bytes = 0

    def append(self, chunks: Sequence[bytes]) -> None:
        with self._lock, _full_disk_told():
            self._append(chunks)

    def _append(self, chunks: Sequence[bytes]) -> None:
        if self._is_discarded:
            return  # Its upload was cancelled while this waited for a thread.
        if self._file is None:
            self._file = self._tmp.open("xb", buffering=0)
        data = b"".join(chunks)
        self._md5.update(data)
        self._crc64 = crc64.xz(data, self._crc64)
        self._size_bytes += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]

    def finish(self, chunks: Sequence[bytes], md5: bytes | None) -> StoredBytes:
        with self._lock, _full_disk_told():
            self._append(chunks)
            digest = self._md5.digest()
            if md5 is not None and md5 != digest:
                raise BadDigest()
            assert self._file is not None, "a discarded upload is not finished"
            os.fsync(self._file.fileno())
            self._file.close()
            target = self._store.path(self._id)
            self._tmp.rename(target)
            sync_folder(target.parent)
            return StoredBytes(self._id, self._size_bytes, digest, self._crc64)

    def discard(self) -> None:
        with self._lock:
            self._is_discarded = True
            if self._file is not None:
                self._file.close()
                _unlink(self._tmp)
                _unlink(self._store.path(self._id))


class LocalReader:
    """`ports.BytesReader`. The first chunk is read with the opening, so that a small object costs one thread hop."""

    def __init__(self, store: LocalObjects, spans: list[tuple[str, int, int]]) -> None:
        self._store = store
        self._spans = spans
        self._pinned = [file_id for file_id, _, _ in spans]
        self._store.pin(self._pinned)
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._left_bytes = 0
        self._first: bytes | None = None

    def prepare(self) -> None:
        self._first = self._read()

    async def read(self) -> bytes:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        if not self._file and not self._spans:
            return b""
        return await self._store.in_thread(self._read)

    def _read(self) -> bytes:
        with self._lock:
            if self._file is None:
                if not self._spans:
                    return b""
                file_id, offset, self._left_bytes = self._spans.pop(0)
                self._file = self._store.path(file_id).open("rb", buffering=0)
                self._file.seek(offset)
            data = self._file.read(min(_READ_BYTES, self._left_bytes))
            self._left_bytes -= len(data)
            if not data or not self._left_bytes:
                self._file.close()
                self._file = None
            if not data:
                raise OSError(errno.EIO, "an object's file is shorter than its row says")
            return data

    async def close(self) -> None:
        pinned, self._pinned = self._pinned, []
        self._store.unpin(pinned)
        self._spans = []
        if self._file is not None:
            await self._store.in_thread(self._close)

    def _close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def new_file_id() -> str:
    return secrets.token_hex(16)


def _make_folders(folder: Path, tmp: Path) -> None:
    """All 256 at once: made one by one, each would cost its first object two more syncs."""
    tmp.mkdir(parents=True, exist_ok=True)
    for first in _HEX:
        for second in _HEX:
            (folder / first / second).mkdir(parents=True, exist_ok=True)
        sync_folder(folder / first)
    sync_folder(folder)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _spans(pieces: Sequence[Piece], start: int, size_bytes: int) -> list[tuple[str, int, int]]:
    """(file id, offset, length) of what lies in the range; empty files and an empty range give none."""
    spans = []
    for piece in pieces:
        length = min(piece.size_bytes - start, size_bytes)
        if length > 0:
            spans.append((piece.file_id, start, length))
            size_bytes -= length
        start = max(0, start - piece.size_bytes)
    return spans


@contextmanager
def _full_disk_told() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise InsufficientStorage(f"nothing was stored: {exc.strerror}") from exc
        raise


def _stale_below(folder: Path, until: float) -> list[str]:
    return [name for level in sorted(folder.iterdir()) for name in _stale_files(level, until)]


def _stale_files(folder: Path, until: float) -> list[str]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # finished or removed in the meantime
                if entry.stat(follow_symlinks=False).st_mtime <= until:
                    names.append(entry.name)
    return names


def _unlink(path: Path) -> None:
    path.unlink(missing_ok=True)


def _unlink_all(paths: Sequence[Path]) -> None:
    for path in paths:
        _unlink(path)


def _retrieve(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
