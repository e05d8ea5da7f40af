"""The database goes away, the disk fills up: 5xx meanwhile, nothing accepted is lost, and no restart of ours."""

from __future__ import annotations

import os
import resource
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.postgres import OwnPostgres, fresh_database
from tests.support.steady_operations import lines
from tests.support.storm import settings_of_storm
from tests.support.waiting import until
from tests.support.wire_client import RefusedError, WireClient

from cloudfinite.testing import Server

pytestmark = pytest.mark.crash

BACK_S = 5.0  # from the database's return until work goes on


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[OwnPostgres]:
    postgres = OwnPostgres()
    yield postgres
    postgres.remove()


@pytest.fixture
def database(own_postgres: OwnPostgres) -> Iterator[str]:
    with fresh_database(own_postgres.url) as url:
        yield url


def readiness(server: Server) -> int:
    try:
        with urllib.request.urlopen(f"{server.url}/-/ready", timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code


def submits(client: WireClient, accepted: list[str], **job: Any) -> int:
    """The status of one submit; an accepted job is noted."""
    try:
        accepted.append(client.submit(**job))
    except RefusedError as exc:
        return exc.status
    return 200


def test_work_goes_on_when_postgres_was_stopped_and_started(
    tmp_path: Path, own_postgres: OwnPostgres, database: str, receiver: Server
) -> None:
    settings = settings_of_storm(database=database, shared_objects=True, workers=1, lease_s=10, poll_s=5)
    accepted: list[str] = []
    job: dict[str, Any] = {"tag": "Brief", "ms": 50, "callback": receiver.inbox("outage")}
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(data=tmp_path, **settings)) for _ in range(2)]
        clients = [WireClient(server) for server in servers]
        clients[0].put("a")
        while len(accepted) < 60:
            assert submits(clients[len(accepted) % 2], accepted, **job) == 200
        receiver.wait_for_callbacks("outage", 5)
        own_postgres.stop()
        for server, client in zip(servers, clients, strict=True):
            assert submits(client, accepted, **job) >= 500
            until(lambda server=server: readiness(server) == 503, "readiness is red")  # type: ignore[misc]
            assert submits(client, accepted, **job) >= 500
        told = len(receiver.callbacks("outage"))
        assert told < len(accepted)
        own_postgres.start()
        back_at = time.monotonic()
        receiver.wait_for_callbacks("outage", told + 1, wait_s=BACK_S)
        for server, client in zip(servers, clients, strict=True):
            until(lambda server=server: readiness(server) == 200, "readiness is green", wait_s=BACK_S)  # type: ignore[misc]
            assert submits(client, accepted, **job) == 200
        print(f"work and readiness were back {time.monotonic() - back_at:.1f} s after PostgreSQL")
        callbacks = receiver.wait_for_callbacks("outage", len(accepted))
        bodies = b"".join(callback.body for callback in callbacks)
        assert [job_id for job_id in accepted if job_id.encode() not in bodies] == []
        assert len({callback.headers["webhook-id"] for callback in callbacks}) == len(accepted)


def test_a_drain_ends_by_itself_while_postgres_is_away(
    tmp_path: Path, own_postgres: OwnPostgres, database: str
) -> None:
    file = tmp_path / "held"
    settings = settings_of_storm(database=database, shared_objects=True, workers=1, drain_s=0.2)
    with Server(data=tmp_path, **settings) as server:
        client = WireClient(server)
        client.put("a")
        client.submit("Held", file=file)
        until(lambda: lines(file), "the job runs")
        own_postgres.stop()
        try:
            assert server.stop() == 0
        finally:
            own_postgres.start()


# --- a full disk ---------------------------------------------------------------------------------------------------


class FullDisk:
    """A small file system of its own, or where mounting is not allowed a limit on the size of the server's files."""

    def __init__(self, folder: Path, is_mounted: bool) -> None:
        self.folder = folder
        self._is_mounted = is_mounted
        self._filler = folder / "filler"

    def fill(self, server: Server) -> None:
        if self._is_mounted:
            with suppress(OSError), self._filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            return
        assert server.process is not None
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))

    def empty(self, server: Server) -> None:
        if self._is_mounted:
            self._filler.unlink()
            return
        assert server.process is not None
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.fixture(params=["tmpfs", "limit"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FullDisk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if request.param == "limit":
        yield FullDisk(folder, is_mounted=False)
        return
    with mounted(folder) as is_mounted:
        if not is_mounted:
            pytest.skip("mounting is not allowed here")
        yield FullDisk(folder, is_mounted=True)


@contextmanager
def mounted(folder: Path) -> Iterator[bool]:
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    is_mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_answers_5xx_and_loses_nothing(tmp_path: Path, disk: FullDisk, receiver: Server) -> None:
    inbox, file = tmp_path.name, tmp_path / "held"
    accepted: list[str] = []
    with Server(data=disk.folder, **settings_of_storm(workers=2)) as server:
        client = WireClient(server)
        client.put("a")
        brief: dict[str, Any] = {"tag": "Brief", "callback": receiver.inbox(inbox)}
        accepted.append(client.submit("Held", file=file, callback=receiver.inbox(inbox)))
        assert submits(client, accepted, **brief) == 200
        until(lambda: lines(file), "a job runs")
        receiver.wait_for_callbacks(inbox, 1)
        disk.fill(server)
        # The write-ahead log may have room left from before: a few more may be taken, and those must be kept.
        until(lambda: submits(client, accepted, **brief) >= 500, "submits are refused")
        until(lambda: refuses(lambda: client.put("b", bytes(100_000))), "objects are refused")
        file.with_name("held.go").touch()
        disk.empty(server)
        client.put("b", bytes(100_000))
        assert submits(client, accepted, **brief) == 200
        callbacks = receiver.wait_for_callbacks(inbox, len(accepted))
        bodies = b"".join(callback.body for callback in callbacks)
        assert [job_id for job_id in accepted if job_id.encode() not in bodies] == []
        assert {job.state for job in client.jobs(accepted)} == {"Success"}


def refuses(call: Callable[[], object]) -> bool:
    try:
        call()
    except RefusedError as exc:
        return exc.status >= 500
    return False
