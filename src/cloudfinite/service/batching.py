"""Lists out of single items: what arrives while one batch is under way goes together in the next."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Hands items to `flush` in lists, one list at a time; an idle batcher passes an item on at once.

    `flush` must not raise: it owns its failures, because no single item's caller could.
    """

    def __init__(self, flush: Callable[[Sequence[T]], Awaitable[None]], *, limit: int = 256) -> None:
        self._flush = flush
        self._limit = limit
        self._items: list[T] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, item: T) -> None:
        self._items.append(item)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._items:
                batch, self._items = self._items[: self._limit], self._items[self._limit :]
                await self._flush(batch)
        finally:
            self._task = None

    async def drain(self) -> None:
        """Return when everything added so far has been flushed."""
        while self._task is not None:
            await asyncio.wait([self._task])
