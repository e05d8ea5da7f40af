"""What the object store promises of bytes; run on the local folder."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fastcrc import crc64

from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.domain.objects import Piece
from cloudfinite.errors import BadDigest, EntityTooLarge, IncompleteBody, InsufficientStorage

MIB = 1 << 20


@pytest.fixture
def objects(tmp_path: Path) -> Iterator[LocalObjects]:
    store = LocalObjects(tmp_path / "objects")
    yield store
    store.close()


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def put(objects: LocalObjects, data: bytes) -> Piece:
    stored = await objects.write(stream(data), limit_bytes=len(data))
    return Piece(stored.file_id, stored.size_bytes)


async def read(objects: LocalObjects, pieces: list[Piece], start: int, size_bytes: int) -> bytes:
    reader = await objects.reader(pieces, start, size_bytes)
    data = b""
    while chunk := await reader.read():
        data += chunk
    await reader.close()
    return data


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, 3 * MIB + 7])
async def test_written_bytes_are_measured_and_read_back(objects: LocalObjects, size: int) -> None:
    data = os.urandom(size)
    pieces = [data[start : start + 100_000] for start in range(0, size, 100_000)]
    stored = await objects.write(stream(*pieces), limit_bytes=size, size_bytes=size, md5=hashlib.md5(data).digest())
    assert (stored.size_bytes, stored.md5, stored.crc64) == (size, hashlib.md5(data).digest(), crc64.xz(data))
    assert await read(objects, [Piece(stored.file_id, size)], 0, size) == data


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ({"limit_bytes": 2 * MIB}, EntityTooLarge),
        ({"limit_bytes": 9 * MIB, "size_bytes": 4 * MIB}, IncompleteBody),
        ({"limit_bytes": 9 * MIB, "md5": bytes(16)}, BadDigest),
    ],
)
async def test_refused_body_leaves_nothing(
    objects: LocalObjects, tmp_path: Path, wanted: dict[str, int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await objects.write(stream(*[bytes(MIB)] * 3), **wanted)
    assert files_in(tmp_path) == []


async def test_upload_that_breaks_off_leaves_nothing(objects: LocalObjects, tmp_path: Path) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        yield bytes(3 * MIB)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await objects.write(breaking(), limit_bytes=9 * MIB)
    assert files_in(tmp_path) == []


async def test_cancelled_upload_leaves_nothing(objects: LocalObjects, tmp_path: Path) -> None:
    is_waiting = asyncio.Event()

    async def stalling() -> AsyncIterator[bytes]:
        yield bytes(2 * MIB)
        is_waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(objects.write(stalling(), limit_bytes=9 * MIB))
    await is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files_in(tmp_path) == []


async def test_full_disk_is_told_and_leaves_nothing(
    objects: LocalObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cloudfinite.adapters.objects.os.fsync", full)
    with pytest.raises(InsufficientStorage):
        await objects.write(stream(b"data"), limit_bytes=9)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(("start", "size"), [(0, 12), (0, 3), (2, 5), (4, 4), (5, 0), (8, 4), (11, 1)])
async def test_range_goes_over_pieces(objects: LocalObjects, start: int, size: int) -> None:
    pieces = [await put(objects, data) for data in (b"abcd", b"", b"efgh", b"ijkl")]
    assert await read(objects, pieces, start, size) == b"abcdefghijkl"[start : start + size]


async def test_reader_keeps_its_bytes_when_they_are_deleted(objects: LocalObjects) -> None:
    pieces = [await put(objects, b"a" * MIB), await put(objects, b"b" * MIB)]
    reader = await objects.reader(pieces, 0, 2 * MIB)
    assert await objects.delete([piece.file_id for piece in pieces]) == []
    data = b""
    while chunk := await reader.read():
        data += chunk
    await reader.close()
    assert data == b"a" * MIB + b"b" * MIB
    assert len(await objects.delete([piece.file_id for piece in pieces])) == 2


async def test_file_read_by_path_stays_until_the_block_ends(objects: LocalObjects) -> None:
    piece = await put(objects, b"data")
    async with objects.readable([piece]) as path:
        await objects.delete([piece.file_id])
        assert path.read_bytes() == b"data"
    await objects.delete([piece.file_id])
    assert not path.exists()


async def test_pieces_are_readable_as_one_file_that_goes_again(objects: LocalObjects, tmp_path: Path) -> None:
    pieces = [await put(objects, b"ab"), await put(objects, b"cd")]
    async with objects.readable(pieces) as path:
        assert path.read_bytes() == b"abcd"
    assert not path.exists()
    assert len(files_in(tmp_path)) == 2


async def test_copy_outlives_its_source(objects: LocalObjects) -> None:
    piece = await put(objects, b"data")
    copy = await objects.copy(piece.file_id)
    await objects.delete([piece.file_id])
    assert await read(objects, [Piece(copy, 4)], 0, 4) == b"data"


async def test_copy_works_without_hard_links(objects: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("cloudfinite.adapters.objects.os.link", refuse)
    piece = await put(objects, b"data")
    copy = await objects.copy(piece.file_id)
    assert await read(objects, [Piece(copy, 4)], 0, 4) == b"data"


async def test_deleting_twice_is_fine(objects: LocalObjects) -> None:
    piece = await put(objects, b"data")
    assert await objects.delete([piece.file_id]) == [piece.file_id]
    assert await objects.delete([piece.file_id]) == [piece.file_id]


async def stale(objects: LocalObjects, age_s: float) -> set[str]:
    return {file_id async for batch in objects.stale(age_s) for file_id in batch}


async def test_only_old_files_are_stale(objects: LocalObjects) -> None:
    old, young = await put(objects, b"old"), await put(objects, b"young")
    os.utime(objects.path(old.file_id), (0, 0))
    assert await stale(objects, 3600) == {old.file_id}
    assert await stale(objects, -1) == {old.file_id, young.file_id}


async def test_copy_of_an_old_file_is_young(objects: LocalObjects) -> None:
    piece = await put(objects, b"data")
    os.utime(objects.path(piece.file_id), (0, 0))
    copy = await objects.copy(piece.file_id)
    assert copy not in await stale(objects, 3600)


async def test_unfinished_file_of_a_crash_is_removed_when_old(objects: LocalObjects, tmp_path: Path) -> None:
    left = tmp_path / "objects" / "tmp" / "0123"
    left.write_bytes(b"half")
    await stale(objects, 3600)
    assert left.exists()
    os.utime(left, (0, 0))
    await stale(objects, 3600)
    assert not left.exists()


async def test_missing_file_is_told_before_the_answer_begins(objects: LocalObjects) -> None:
    with pytest.raises(FileNotFoundError):
        await objects.reader([Piece("0" * 32, 4)], 0, 4)


async def test_file_shorter_than_its_row_breaks_the_stream(objects: LocalObjects) -> None:
    piece = await put(objects, b"data")
    reader = await objects.reader([Piece(piece.file_id, 9)], 0, 9)
    assert await reader.read() == b"data"
    with pytest.raises(OSError, match="shorter"):
        await reader.read()
    await reader.close()
