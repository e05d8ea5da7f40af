"""Several processes on one PostgreSQL: they wake one another, share queues and leave no trace when they stop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from tests.support.postgres import fresh_database
from tests.support.steady_operations import lines
from tests.support.storm import settings_of_storm
from tests.support.waiting import until
from tests.support.wire_client import RefusedError, WireClient

from cloudfinite.adapters.data_folder import DataFolder
from cloudfinite.adapters.migrate import migrate
from cloudfinite.adapters.postgres import postgres_url as sqlalchemy_url
from cloudfinite.adapters.wakeups_postgres import PostgresWakeups
from cloudfinite.app import App
from cloudfinite.errors import SetupError
from cloudfinite.ports import Topic
from cloudfinite.settings import read_settings
from cloudfinite.testing import Server

NEVER_S = 600  # a poll that no test lives to see: what happens before was woken


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    with fresh_database(postgres_url) as url:
        yield url


def patient(database: str, **changes: Any) -> dict[str, Any]:
    """Processes that look at nothing unasked, so that what happens was woken."""
    settings = {"database": database, "shared_objects": True, "workers": 1, "lease_s": NEVER_S, "poll_s": NEVER_S}
    return settings_of_storm(**settings, **changes)


# --- roles, each in a process of its own ---------------------------------------------------------------------------


@pytest.fixture
def roles(tmp_path: Path, database: str) -> Iterator[dict[str, Server]]:
    settings = patient(database)
    with ExitStack() as stack:
        yield {
            role: stack.enter_context(Server(data=tmp_path, role=role, **settings))
            for role in ("api", "worker", "deliver")
        }


def test_roles_in_processes_of_their_own_wake_one_another_and_obey_a_paused_queue(
    tmp_path: Path, roles: dict[str, Server]
) -> None:
    client = WireClient(roles["api"])
    file = tmp_path / "held"
    client.put("a")
    inbox = roles["deliver"].inbox("told")
    running = client.submit("Held", file=file, callback=inbox)
    until(lambda: lines(file), "the worker was woken")
    waiting = client.submit("Brief", callback=inbox)
    client.set_queue_state("Paused")
    assert client.job(waiting).state == "Pause"
    with pytest.raises(RefusedError, match="QueuePaused"):
        client.submit("Brief")
    file.with_name("held.go").touch()
    roles["deliver"].wait_for_callbacks("told", 1, wait_s=10)
    # The worker's child is free: what it takes next is of another queue, in spite of the older job that waits.
    for _ in range(2):
        other = client.submit_ocr()
        until(lambda other=other: client.job(other).state == "Success", "another queue's job ends")  # type: ignore[misc]
    assert (client.job(running).state, client.job(waiting).state) == ("Success", "Pause")
    client.set_queue_state("Active")
    roles["deliver"].wait_for_callbacks("told", 2, wait_s=10)
    assert client.job(waiting).state == "Success"


def test_a_drain_gives_its_job_to_another_process_and_is_no_attempt(tmp_path: Path, database: str) -> None:
    file = tmp_path / "held"
    first, second = (Server(data=tmp_path, **patient(database, drain_s=0.1)) for _ in range(2))
    with first, second:
        client = WireClient(first)
        client.put("a")
        job_id = client.submit("Held", file=file)
        until(lambda: lines(file), "the job runs")
        assert {first.stop(), second.stop()} == {0}  # so wherever it ran, it has been given back
        first.start()
        until(lambda: lines(file)[1:], "the job runs again")
        second.start()
        assert first.stop() == 0
        until(lambda: len(lines(file)) >= 3, "the other process was woken for it")
        file.with_name("held.go").touch()
        until(lambda: WireClient(second).job(job_id).state == "Success", "the job ended")
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT attempts FROM job").fetchall() == [(1,)]


def test_a_callback_is_sent_at_once_by_the_process_that_holds_its_receiver(tmp_path: Path, database: str) -> None:
    file = tmp_path / "held"
    with Server(data=tmp_path, **patient(database, drain_s=0.1)) as holder:
        client = WireClient(holder)
        client.put("a")
        client.submit("Brief", callback=holder.inbox("told"))
        holder.wait_for_callbacks("told", 1)
        client.submit("Held", file=file, callback=holder.inbox("told"))
        until(lambda: lines(file), "the holder is busy")
        with Server(data=tmp_path, **patient(database, drain_s=0.1)):
            client.submit("Brief", callback=holder.inbox("told"))
            holder.wait_for_callbacks("told", 2, wait_s=10)
            file.with_name("held.go").touch()
            holder.wait_for_callbacks("told", 3, wait_s=10)


# --- LISTEN and NOTIFY ---------------------------------------------------------------------------------------------


class Ear:
    """Hears the wake-ups of one process."""

    def __init__(self, url: str) -> None:
        self.wakeups = PostgresWakeups(url)
        self._heard = asyncio.Event()
        self.wakeups.listen(Topic.JOBS, self._heard.set)

    async def hears(self) -> None:
        await asyncio.wait_for(self._heard.wait(), 10)
        self._heard.clear()


@asynccontextmanager
async def ears(url: str, count: int) -> AsyncIterator[list[Ear]]:
    made = [Ear(url) for _ in range(count)]
    for ear in made:
        await ear.wakeups.start()
        await ear.hears()  # told once when it listens: what was sent before is lost
    try:
        yield made
    finally:
        for ear in made:
            await ear.wakeups.close()


async def test_a_wake_up_reaches_other_processes(postgres_url: str) -> None:
    async with ears(postgres_url, 3) as (teller, *others):
        teller.wakeups.send(Topic.JOBS)
        for ear in others:
            await ear.hears()


async def test_a_lost_connection_is_made_anew_and_looks_once_for_what_was_missed(postgres_url: str) -> None:
    async with ears(postgres_url, 2) as (teller, other):
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND "
                "(query LIKE 'LISTEN%' OR query LIKE '%pg_notify%')"
            )
        await other.hears()
        teller.wakeups.send(Topic.JOBS)
        await other.hears()


async def test_the_last_words_of_a_stopping_process_are_heard(postgres_url: str) -> None:
    async with ears(postgres_url, 2) as (teller, other):
        teller.wakeups.send(Topic.JOBS)
        await teller.wakeups.close()
        await other.hears()


# --- starting together, and what is refused ------------------------------------------------------------------------


def test_processes_that_start_together_on_an_empty_database_migrate_it_once(database: str) -> None:
    together = threading.Barrier(4)

    def start(_: int) -> None:
        engine = create_engine(sqlalchemy_url(database))
        together.wait()
        migrate(engine)
        engine.dispose()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(start, range(4)))
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_processes_that_start_together_agree_on_the_secrets_of_a_shared_folder(tmp_path: Path) -> None:
    together = threading.Barrier(8)

    def read(_: int) -> str:
        folder = DataFolder(tmp_path)
        together.wait()
        return folder.secret("secret.key")

    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(read, range(8)))
    assert found == {(tmp_path / "secret.key").read_text().strip()}
    assert [path.name for path in tmp_path.iterdir()] == ["secret.key"]
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600


async def refusal(data: Path, **settings: Any) -> SetupError:
    """What a process that must not start says."""
    app = App(read_settings(port=0, data=data, ocr_engine="fixed", workers=0, **settings))
    with pytest.raises(SetupError) as caught:
        await app.start()
    return caught.value


@asynccontextmanager
async def started(data: Path, **settings: Any) -> AsyncIterator[App]:
    app = App(read_settings(port=0, data=data, ocr_engine="fixed", workers=0, **settings))
    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def test_a_role_alone_is_refused_without_a_database(tmp_path: Path) -> None:
    told = await refusal(tmp_path, role="api")
    assert "--role api needs a database" in told.message and "--database postgresql://" in told.advice


async def test_a_role_alone_is_refused_without_shared_objects(tmp_path: Path, database: str) -> None:
    told = await refusal(tmp_path, role="worker", database=database)
    assert "needs objects that the other roles see" in told.message and "shared_objects" in told.advice


async def test_a_database_that_cannot_be_reached_is_told_with_advice(tmp_path: Path) -> None:
    told = await refusal(tmp_path, database="postgresql://nobody@127.0.0.1:9/none")
    assert "PostgreSQL cannot be used" in told.message and "--database" in told.advice


async def test_a_process_whose_objects_are_in_another_folder_is_refused(tmp_path: Path, database: str) -> None:
    settings = {"database": database, "encryption_key": "k"}
    async with started(tmp_path / "first", **settings):
        told = await refusal(tmp_path / "second", **settings)
        assert "the objects of this database are in another folder" in told.message
        assert "the same data folder" in told.advice
        async with started(tmp_path / "first", **settings):
            pass


async def test_a_process_with_another_sealing_key_is_refused(tmp_path: Path, database: str) -> None:
    async with started(tmp_path, database=database, encryption_key="one"):
        told = await refusal(tmp_path, database=database, encryption_key="another")
        assert "sealed with another key" in told.message and "encryption_key" in told.advice


def test_a_second_process_on_a_data_folder_is_refused_and_told_of_postgres(tmp_path: Path) -> None:
    with Server(data=tmp_path, ocr_engine="fixed", workers=0) as running:
        assert running.process is not None
        command = [sys.executable, "-m", "cloudfinite.cli", "serve", "--port", "0", "--data", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == SetupError.exit_code
        assert f"process {running.process.pid}" in done.stderr and "--database postgresql://" in done.stderr
        assert "Traceback" not in done.stderr
