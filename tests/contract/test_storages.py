"""What the storages of buckets promise: an S3 server, and a folder; reading on both, writing on the first."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import pytest
from tests.support.seaweed import Seaweed

from cloudfinite.adapters.folder import FolderStorage
from cloudfinite.domain.objects import ListQuery, ObjectPage, StoredObject
from cloudfinite.errors import (
    AccessDenied,
    InvalidArgument,
    NoSuchKey,
    SetupError,
    StorageUnavailable,
)
from cloudfinite.ports import BytesReader, Storage

MIB = 1 << 20
NUMBERS = count(1)


class Bytes:
    """`ports.BytesReader` of bytes in memory, in chunks that fit no boundary."""

    def __init__(self, data: bytes, chunk_bytes: int = 300_001) -> None:
        self._data, self._chunk_bytes = data, chunk_bytes

    async def read(self) -> bytes:
        chunk, self._data = self._data[: self._chunk_bytes], self._data[self._chunk_bytes :]
        return chunk

    async def close(self) -> None: ...


class Breaking(Bytes):
    async def read(self) -> bytes:
        if len(self._data) < 5 * MIB:
            raise ConnectionResetError
        return await super().read()


@dataclass
class Place:
    """A storage, and a way to put objects there past us."""

    storage: Storage
    write: Callable[[str, bytes], Awaitable[None]]


def new_object(key: str, data: bytes, **headers: str) -> StoredObject:
    return StoredObject("b-1", key, "", len(data), "", 4711, datetime.fromtimestamp(0, UTC), headers)


@pytest.fixture
async def s3(seaweed: Seaweed) -> AsyncIterator[Place]:
    name = f"contract-{next(NUMBERS)}"
    seaweed.make_bucket(name)
    storage, other = seaweed.storage("b-1", name), seaweed.storage("b-1", name)

    async def write(key: str, data: bytes) -> None:
        await other.put(new_object(key, data), Bytes(data))

    yield Place(storage, write)
    await storage.close()
    await other.close()


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Place]:
    root = tmp_path / "scans"
    root.mkdir()
    storage = FolderStorage("b-1", root)

    async def write(key: str, data: bytes) -> None:
        path = root / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    yield Place(storage, write)
    await storage.close()


@pytest.fixture(params=["s3", "folder"])
def place(request: pytest.FixtureRequest) -> Place:
    found: Place = request.getfixturevalue(request.param)
    return found


async def read(reader: BytesReader) -> bytes:
    data = b""
    try:
        while chunk := await reader.read():
            data += chunk
    finally:
        await reader.close()
    return data


async def all_pages(storage: Storage, wanted: ListQuery) -> list[ObjectPage]:
    pages = [await storage.select(wanted)]
    while marker := pages[-1].next_marker:
        pages.append(await storage.select(ListQuery(wanted.prefix, wanted.delimiter, marker, "", wanted.size)))
    return pages


# --- reading ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["a.png", "中文/图片 1.png", "a+b c&d=e?f#g%41/😀", "dir/.hidden"])
async def test_object_is_found_and_read(place: Place, key: str) -> None:
    data = os.urandom(700_000)
    await place.write(key, data)
    item = await place.storage.find(key)
    assert (item.key, item.size_bytes, item.bucket) == (key, len(data), "b-1")
    assert item.etag.startswith('"') and item.modified_at.tzinfo is UTC
    assert await read(await place.storage.reader(item, 0, len(data))) == data
    assert await read(await place.storage.reader(item, 11, 500_000)) == data[11:500_011]


async def test_empty_object_has_no_bytes(place: Place) -> None:
    await place.write("empty", b"")
    item = await place.storage.find("empty")
    assert (item.size_bytes, await read(await place.storage.reader(item, 0, 0))) == (0, b"")


@pytest.mark.parametrize("key", ["no", "dir", "dir/", "a.png/x", "../scans/a.png", "./a.png", "/a.png", "dir//b", ".."])
async def test_what_is_no_object_is_not_found(folder: Place, key: str) -> None:
    await folder.write("a.png", b"a")
    await folder.write("dir/b", b"b")
    with pytest.raises(NoSuchKey):
        await folder.storage.find(key)


async def test_missing_object_is_told(s3: Place) -> None:
    with pytest.raises(NoSuchKey):
        await s3.storage.find("no")


async def test_object_that_changed_since_it_was_found_is_not_read(place: Place) -> None:
    await place.write("k", b"old")
    item = await place.storage.find("k")
    await place.write("k", b"newer")
    with pytest.raises(StorageUnavailable, match="changed"):
        await place.storage.reader(item, 0, 3)


async def test_list_is_paged_in_byte_order(place: Place) -> None:
    keys = ["a", "b/1", "b/2", "b/c/3", "c中", "d😀", "dz", "e/1"]
    for key in keys:
        await place.write(key, key.encode())
    pages = await all_pages(place.storage, ListQuery(size=3))
    found = [item for page in pages for item in page.objects]
    assert [item.key for item in found] == sorted(keys, key=str.encode)
    assert [item.size_bytes for item in found] == [len(item.key.encode()) for item in found]
    assert [item.etag for item in found] == [(await place.storage.find(item.key)).etag for item in found]


async def test_list_with_delimiter_gives_each_folder_once(place: Place) -> None:
    for key in ("a", "b/1", "b/2", "c/1/x", "d"):
        await place.write(key, b"x")
    pages = await all_pages(place.storage, ListQuery(delimiter="/", size=2))
    assert [item.key for page in pages for item in page.objects] == ["a", "d"]
    assert [name for page in pages for name in page.common_prefixes] == ["b/", "c/"]


async def test_list_by_prefix_needs_no_whole_folder_name(place: Place) -> None:
    for key in ("scan-1", "scan-2", "scans/3", "other"):
        await place.write(key, b"x")
    page = await place.storage.select(ListQuery(prefix="scan"))
    assert [item.key for item in page.objects] == ["scan-1", "scan-2", "scans/3"]


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1, 20 * MIB + 7])
async def test_written_object_keeps_bytes_headers_and_crc(s3: Place, size: int) -> None:
    data = os.urandom(size)
    sent = {"Content-Type": "image/png", "Content-Encoding": "br", "x-cos-meta-team": "蓝"}
    put = await s3.storage.put(new_object("k", data, **sent), Bytes(data))
    item = await s3.storage.find("k")
    assert (item.etag, item.size_bytes, item.crc64) == (put.etag, size, 4711)
    assert dict(item.headers) == sent
    assert await read(await s3.storage.reader(item, 0, size)) == data


@pytest.mark.parametrize("size", [6 * MIB, 30 * MIB])
async def test_upload_that_breaks_off_leaves_the_old_object(s3: Place, size: int) -> None:
    await s3.write("k", b"old")
    with pytest.raises(ConnectionResetError):
        await s3.storage.put(new_object("k", bytes(size)), Breaking(bytes(size)))
    item = await s3.storage.find("k")
    assert await read(await s3.storage.reader(item, 0, 3)) == b"old"


async def test_copy_has_the_headers_that_are_wanted(s3: Place) -> None:
    await s3.storage.put(new_object("a", b"data", **{"x-cos-meta-a": "1"}), Bytes(b"data"))
    source = await s3.storage.find("a")
    await s3.storage.copy(source, new_object("b c", b"data", **{"x-cos-meta-b": "2"}))
    copy = await s3.storage.find("b c")
    assert (copy.headers["x-cos-meta-b"], copy.crc64) == ("2", 4711)
    assert "x-cos-meta-a" not in copy.headers
    assert await read(await s3.storage.reader(copy, 0, 4)) == b"data"


async def test_deleting_twice_is_fine(s3: Place) -> None:
    await s3.write("k", b"data")
    await s3.storage.delete("k")
    await s3.storage.delete("k")
    with pytest.raises(NoSuchKey):
        await s3.storage.find("k")


@pytest.mark.parametrize("key", ["a//b", "/lead", "a/./b", "../x", "a/..", "a\\b", "dir/"])
async def test_key_that_a_storage_may_confuse_is_refused_and_not_stored(s3: Place, key: str) -> None:
    with pytest.raises(InvalidArgument, match="storage"):
        await s3.storage.put(new_object(key, b"data"), Bytes(b"data"))
    assert (await s3.storage.select(ListQuery())).objects == ()


async def test_many_uploads_at_once_share_a_few_buffers(s3: Place) -> None:
    data = os.urandom(17 * MIB)
    keys = [f"k{number}" for number in range(12)]
    await asyncio.gather(*(s3.storage.put(new_object(key, data), Bytes(data)) for key in keys))
    assert [item.size_bytes for item in (await s3.storage.select(ListQuery())).objects] == [len(data)] * 12


# --- places ----------------------------------------------------------------------------------------------------------


async def test_bucket_that_is_not_there_is_refused_at_the_start(seaweed: Seaweed) -> None:
    storage = seaweed.storage("b-1", "never-made")
    with pytest.raises(SetupError, match="never-made"):
        await storage.check()
    await storage.close()


async def test_folder_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    storage = FolderStorage("b-1", tmp_path / "none")
    with pytest.raises(SetupError, match="no readable folder"):
        await storage.check()
    await storage.close()


async def test_nothing_is_written_to_a_folder(folder: Place) -> None:
    await folder.write("k", b"data")
    item = await folder.storage.find("k")
    for writing in (
        folder.storage.put(item, Bytes(b"new!")),
        folder.storage.copy(item, item),
        folder.storage.delete("k"),
    ):
        with pytest.raises(AccessDenied, match="only read"):
            await writing


async def test_no_link_leads_out_of_a_folder(folder: Place, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    root = tmp_path / "scans"
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "dir").symlink_to(tmp_path / "private")
    os.mkfifo(root / "pipe")
    await folder.write("own", b"data")
    assert [item.key for item in (await folder.storage.select(ListQuery())).objects] == ["own"]
    for key in ("link", "dir/key", "pipe"):
        with pytest.raises(NoSuchKey):
            await folder.storage.find(key)
