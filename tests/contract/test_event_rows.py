"""What every store promises of object events; run on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

from cloudfinite.adapters.store import PostgresStore
from cloudfinite.domain.events import ObjectEvent
from cloudfinite.ports import Store, Transaction

AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)


def event(number: int) -> ObjectEvent:
    return ObjectEvent(
        f"e{number}",
        "cos:ObjectCreated:Put",
        "b-1",
        f"中/{number}",
        1 << 40,
        AT,
        '"etag"',
        "req",
        {"Content-Type": "a/b"},
    )


def insert(tx: Transaction, *numbers: int) -> list[bool]:
    return [tx.events.insert(event(number)) for number in numbers]


def taken(tx: Transaction, limit: int = 10) -> list[str]:
    return [item.id for item in tx.events.take(limit)]


async def test_event_is_read_back_as_inserted_and_once(store: Store) -> None:
    assert await store.run(insert, 1) == [True]
    assert await store.run(insert, 1, 2) == [False, True]
    assert await store.run(lambda tx: tx.events.take(1)) == [event(1)]


async def test_events_are_taken_oldest_first_until_finished(store: Store) -> None:
    await store.run(insert, 3, 1, 2)
    assert await store.run(taken, 2) == ["e3", "e1"]
    await store.run(lambda tx: tx.events.finish(["e3", "e1"]))
    assert await store.run(taken) == ["e2"]


async def test_only_finished_events_are_purged(store: Store) -> None:
    await store.run(insert, 1, 2, 3)
    await store.run(lambda tx: tx.events.finish(["e1", "e2"]))
    assert await store.run(lambda tx: tx.events.purge(tx.now - timedelta(days=1), 10)) == 0
    assert await store.run(lambda tx: tx.events.purge(tx.now + timedelta(days=1), 1)) == 1
    assert await store.run(lambda tx: tx.events.purge(tx.now + timedelta(days=1), 10)) == 1
    assert await store.run(taken) == ["e3"]


async def test_two_processes_take_different_events(postgres_store: PostgresStore) -> None:
    await postgres_store.run(insert, 1, 2)
    both = threading.Barrier(2, timeout=10)

    def take_and_wait(tx: Transaction) -> list[str]:
        ids = taken(tx, 1)
        both.wait()  # neither ends before the other has taken
        tx.events.finish(ids)
        return ids

    found = await asyncio.gather(postgres_store.run(take_and_wait), postgres_store.run(take_and_wait))
    assert sorted(found) == [["e1"], ["e2"]]
