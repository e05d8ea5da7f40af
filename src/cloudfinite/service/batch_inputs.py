"""The objects of a batch, one after another from wherever it is: memory does not grow with their number.

Each comes with the cursor behind it. A cursor of a file holds the file's ETag: a list that changes under a batch would
make it start some objects twice and others never.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from cloudfinite.domain.batch import Batch
from cloudfinite.domain.objects import ListQuery, StoredObject
from cloudfinite.errors import InvalidContent
from cloudfinite.service.keepers import FoundObject, stream_bytes
from cloudfinite.service.objects import ObjectService
from cloudfinite.wire.inventories import (
    MAX_LINE_BYTES,
    MAX_MANIFEST_BYTES,
    Listed,
    is_whole_row,
    read_inventory_row,
    read_manifest,
    read_url_line,
)

_PAGE = 500
_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31  # zlib's number for the gzip form
_PIECE_BYTES = 1 << 16  # A piece of compressed zeros grows a thousandfold: it is taken in pieces of this size.
_DONE = "done"


@dataclass(frozen=True, slots=True)
class Entry:
    """One object; `cursor` is where the batch is when it has been dealt with. `item`: when its row was read anyway."""

    key: str
    cursor: str
    bucket: str = ""
    modified_at: datetime | None = None
    item: StoredObject | None = None


async def read_entries(objects: ObjectService, batch: Batch) -> AsyncIterator[Entry]:
    """The objects of a batch behind its cursor.

    Raises NoSuchKey, NoSuchBucket, InvalidContent (a file that cannot be read, or has changed), and what a storage
    raises that is away.
    """
    wanted = batch.input
    if wanted.object_key:
        if batch.cursor != _DONE:
            yield Entry(wanted.object_key, _DONE)
    elif wanted.url_file:
        async for entry in _url_entries(objects, batch, wanted.url_file):
            yield entry
    elif wanted.manifest:
        async for entry in _inventory_entries(objects, batch, wanted.manifest):
            yield entry
    else:
        async for entry in _prefix_entries(objects, batch, wanted.prefix):
            yield entry


async def _prefix_entries(objects: ObjectService, batch: Batch, prefix: str) -> AsyncIterator[Entry]:
    marker = batch.cursor
    while True:
        page = await objects.list_objects(batch.bucket, ListQuery(prefix=prefix, marker=marker, size=_PAGE))
        for item in page.objects:
            yield Entry(item.key, item.key, batch.bucket, item.modified_at, item)
        if not page.next_marker:
            return
        marker = page.next_marker


# --- files ---------------------------------------------------------------------------------------------------------


async def _url_entries(objects: ObjectService, batch: Batch, key: str) -> AsyncIterator[Entry]:
    """The cursor is the ETag and the byte behind the line."""
    found = await objects.locate_object(batch.bucket, key)
    position = int(_position(batch.cursor, found.item.etag, key) or "0")
    chunks = stream_bytes(found, position, found.item.size_bytes - position)
    async for line in _lines(chunks, key):
        position += len(line)
        listed = read_url_line(_text(line, key))
        if listed is not None:
            yield _entry(listed, f"{found.item.etag} {position}")


async def _inventory_entries(objects: ObjectService, batch: Batch, key: str) -> AsyncIterator[Entry]:
    """The cursor is the manifest's ETag, the number of the file, and how many of its rows are behind us."""
    found = await objects.locate_object(batch.bucket, key)
    place = _position(batch.cursor, found.item.etag, key)
    file_number, row_number = map(int, place.split(":")) if place else (0, 0)
    manifest = read_manifest(await _read_whole(found, key))
    for number in range(file_number, len(manifest.files)):
        file_key = manifest.files[number]
        rows = 0
        async for row in _rows(await objects.locate_object(batch.bucket, file_key), file_key):
            rows += 1
            if number == file_number and rows <= row_number:
                continue
            yield _entry(read_inventory_row(row, manifest.columns), f"{found.item.etag} {number}:{rows}")


def _entry(listed: Listed, cursor: str) -> Entry:
    return Entry(listed.key, cursor, listed.bucket, listed.modified_at)


def _position(cursor: str, etag: str, key: str) -> str:
    """What a cursor holds behind the ETag. Raises InvalidContent when the file has another ETag now."""
    known, _, position = cursor.rpartition(" ")
    if cursor and known != etag:
        raise InvalidContent(f"the file {key!r} has changed since the batch began with it")
    return position


async def _read_whole(found: FoundObject, key: str) -> bytes:
    if found.item.size_bytes > MAX_MANIFEST_BYTES:
        raise InvalidContent(
            f"the manifest {key!r} has {found.item.size_bytes} bytes; at most {MAX_MANIFEST_BYTES} are allowed"
        )
    return b"".join([chunk async for chunk in stream_bytes(found, 0, found.item.size_bytes)])


async def _rows(found: FoundObject, key: str) -> AsyncIterator[str]:
    """The rows of a CSV file, plain or gzip, without empty ones."""
    chunks = stream_bytes(found, 0, found.item.size_bytes)
    pending = ""
    async for line in _lines(_plain(chunks, key), key):
        pending += _text(line, key)
        if len(pending) > MAX_LINE_BYTES:
            raise InvalidContent(f"a row of {key!r} has more than {MAX_LINE_BYTES} characters")
        if is_whole_row(pending):
            row, pending = pending.strip("\r\n"), ""
            if row:
                yield row
    if pending:
        raise InvalidContent(f"the last row of {key!r} is cut off")


async def _plain(chunks: AsyncIterator[bytes], key: str) -> AsyncIterator[bytes]:
    """The bytes, unpacked when they begin as gzip does; files of several members too."""
    unpacker = None
    is_first, is_cut = True, False
    async for chunk in chunks:
        if is_first and chunk.startswith(_GZIP):
            unpacker = zlib.decompressobj(_GZIP_WINDOW)
        is_first = False
        if unpacker is None:
            yield chunk
            continue
        data = b""
        try:
            while chunk or len(data) == _PIECE_BYTES:
                data = unpacker.decompress(chunk, _PIECE_BYTES)
                chunk, is_cut = unpacker.unconsumed_tail, not unpacker.eof
                if unpacker.eof:
                    chunk, unpacker = unpacker.unused_data, zlib.decompressobj(_GZIP_WINDOW)
                yield data
        except zlib.error as exc:
            raise InvalidContent(f"the file {key!r} is damaged: {exc}") from exc
    if is_cut:
        raise InvalidContent(f"the gzip file {key!r} is cut off")


async def _lines(chunks: AsyncIterator[bytes], key: str) -> AsyncIterator[bytes]:
    """Lines with their ends; the last may lack one."""
    pending = b""
    async for chunk in chunks:
        *whole, pending = (pending + chunk).split(b"\n")
        for line in whole:
            yield line + b"\n"
        if len(pending) > MAX_LINE_BYTES:
            raise InvalidContent(f"a line of {key!r} has more than {MAX_LINE_BYTES} bytes")
    if pending:
        yield pending


def _text(line: bytes, key: str) -> str:
    try:
        return line.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as exc:
        raise InvalidContent(f"the file {key!r} is not UTF-8") from exc
