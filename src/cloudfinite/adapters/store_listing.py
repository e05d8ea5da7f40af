"""One page of a list of keys, with common prefixes, by range seeks: its cost does not grow with what it passes over.

A bound is inclusive. Two bytes that no key contains make bounds: NUL sorts before, 0xFF behind every continuation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from cloudfinite.domain.objects import ListQuery

# Rows read at once, doubling while they are all of use; back to the fewest after each seek past a common prefix. So a
# page of folders costs a short query for each, however full they are, and a page of keys a few long ones.
_FEWEST, _MOST = 2, 512


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a fetch gives: keys from `low` on, in `low` itself only ids above `low_id`; all of them below `high`."""

    low: bytes
    low_id: str
    high: bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A row as `fetch` gave it, or without one the common prefix `name`."""

    name: bytes
    row: Any


def list_entries(
    wanted: ListQuery, fetch: Callable[[Bounds, int], Sequence[Any]], id_column: str = ""
) -> tuple[list[Entry], bool]:
    """The page's entries in byte order, and whether more follow. `fetch` reads rows with a `key` in their order."""
    prefix, delimiter = wanted.prefix.encode(), wanted.delimiter.encode()
    low, low_id, high = _start(wanted), wanted.marker_id, prefix + b"\xff"
    entries: list[Entry] = []
    missing = wanted.size + 1  # one more tells that more follow
    batch = _FEWEST if delimiter else _MOST
    while wanted.size and missing > 0:
        limit = min(missing, batch)
        rows = fetch(Bounds(low, low_id, high), limit)
        for row in rows:
            key = bytes(row.key)
            low, low_id = (key, getattr(row, id_column)) if id_column else (key + b"\x00", "")
            common = _common_prefix(key, prefix, delimiter)
            if not common:
                entries.append(Entry(key, row))
            elif not entries or entries[-1].name != common or entries[-1].row is not None:
                entries.append(Entry(common, None))
        if len(rows) < limit:
            break
        batch = min(batch * 2, _MOST)
        if entries[-1].row is None:
            low, low_id = entries[-1].name + b"\xff", ""
            batch = _FEWEST
        missing = wanted.size + 1 - len(entries)
    return entries[: wanted.size], len(entries) > wanted.size


def _start(wanted: ListQuery) -> bytes:
    prefix, marker = wanted.prefix.encode(), wanted.marker.encode()
    if marker < prefix or not marker:
        return prefix
    # Only what sorts after the marker is given; the common prefix that the marker lies in does not.
    if common := _common_prefix(marker, prefix, wanted.delimiter.encode()):
        return common + b"\xff"
    return marker if wanted.marker_id else marker + b"\x00"


def _common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes:
    """`key` up to the first delimiter behind the prefix, or b"" when there is none."""
    if not delimiter or not key.startswith(prefix):
        return b""
    end = key.find(delimiter, len(prefix))
    return key[: end + len(delimiter)] if end >= 0 else b""
