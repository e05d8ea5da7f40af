"""Pages of lists by time of creation: each goes on where the one before it ended, in the order of an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any, Protocol

from sqlalchemy import Column, Select, Table, and_, false, func, or_

from cloudfinite.adapters.schema_base import to_us


class PageFilter(Protocol):
    """What the filters of all such lists have; `after` is the position key of the last page's last row."""

    @property
    def created_from(self) -> datetime | None: ...
    @property
    def created_until(self) -> datetime | None: ...
    @property
    def newest_first(self) -> bool: ...
    @property
    def after(self) -> tuple[datetime, int] | None: ...
    @property
    def size(self) -> int: ...


def paged(query: Select[Any], table: Table, wanted: PageFilter) -> Select[Any]:
    """The query's rows of one page; the table has the columns created_us and seq."""
    created, number = table.c.created_us, table.c.seq
    if wanted.created_from:
        query = query.where(created >= to_us(wanted.created_from))
    if wanted.created_until:
        query = query.where(created <= to_us(wanted.created_until))
    if wanted.after:
        last_us, last = to_us(wanted.after[0]), wanted.after[1]
        # The first condition alone is one that an index can seek.
        if wanted.newest_first:
            query = query.where(and_(created <= last_us, or_(created < last_us, number < last)))
        else:
            query = query.where(and_(created >= last_us, or_(created > last_us, number > last)))
    order = [created.desc(), number.desc()] if wanted.newest_first else [created, number]
    return query.order_by(*order).limit(wanted.size)


def merged(pages: Sequence[Sequence[Any]], wanted: PageFilter) -> Iterator[Any]:
    """One page out of the pages of several queries, which each walk an index: nothing is ever sorted whole."""
    sign = -1 if wanted.newest_first else 1
    return islice(merge(*pages, key=lambda row: (sign * row.created_us, sign * row.seq)), wanted.size)


def has_prefix(column: Column[str], prefixes: Sequence[str]) -> Any:
    """Whether the text begins with one of them. Not LIKE: SQLite's takes no notice of letter case."""
    return or_(false(), *(func.substr(column, 1, len(prefix)) == prefix for prefix in prefixes))
