"""The outbox and its deliverers as seen from outside: deliveries put in as jobs' ends do, and what came of them."""

from __future__ import annotations

import asyncio
import sqlite3
import urllib.request
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from tests.support.waiting import until

from cloudfinite.adapters.store import open_store
from cloudfinite.domain.delivery import Delivery
from cloudfinite.domain.ids import new_delivery_id
from cloudfinite.ports import Transaction
from cloudfinite.testing import Server

CONCURRENCY = 4  # attempts at once per target, the default
QUICK: dict[str, Any] = {
    "ocr_engine": "fixed",
    "workers": 0,
    "lease_s": 1.5,
    "poll_s": 0.5,
    "retry_schedule_s": [0, *[0.1] * 15],
}


@dataclass(frozen=True, slots=True)
class Outbox:
    """Of the PostgreSQL database `url`, or of the SQLite file in `data`, which no server may own while it is put to."""

    data: Path
    url: str = ""

    def put(self, urls: Sequence[str], each: int, *, age: timedelta = timedelta(0), body: bytes = b"") -> set[str]:
        """Commit `each` deliveries to each of the URLs, in turn; returns their ids. Nobody is told."""
        ids = [new_delivery_id() for _ in range(each * len(urls))]
        asyncio.run(self._put(urls, ids, age, body))
        return set(ids)

    async def _put(self, urls: Sequence[str], ids: Sequence[str], age: timedelta, body: bytes) -> None:
        store = open_store(self.url, self.data)

        def insert(tx: Transaction) -> None:
            at = tx.now - age
            for number, key in enumerate(ids):
                url = urls[number % len(urls)]
                text = body or f"<n>{number} {key}</n>".encode()
                tx.deliveries.insert(Delivery(key, f"j{number}", "b-1", url, "application/xml", text, at, at, "req"))

        try:
            await store.run(insert)
        finally:
            await store.close()

    def rows(self, query: str) -> list[Any]:
        if self.url:
            with psycopg.connect(self.url) as connection:
                return connection.execute(query).fetchall()  # type: ignore[arg-type]  # a literal of the test
        with closing(sqlite3.connect(self.data / "cloudfinite.db", timeout=20)) as database:
            return database.execute(query).fetchall()

    def counts(self) -> dict[str, int]:
        """Deliveries by state."""
        return {state: int(count) for state, count in self.rows("SELECT state, count(*) FROM delivery GROUP BY state")}

    def attempts(self) -> dict[str, int]:
        """Attempt rows by delivery, without those of unknown outcome."""
        return self._attempts("outcome <> 'unknown'")

    def unknown(self) -> dict[str, int]:
        """Rows that say that it may have been sent, by delivery."""
        return self._attempts("outcome = 'unknown'")

    def attempt_count(self) -> int:
        return sum(self.attempts().values())

    def _attempts(self, condition: str) -> dict[str, int]:
        query = f"SELECT delivery_id, count(*) FROM attempt WHERE {condition} GROUP BY delivery_id"
        return {key: int(count) for key, count in self.rows(query)}


def deliverer(outbox: Outbox, **changes: Any) -> Server:
    """One process that delivers: all of a server on SQLite, the role alone on PostgreSQL."""
    role = {"role": "deliver", "database": outbox.url, "shared_objects": True} if outbox.url else {}
    return Server(data=outbox.data, **{**QUICK, **role, **changes})


def attempts_made(server: Server) -> int:
    """How many it has made since it started."""
    with urllib.request.urlopen(f"{server.url}/-/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    counted = [line for line in lines if line.startswith("cloudfinite_delivery_attempts_total")]
    return sum(int(float(line.split()[-1])) for line in counted if 'outcome="unknown"' not in line)


def all_delivered(outbox: Outbox, ids: set[str]) -> None:
    until(lambda: outbox.counts() == {"delivered": len(ids)}, "all delivered", poll_s=0.1, wait_s=60)
