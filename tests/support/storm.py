"""Jobs that are submitted, run and told while servers and their children are killed."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.waiting import until
from tests.support.wire_client import RefusedError, Seen, WireClient

from cloudfinite.testing import ReceivedCallback, Server

TAG = "Brief"
TARGETS = 4
_JOB_ID = re.compile(rb"<JobId>(\w+)</JobId>")


def children_of(pid: int) -> list[int]:
    with suppress(FileNotFoundError, ProcessLookupError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def kill_something(server: Server, dice: random.Random) -> bool:
    """Kill the server, which is started again, or one of its children; True for the server."""
    assert server.process is not None
    children = children_of(server.process.pid)
    if children and dice.random() < 0.3:
        with suppress(ProcessLookupError):
            os.kill(dice.choice(children), signal.SIGKILL)
        return False
    server.kill()
    server.start()
    return True


@dataclass
class Storm:
    """`servers` share one store; their jobs' callbacks go to `receiver`, which nobody kills."""

    servers: Sequence[Server]
    receiver: Server
    jobs: int
    kills: int
    seed: int
    accepted: list[str] = field(default_factory=list)
    server_kills: int = 0
    child_kills: int = 0

    def run(self) -> None:
        """Submit and kill until all jobs are accepted and all kills done; then wait for the last callback."""
        WireClient(self.servers[0]).put("a")
        stop = threading.Event()
        submitters = [
            threading.Thread(target=self._submit, args=(number, stop), name=f"submitter-{number}") for number in (0, 1)
        ]
        for thread in submitters:
            thread.start()
        try:
            self._kill()
            until(lambda: len(self.accepted) >= self.jobs, "all jobs accepted", wait_s=120)
        finally:
            stop.set()
            for thread in submitters:
                thread.join()
        until(self._all_told, "a callback for each accepted job", wait_s=120, poll_s=0.1)

    def _submit(self, number: int, stop: threading.Event) -> None:
        """One client: what is refused or not answered is submitted again, to any of the servers."""
        dice = random.Random(f"{self.seed} {number}")
        clients = [WireClient(server) for server in self.servers]
        count = 0
        while len(self.accepted) < self.jobs and not stop.is_set():
            callback = self.receiver.inbox(self._inbox(count % TARGETS))
            try:
                job_id = dice.choice(clients).submit(
                    TAG, ms=dice.randrange(30), callback=callback, level=dice.randrange(3)
                )
            except (OSError, RefusedError):
                stop.wait(0.02)
                continue
            self.accepted.append(job_id)
            count += 1

    def _kill(self) -> None:
        """At random counts of callbacks received: a server, which is started again, or one of its children."""
        dice = random.Random(self.seed)
        marks = sorted(dice.sample(range(self.jobs * 19 // 20), self.kills))
        for turn, mark in enumerate(marks):
            until(lambda mark=mark: self._told_count() >= mark, f"{mark} callbacks", wait_s=60, poll_s=0.05)  # type: ignore[misc]
            if kill_something(self.servers[turn % len(self.servers)], dice):
                self.server_kills += 1
            else:
                self.child_kills += 1

    # --- what came of it --------------------------------------------------------------------------------------------

    def _inbox(self, number: int) -> str:
        return f"storm-{self.seed}-{number}"

    def _told_count(self) -> int:
        heads = [json.loads(self.receiver.get(f"/-/inbox/{self._inbox(n)}"))["messages"] for n in range(TARGETS)]
        return len({_id_of(message) for messages in heads for message in messages})

    def _all_told(self) -> bool:
        return self._told_count() >= len(self.accepted) and set(self.accepted) <= set(self._callbacks())

    def _callbacks(self) -> dict[str, list[ReceivedCallback]]:
        """By job."""
        found: defaultdict[str, list[ReceivedCallback]] = defaultdict(list)
        for number in range(TARGETS):
            for callback in self.receiver.callbacks(self._inbox(number)):
                found[_JOB_ID.findall(callback.body)[0].decode()].append(callback)
        return found

    def check(self) -> None:
        """Nothing lost; told with the same bytes under the same id, no more often than the kills explain."""
        client = WireClient(self.servers[0])
        jobs = until(lambda: all_ended(client, TAG), "all jobs ended", wait_s=60, poll_s=0.1)
        told = self._callbacks()
        assert set(self.accepted) <= {job.id for job in jobs}
        assert {job.id for job in jobs} == set(told)
        for callbacks in told.values():
            assert len({callback.headers["webhook-id"] for callback in callbacks}) == 1
            assert len({callback.body for callback in callbacks}) == 1
        for job in jobs:
            given_up = job.state == "Failed" and "given up after 3 attempts" in job.message
            assert job.state == "Success" or given_up, job
        repeats = sum(len(callbacks) - 1 for callbacks in told.values())
        states = Counter(job.state for job in jobs)
        print(
            f"{len(jobs)} jobs, {len(self.accepted)} accepted, {self.server_kills} servers and {self.child_kills} "
            f"children killed, {repeats} callbacks repeated, {dict(states)}"
        )
        # At a kill up to 4 POSTs a target are under way, and as many may be answered but not yet recorded.
        assert repeats <= self.server_kills * TARGETS * 8


def all_ended(client: WireClient, tag: str) -> list[Seen]:
    """All jobs, or none while one has not ended."""
    jobs = client.all_jobs(tag)
    return jobs if all(job.state in ("Success", "Failed") for job in jobs) else []


def _id_of(message: dict[str, object]) -> str:
    headers = {name.lower(): value for name, value in message["headers"]}  # type: ignore[attr-defined]  # pairs
    return str(headers["webhook-id"])


def settings_of_storm(**changes: object) -> dict[str, object]:
    """Short leases and retries, so that what a kill left is soon taken up again."""
    return {
        "ocr_engine": "fixed",
        "operation_modules": ["tests.support.steady_operations"],
        "workers": 2,
        "lease_s": 2,
        "poll_s": 1,
        "retry_schedule_s": [0, 0.2, 0.5, 1, 1, 1, 1, 1, 1],
        **changes,
    }
