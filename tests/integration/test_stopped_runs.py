"""A job that an operator cancels while it runs is stopped by whoever runs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
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
from cloudfinite.ports import Store, Task, Transaction
from cloudfinite.service.dispatch import Dispatcher, DispatchSettings
from cloudfinite.service.job_control import JobControl
from cloudfinite.service.outputs import Outputs
from cloudfinite.service.sources import Sources
from cloudfinite.wire.operation import LocalFile

AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
QUEUE = Queue("p1", "b-1", "ai", "queue-ai", AT, AT)
JOB = Job(new_job_id("a", AT), "b-1", "ap-chongqing", "ImageOCR", QUEUE.id, JobInput("a.png"), {}, AT)
WAIT_S = 10


class HangingPool:
    """One child whose operation never ends."""

    size = idle = 1

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()

    async def run(self, task: Task) -> Mapping[str, Any]:
        self.started.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.stopped.set()
        raise AssertionError("never")

    async def wait_idle(self) -> None:
        return None

    async def close(self) -> None:
        return None


class AnySource:
    def locate(self, tx: Transaction, bucket: str, source: JobInput) -> None:
        return None

    @asynccontextmanager
    async def opened(self, bucket: str, source: JobInput, found: None) -> AsyncIterator[LocalFile]:
        yield LocalFile(Path("none"))


class NoOutput:
    @asynccontextmanager
    async def opened(self, wanted: JobOutput | None) -> AsyncIterator[None]:
        yield None


def add_job(tx: Transaction) -> None:
    tx.buckets.ensure(Bucket("b-1", "ap-chongqing", AT))
    tx.queues.ensure(QUEUE)
    tx.jobs.insert([JOB])


@pytest.mark.parametrize("is_same_process", [True, False])
async def test_run_ends_at_once_in_its_own_process_and_at_the_next_renewal_elsewhere(
    sqlite_store: Store, is_same_process: bool
) -> None:
    pool = HangingPool()
    dispatcher = Dispatcher(
        sqlite_store,
        pool,
        cast(Sources, AnySource()),
        cast(Outputs, NoOutput()),
        {},
        owner="worker-1",
        # The renewal of the first case is too late for the test to wait for.
        settings=DispatchSettings(lease=timedelta(seconds=300 if is_same_process else 0.3)),
        on_claimed=lambda jobs: None,
        on_finished=lambda ends: None,
        registry=CollectorRegistry(),
    )
    stop = dispatcher.stop_job if is_same_process else lambda job_id: None
    control = JobControl(
        sqlite_store,
        {},
        on_submitted=lambda jobs: None,
        on_cancelled=lambda job: stop(job.id),
        on_progress=lambda progress: None,
    )
    await sqlite_store.run(add_job)
    dispatcher.start()
    try:
        await asyncio.wait_for(pool.started.wait(), WAIT_S)
        assert (await control.cancel_job(JOB.id)).state is JobState.CANCEL
        await asyncio.wait_for(pool.stopped.wait(), WAIT_S)
    finally:
        await dispatcher.stop()
    assert (await control.show_job(JOB.id))[0].state is JobState.CANCEL
