"""kill -9 at random moments of servers and children: every accepted job ends, and is told once or repeated alike."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from tests.support.storm import Storm, settings_of_storm

from cloudfinite.testing import Server

pytestmark = pytest.mark.crash
SIZES = [
    pytest.param(120, 3, id="short"),
    pytest.param(1_000, 20, id="full", marks=[pytest.mark.full, pytest.mark.timeout(400)]),
]
LEFT = (
    "SELECT (SELECT count(*) FROM ready), (SELECT coalesce(sum(waiting), 0) FROM queue), "
    "(SELECT count(*) FROM job WHERE lease_owner IS NOT NULL), "
    "(SELECT count(*) FROM delivery WHERE state = 'waiting')"
)


@pytest.mark.parametrize(("jobs", "kills"), SIZES)
def test_one_process_on_sqlite_loses_nothing(tmp_path: Path, receiver: Server, jobs: int, kills: int) -> None:
    with Server(data=tmp_path, **settings_of_storm()) as server:
        storm = Storm([server], receiver, jobs, kills, seed=jobs)
        storm.run()
        storm.check()
    with closing(sqlite3.connect(tmp_path / "cloudfinite.db")) as database:
        assert database.execute(LEFT).fetchone() == (0, 0, 0, 0)


@pytest.mark.parametrize(("jobs", "kills"), SIZES)
def test_three_processes_on_postgres_lose_nothing(
    tmp_path: Path, database: str, receiver: Server, jobs: int, kills: int
) -> None:
    settings = settings_of_storm(database=database, shared_objects=True, workers=1)
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(data=tmp_path, **settings)) for _ in range(3)]
        storm = Storm(servers, receiver, jobs, kills, seed=jobs + 1)
        storm.run()
        storm.check()
    with psycopg.connect(database) as connection:
        assert tuple(map(int, connection.execute(LEFT).fetchone() or ())) == (0, 0, 0, 0)
