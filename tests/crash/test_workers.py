"""Workers that freeze, jobs that kill, and a limit that holds: what the leases are for."""

from __future__ import annotations

import json
import os
import signal
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.steady_operations import lines
from tests.support.storm import all_ended, settings_of_storm
from tests.support.waiting import until
from tests.support.wire_client import RefusedError, Seen, WireClient

from cloudfinite.testing import Server

pytestmark = pytest.mark.crash


def shared(database: str, **changes: object) -> dict[str, Any]:
    return settings_of_storm(database=database, shared_objects=True, **changes)


def ended(client: WireClient, job_id: str) -> Seen | None:
    job = client.job(job_id)
    return job if job.state in ("Success", "Failed") else None


def test_a_worker_frozen_past_its_lease_commits_nothing_when_it_wakes(
    tmp_path: Path, database: str, receiver: Server
) -> None:
    file = tmp_path / "held"
    with Server(data=tmp_path, **shared(database, workers=1, lease_s=1)) as frozen:
        frozen_client = WireClient(frozen)
        frozen_client.put("a")
        job_id = frozen_client.submit("Held", file=file, callback=receiver.inbox("frozen"))
        until(lambda: lines(file), "the job runs")
        assert frozen.process is not None
        os.kill(frozen.process.pid, signal.SIGSTOP)
        with Server(data=tmp_path, **shared(database, workers=1, lease_s=1)) as other:
            client = WireClient(other)
            first, second = until(lambda: len(lines(file)) == 2 and lines(file), "the job runs elsewhere") or ["", ""]
            release(file, first)
            os.kill(frozen.process.pid, signal.SIGCONT)
            until(lambda: "job.lease_lost" in frozen.log(), "the woken worker is told")
            assert client.job(job_id).state == "Running"
            release(file, second)
            until(lambda: ended(client, job_id), "the job ended")
            (callback,) = receiver.wait_for_callbacks("frozen", 1)
            assert f"<Pid>{second}</Pid>".encode() in callback.body


def release(file: Path, pid: str) -> None:
    file.with_name(f"{file.name}.{pid}.go").touch()


def test_a_job_that_kills_its_child_fails_after_three_attempts_and_its_queue_goes_on(
    tmp_path: Path, receiver: Server
) -> None:
    file = tmp_path / "deaths"
    with Server(data=tmp_path, **settings_of_storm(workers=1)) as server:
        client = WireClient(server)
        client.put("a")
        poison = client.submit("KillChild", file=file, callback=receiver.inbox("poison"), level=2)
        others = [client.submit("Brief") for _ in range(5)]
        until(lambda: all(job.state == "Success" for job in client.jobs(others)), "the queue goes on")
        job = until(lambda: ended(client, poison), "the poison job ended")
        assert job.state == "Failed" and "given up after 3 attempts" in job.message
        assert len(lines(file)) == 3
        (callback,) = receiver.wait_for_callbacks("poison", 1)
        assert b"<State>Failed</State>" in callback.body and poison.encode() in callback.body


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_job_that_kills_its_worker_fails_after_three_attempts(
    request: pytest.FixtureRequest, tmp_path: Path, receiver: Server, kind: str
) -> None:
    file = tmp_path / "deaths"
    with ExitStack() as stack:
        if kind == "sqlite":
            servers = [Server(data=tmp_path, **settings_of_storm(workers=1))]
        else:
            settings = shared(request.getfixturevalue("database"), workers=1, lease_s=1)
            servers = [Server(data=tmp_path, **settings) for _ in range(2)]
        for server in servers:
            stack.enter_context(server)
        client = WireClient(servers[0])
        client.put("a")
        poison = client.submit("KillWorker", file=file, callback=receiver.inbox(f"killer-{kind}"))

        def given_up() -> Seen | None:
            for server in servers:
                if server.process is not None and server.process.poll() is not None:
                    with suppress(RuntimeError):  # killed again before it was ready
                        server.start()
            with suppress(OSError, RefusedError):
                return ended(client, poison)
            return None

        job = until(given_up, "the killer ended")
        assert job.state == "Failed" and "given up after 3 attempts" in job.message
        assert len(lines(file)) == 3
        assert len(receiver.wait_for_callbacks(f"killer-{kind}", 1)) == 1
        after = client.submit("Brief")
        until(lambda: ended(client, after), "the queue goes on")


@pytest.mark.parametrize("jobs", [pytest.param(80, id="short"), pytest.param(500, id="full", marks=pytest.mark.full)])
def test_a_limit_of_two_holds_over_three_processes(tmp_path: Path, database: str, jobs: int) -> None:
    file = tmp_path / "counts"
    file.write_text(json.dumps([0, 0, 0]))
    settings = shared(database, workers=2, queue_max_concurrent=2)
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(data=tmp_path, **settings)) for _ in range(3)]
        clients = [WireClient(server) for server in servers]
        clients[0].put("a")
        for number in range(jobs):
            clients[number % 3].submit("Counted", file=file, ms=5)
        seen = until(lambda: all_ended(clients[0], "Counted"), "all jobs ended", wait_s=100, poll_s=0.2)
        assert len(seen) == jobs and {job.state for job in seen} == {"Success"}
    assert json.loads(file.read_text()) == [0, 2, jobs]
