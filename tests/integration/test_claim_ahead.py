"""Short jobs are claimed in lists, and what was claimed never waits behind a long one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from cloudfinite.domain.ids import new_job_id
from cloudfinite.domain.job import Job, JobInput, JobOutput, JobState
from cloudfinite.domain.objects import Bucket
from cloudfinite.domain.queue import Queue
from cloudfinite.operations import operations
from cloudfinite.ports import Store, Task, Transaction
from cloudfinite.service.dispatch import Dispatcher, DispatchSettings
from cloudfinite.service.outputs import Outputs
from cloudfinite.service.pace import Pace
from cloudfinite.service.sources import Sources
from cloudfinite.wire.operation import LocalFile

AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
QUEUE = Queue("p1", "b-1", "file", "queue-file", AT, AT)
RESULT = {"md5": "", "sha1": "", "sha256": ""}
WAIT_S = 10


class OneChild:
    """Ends a task at once, unless it is called `long`: then when told to."""

    size = 1

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.is_long_running = asyncio.Event()
        self.may_end = asyncio.Event()
        self._is_free = asyncio.Event()
        self._is_free.set()

    @property
    def idle(self) -> int:
        return int(self._is_free.is_set())

    async def run(self, task: Task) -> Mapping[str, Any]:
        self._is_free.clear()
        self.ran.append(task.name)
        if task.name == "long":
            self.is_long_running.set()
            await self.may_end.wait()
        await asyncio.sleep(0)
        self._is_free.set()
        return RESULT

    async def wait_idle(self) -> None:
        await self._is_free.wait()

    async def close(self) -> None:
        return None


class AnySource:
    def locate(self, tx: Transaction, bucket: str, source: JobInput) -> None:
        return None

    @asynccontextmanager
    async def opened(self, bucket: str, source: JobInput, found: None) -> AsyncIterator[LocalFile]:
        yield LocalFile(Path("none"), name=source.object_key)


class NoOutput:
    @asynccontextmanager
    async def opened(self, wanted: JobOutput | None) -> AsyncIterator[None]:
        yield None


def job(key: str) -> Job:
    return Job(new_job_id("f", AT), "b-1", "ap-chongqing", "FileHashCode", QUEUE.id, JobInput(key), {}, AT)


def fill(tx: Transaction, keys: Sequence[str]) -> None:
    tx.buckets.ensure(Bucket("b-1", "ap-chongqing", AT))
    tx.queues.ensure(QUEUE)
    tx.jobs.insert([job(key) for key in keys])


class Desk:
    """A dispatcher with one child, and what it told."""

    def __init__(self, store: Store, patience_s: float) -> None:
        self.child = OneChild()
        self.claims: list[int] = []
        self.ended: deque[Job] = deque()
        self._changed = asyncio.Event()
        self.dispatcher = Dispatcher(
            store,
            self.child,
            cast(Sources, AnySource()),
            cast(Outputs, NoOutput()),
            operations(),
            owner="worker-1",
            settings=DispatchSettings(
                lease=timedelta(seconds=60), drain=timedelta(0), patience=timedelta(seconds=patience_s)
            ),
            on_claimed=lambda jobs: self.claims.append(len(jobs)) if jobs else None,
            on_finished=self._note,
            registry=CollectorRegistry(),
        )

    def _note(self, ends: Any) -> None:
        self.ended += ends.jobs
        self._changed.set()

    async def wait_for(self, state: JobState, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while sum(job.state is state for job in self.ended) < count:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def desk(request: pytest.FixtureRequest, sqlite_store: Store) -> AsyncIterator[Desk]:
    desk = Desk(sqlite_store, getattr(request, "param", 60))
    yield desk
    desk.child.may_end.set()
    await desk.dispatcher.stop()


async def test_short_jobs_are_claimed_in_lists_and_run_in_order(sqlite_store: Store, desk: Desk) -> None:
    keys = [f"{number:03}" for number in range(150)]
    await sqlite_store.run(fill, keys)
    desk.dispatcher.start()
    await desk.wait_for(JobState.SUCCESS, len(keys))
    assert desk.child.ran == keys
    assert sum(desk.claims) == len(keys) and len(desk.claims) < 20


@pytest.mark.parametrize("desk", [0.01], indirect=True)
async def test_jobs_claimed_behind_a_long_one_go_back_without_an_attempt(sqlite_store: Store, desk: Desk) -> None:
    short = [f"{number:03}" for number in range(40)]
    await sqlite_store.run(fill, [*short, "long", "behind", "further"])
    desk.dispatcher.start()
    await asyncio.wait_for(desk.child.is_long_running.wait(), WAIT_S)
    await desk.wait_for(JobState.SUBMITTED, 2)
    leases, _ = await sqlite_store.run(lambda tx: tx.jobs.claim("worker-2", 5, timedelta(seconds=60), ""))
    assert [(lease.job.input.object_key, lease.job.attempts) for lease in leases] == [("behind", 1), ("further", 1)]


async def test_a_job_that_is_cancelled_while_it_waits_for_a_child_does_not_run(sqlite_store: Store, desk: Desk) -> None:
    await sqlite_store.run(fill, [*map(str, range(9)), "long", "behind"])
    desk.dispatcher.start()
    await asyncio.wait_for(desk.child.is_long_running.wait(), WAIT_S)
    running = [lease.job for lease in await sqlite_store.run(lambda tx: tx.jobs.running(9))]
    (behind,) = [one for one in running if one.input.object_key == "behind"]
    assert await sqlite_store.run(lambda tx: tx.jobs.cancel_running(behind.id))
    desk.dispatcher.stop_job(behind.id)
    desk.child.may_end.set()
    await desk.wait_for(JobState.SUCCESS, 10)
    assert "behind" not in desk.child.ran


def test_long_jobs_are_not_claimed_ahead() -> None:
    pace = Pace()
    assert pace.ahead(2) == 0
    pace.note_run(0.001)
    assert pace.ahead(2) == 64
    pace.note_run(1.0)
    assert pace.ahead(2) == 0
