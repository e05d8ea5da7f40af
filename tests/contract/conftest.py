"""What the contract tests share beside the stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.world import World

from cloudfinite.adapters.store import PostgresStore, SqliteStore


@pytest.fixture(params=["sqlite", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    if request.param == "sqlite":
        opened = World(lambda: SqliteStore(tmp_path / "store.db", synchronous="OFF"))
    else:
        url = request.getfixturevalue("postgres_url")
        opened = World(lambda: PostgresStore(url, connections=2))
    yield opened
    opened.close()
