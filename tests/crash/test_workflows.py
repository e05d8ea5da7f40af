"""kill -9 while workflows run: each upload starts its run once, each step runs as the graph says, each end is told."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from tests.support.flow_operations import MODULE
from tests.support.flow_storm import FlowStorm
from tests.support.storm import settings_of_storm

from cloudfinite.testing import Server

pytestmark = pytest.mark.crash
SIZES = [
    pytest.param(25, 3, id="short"),
    pytest.param(200, 25, id="full", marks=[pytest.mark.full, pytest.mark.timeout(600)]),
]


@pytest.mark.parametrize(("uploads", "kills"), SIZES)
def test_runs_of_one_process_on_sqlite_survive_kills(
    tmp_path: Path, receiver: Server, uploads: int, kills: int
) -> None:
    with Server(data=tmp_path, **settings_of_storm(operation_modules=[MODULE])) as server:
        storm = FlowStorm([server], receiver, uploads, kills, seed=uploads)
        storm.run()
        with closing(sqlite3.connect(tmp_path / "cloudfinite.db", timeout=30)) as database:
            storm.check(lambda words: database.execute(words).fetchall())


@pytest.mark.parametrize(("uploads", "kills"), SIZES)
def test_runs_of_three_processes_on_postgres_survive_kills(
    tmp_path: Path, database: str, receiver: Server, uploads: int, kills: int
) -> None:
    settings = settings_of_storm(database=database, shared_objects=True, workers=1, operation_modules=[MODULE])
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(data=tmp_path, **settings)) for _ in range(3)]
        storm = FlowStorm(servers, receiver, uploads, kills, seed=uploads + 1)
        storm.run()
        with psycopg.connect(database, autocommit=True) as connection:
            storm.check(lambda words: connection.execute(words).fetchall())


# Each gap from the first statement of the transaction on: that which starts a run, that which ends a step.
GAPS = [("INSERT INTO execution", point) for point in range(8)] + [("UPDATE step", point) for point in range(10)]
FEW = {("INSERT INTO execution", 1), ("INSERT INTO execution", 5), ("UPDATE step", 1), ("UPDATE step", 6)}


@pytest.mark.parametrize(
    ("pattern", "point"), [pytest.param(*gap, marks=[] if gap in FEW else pytest.mark.full) for gap in GAPS]
)
def test_a_kill_between_two_statements_of_a_run_neither_loses_nor_doubles(
    tmp_path: Path, receiver: Server, pattern: str, point: int
) -> None:
    server = Server(data=tmp_path, **settings_of_storm(operation_modules=[MODULE], workers=1))
    storm = FlowStorm([server], receiver, uploads=1, kills=0, seed=1_000 + GAPS.index((pattern, point)))
    server.command, usual = ("-m", "tests.support.crashing", pattern, str(point)), server.command
    server.start()
    storm.make_workflows()
    storm.upload()
    assert server.process is not None
    server.process.wait(timeout=20)
    server.command = usual
    with server, closing(sqlite3.connect(tmp_path / "cloudfinite.db", timeout=30)) as database:
        storm.check(lambda words: database.execute(words).fetchall())
        assert len(database.execute("SELECT id FROM execution").fetchall()) == 1
