"""A store for hypothesis' state machines, which run outside of any event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import text

from cloudfinite.adapters.schema import metadata
from cloudfinite.ports import Store

T = TypeVar("T")


class World:
    """A store and the loop it lives in."""

    def __init__(self, open_store: Callable[[], Store]) -> None:
        self.runner = asyncio.Runner()
        self.store = self.run(_opened(open_store))

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    def do(self, function: Callable[..., T], *arguments: Any) -> T:
        found: T = self.run(self.store.run(function, *arguments))
        return found

    def clear(self) -> None:
        engine = self.store.engine  # type: ignore[attr-defined]  # both stores have one
        with engine.begin() as connection:
            for table in metadata.sorted_tables:
                connection.execute(text(f'DELETE FROM "{table.name}"'))

    def close(self) -> None:
        self.run(self.store.close())
        self.runner.close()


async def _opened(open_store: Callable[[], Store]) -> Store:
    return open_store()


def pick(items: list[T], number: int) -> T:
    return items[number % len(items)]
