"""What must hold whatever order the deliverer's look, its record and other processes' transactions come in."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from tests.integration.test_delivery import desk_on, insert
from tests.support.fault_server import Peer, fault_server

from cloudfinite.adapters.store import SqliteStore, system_clock
from cloudfinite.domain.delivery import Delivery, DeliveryState
from cloudfinite.domain.ids import new_delivery_id
from cloudfinite.errors import ServiceUnavailable
from cloudfinite.ports import Store, Transaction


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db", synchronous="OFF")
    yield store
    await store.close()


class SlowLook:
    """A store whose answer to a look comes when the test lets it; its transaction was committed before."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.is_held = False
        self.looked = asyncio.Event()
        self.go_on = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def run(self, work: Callable[..., object], *args: object) -> object:
        answer = await self._store.run(work, *args)
        if self.is_held and work.__name__ == "look":
            self.is_held = False
            self.looked.set()
            await self.go_on.wait()
        return answer


def end_leases(tx: Transaction) -> None:
    """As when the deliverer was too busy to renew them."""
    tx.connection.execute(text("UPDATE target SET wake_us = 1 WHERE lease_owner IS NOT NULL"))  # type: ignore[attr-defined]


async def test_a_target_leased_anew_does_not_bring_back_what_was_just_sent(sqlite_store: SqliteStore) -> None:
    answer = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await answer.wait()
        await peer.answer()

    slow = SlowLook(sqlite_store)
    async with fault_server(wait) as receiver, desk_on(slow) as desk:  # type: ignore[arg-type]
        (made,) = await desk.put(receiver.url)
        await receiver.wait_for(1)
        await sqlite_store.run(end_leases)
        slow.is_held = True
        desk.deliverer.wake()
        await asyncio.wait_for(slow.looked.wait(), 5)  # it was read as waiting, in the lease taken anew
        answer.set()
        await desk.wait_ended(made)
        slow.go_on.set()
        (later,) = await desk.put(receiver.url)
        await desk.wait_ended(later)
        assert [peer.headers["webhook-id"] for peer in receiver.requests] == [made.id, later.id]


async def test_renewal_waits_for_others_in_the_order_of_urls(postgres_store: Store, postgres_url: str) -> None:
    """Who holds one target's row and asks for another's meets nobody who does it the other way round."""
    now = await postgres_store.read(lambda tx: tx.now)
    for url in ("http://z/", "http://a/"):  # so they lie in the table
        made = Delivery(new_delivery_id(), "j", "b", url, "application/xml", b"<x/>", now, now)
        await postgres_store.run(insert, [made])
        await postgres_store.run(lambda tx: tx.deliveries.admit("me", timedelta(minutes=1), 10, 10))
    with psycopg.connect(postgres_url) as other:
        other.execute("UPDATE target SET rate_per_s = 0 WHERE url = 'http://a/'")
        renewal = asyncio.create_task(postgres_store.run(lambda tx: tx.deliveries.renew("me", timedelta(minutes=1))))
        await asyncio.to_thread(wait_until_blocked, postgres_url)
        await asyncio.to_thread(other.execute, "UPDATE target SET rate_per_s = 0 WHERE url = 'http://z/'")
        other.commit()
        assert set(await renewal) == {"http://a/", "http://z/"}


def wait_until_blocked(url: str) -> None:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with psycopg.connect(url, autocommit=True) as watcher:
        while watcher.execute(query).fetchone() == (0,):
            threading.Event().wait(0.01)


async def test_a_file_locked_by_somebody_else_fails_the_call_and_not_the_store(
    sqlite_store: SqliteStore, tmp_path: Path
) -> None:
    await sqlite_store.run(lambda tx: tx.connection.execute(text("PRAGMA busy_timeout = 20")))  # type: ignore[attr-defined]
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ServiceUnavailable):
            await asyncio.wait_for(sqlite_store.run(lambda tx: tx.now), 5)
    now = system_clock()
    made = Delivery(new_delivery_id(), "j", "b", "http://x/", "application/xml", b"<x/>", now, now)
    await asyncio.wait_for(sqlite_store.run(insert, [made]), 5)
    stored = await sqlite_store.read(lambda tx: tx.deliveries.get(made.id))
    assert stored is not None and stored.state is DeliveryState.WAITING
