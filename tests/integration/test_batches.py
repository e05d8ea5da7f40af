"""Batches on both databases: each object once, whoever stops in between; queues are left room; memory stays flat."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.domain.batch import Batch, BatchInput, BatchKind, BatchRequest
from cloudfinite.domain.job import Job, JobFilter, JobState
from cloudfinite.domain.objects import Bucket, StoredObject
from cloudfinite.domain.queue import QueueState
from cloudfinite.errors import ServiceUnavailable, StorageUnavailable
from cloudfinite.operations import operations
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.batch_runner import BatchRunner
from cloudfinite.service.batches import BatchService
from cloudfinite.service.object_files import Body, ObjectFiles
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.queues import QueueLimits, ensure_queue
from cloudfinite.service.runs import Progress
from cloudfinite.service.templates import create_template

BUCKET = "b-1250000000"
AT = datetime(2026, 1, 1, tzinfo=UTC)
LEASE, POLL = timedelta(seconds=10), timedelta(seconds=5)
HASH = ("<Operation><Tag>FileHashCode</Tag><JobParam><FileHashCodeConfig><Type>MD5</Type></FileHashCodeConfig>"
        "</JobParam></Operation>")  # fmt: skip


class Place:
    """A bucket, and processes that run its batches."""

    def __init__(self, store: Store, folder: Path, max_size: int = 1_000_000) -> None:
        self.store = store
        self.files = LocalObjects(folder)
        self.made = Progress()
        self.limits = QueueLimits(max_size=max_size)
        self.objects = ObjectService(ObjectFiles(store, self.files))
        self.service = BatchService(store, operations(), self.limits, lambda url: None, lambda: None)

    def runner(self, owner: str = "one", store: Store | None = None, objects: Any = None) -> BatchRunner:
        return BatchRunner(
            store or self.store, objects or self.objects, operations(), self.limits, owner, LEASE, POLL, self.made.add
        )

    async def add_objects(self, count: int, prefix: str = "in/") -> None:
        """Their rows: nobody reads the bytes."""

        def add(tx: Transaction, numbers: range) -> None:
            tx.buckets.ensure(Bucket(BUCKET, "ap-chongqing", AT))
            for number in numbers:
                key = f"{prefix}{number:06d}"
                tx.objects.put(StoredObject(BUCKET, key, f"{prefix}{number:032d}", 1, '"e"', 0, AT))

        for start in range(0, count, 1_000):
            await self.store.run(add, range(start, min(count, start + 1_000)))
        if not count:
            await self.store.run(add, range(0))

    async def create(self, operation: str = HASH, **source: str) -> str:
        wanted = BatchRequest("batch", BatchKind.JOB, BatchInput(**(source or {"prefix": "in/"})), operation)
        return (await self.service.create_batch(BUCKET, wanted)).id

    async def find(self, batch_id: str) -> Batch:
        return await self.service.find_batch(BUCKET, batch_id)

    async def jobs(self) -> list[Job]:
        wanted = JobFilter(size=1_000_000)
        return [job for job, _ in await self.store.read(lambda tx: tx.jobs.select(BUCKET, wanted))]

    async def run_until_done(self, runner: BatchRunner, batch_id: str) -> Batch:
        while not (batch := await self.find(batch_id)).state.is_final:
            await runner.advance_all()
        return batch


@pytest.fixture
async def place(store: Store, tmp_path: Path) -> AsyncIterator[Place]:
    found = Place(store, tmp_path / "objects")
    yield found
    found.files.close()


async def test_two_processes_at_one_batch_double_nothing(place: Place) -> None:
    await place.add_objects(1_000)
    batch_id = await place.create()
    one, two = place.runner("one"), place.runner("two")
    while not (await place.find(batch_id)).state.is_final:
        # The lease of whoever has it is taken away each time, as if it had run out.
        await asyncio.gather(one.advance_all(), two.advance_all())
        await place.store.run(lambda tx: tx.batches.release())
    found = Counter(job.input.object_key for job in await place.jobs())
    assert len(found) == 1_000 and set(found.values()) == {1}


async def test_page_that_was_not_committed_is_made_again_by_another_process(place: Place) -> None:
    await place.add_objects(250)
    batch_id = await place.create()
    first = place.runner("one")
    await first.advance_all()
    assert (await place.find(batch_id)).counts.started == 100

    class Broken:
        """The store of a process that dies on its way to the commit."""

        async def run(self, work: Any, *arguments: Any) -> Any:
            def die(tx: Transaction) -> None:
                work(tx, *arguments)
                raise ServiceUnavailable("died")

            if work.__name__ == "advance_batch":
                return await place.store.run(die)
            return await place.store.run(work, *arguments)

    broken: Any = Broken()
    await place.store.run(lambda tx: tx.batches.release())
    await place.runner("two", store=broken).advance_all()
    await place.store.run(lambda tx: tx.batches.release())
    batch = await place.run_until_done(place.runner("three"), batch_id)
    assert (batch.state, batch.counts.started) == (JobState.SUCCESS, 250)
    assert len({job.input.object_key for job in await place.jobs()}) == len(await place.jobs()) == 250


async def test_batch_of_another_process_is_left_to_it_while_its_lease_holds(place: Place) -> None:
    await place.add_objects(150)
    batch_id = await place.create()
    one, two = place.runner("one"), place.runner("two")
    await one.advance_all()
    await two.advance_all()
    assert (await place.find(batch_id)).counts.started == 100
    await one.stop()
    await two.advance_all()
    assert (await place.find(batch_id)).counts.started == 150


async def test_batch_takes_one_half_of_a_queue_and_goes_on_when_there_is_room(place: Place) -> None:
    await place.add_objects(30)
    await place.store.run(lambda tx: ensure_queue(tx, BUCKET, "file", QueueLimits(max_size=20)))
    batch_id = await place.create()
    runner = place.runner()
    for _ in range(3):
        await runner.advance_all()
    batch = await place.find(batch_id)
    assert batch.counts.started == 10 and "batch jobs may take 10 places" in batch.held
    waiting = await place.jobs()
    await place.store.run(lambda tx: [tx.jobs.cancel(job.id) for job in waiting[:4]])
    await runner.advance_all()
    assert (await place.find(batch_id)).counts.started == 14


async def test_paused_queue_holds_a_batch_and_its_cancel_ends_it(place: Place) -> None:
    await place.add_objects(5)
    queue = await place.store.run(lambda tx: ensure_queue(tx, BUCKET, "file", QueueLimits()))
    await place.store.run(lambda tx: tx.queues.replace(replace(queue, state=QueueState.PAUSED)))
    batch_id = await place.create()
    runner = place.runner()
    await runner.advance_all()
    await runner.advance_all()
    batch = await place.find(batch_id)
    assert (batch.state, batch.counts.found) == (JobState.RUNNING, 0) and "is paused" in batch.held
    await place.service.cancel_batch(BUCKET, batch_id)
    await place.store.run(lambda tx: tx.queues.replace(queue))
    await runner.advance_all()
    assert (await place.find(batch_id)).state is JobState.CANCEL and await place.jobs() == []
    await place.service.delete_batch(BUCKET, batch_id)


async def test_objects_that_come_later_are_not_part_of_it(place: Place) -> None:
    await place.add_objects(3)
    batch_id = await place.create()
    item = StoredObject(BUCKET, "in/later", "later", 1, '"e"', 0, datetime(2999, 1, 1, tzinfo=UTC))
    await place.store.run(lambda tx: tx.objects.put(item))
    batch = await place.run_until_done(place.runner(), batch_id)
    assert (batch.counts.started, batch.counts.skipped) == (3, 1)


async def test_empty_prefix_is_a_success(place: Place) -> None:
    await place.add_objects(0)
    batch = await place.run_until_done(place.runner(), await place.create())
    assert (batch.state, batch.counts.found) == (JobState.SUCCESS, 0)


async def test_list_that_changes_fails_the_batch(place: Place) -> None:
    await place.add_objects(0)

    async def put(lines: int) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"".join(f"in/{number}\n".encode() for number in range(lines))

        await place.objects.put_object(BUCKET, "urls.txt", Body(chunks()), {})

    await put(300)
    batch_id = await place.create(url_file="urls.txt")
    await place.runner("one").advance_all()
    await put(301)
    await place.store.run(lambda tx: tx.batches.release())
    batch = await place.run_until_done(place.runner("two"), batch_id)
    assert (batch.state, batch.code, batch.counts.started) == (JobState.FAILED, "InvalidContent", 100)
    assert "has changed" in batch.message


async def test_list_goes_on_behind_its_last_line_in_another_process(place: Place) -> None:
    await place.add_objects(0)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"".join(f"in/{number}\r\n\n".encode() for number in range(350))

    await place.objects.put_object(BUCKET, "urls.txt", Body(chunks()), {})
    batch_id = await place.create(url_file="urls.txt")
    for number in range(4):
        await place.store.run(lambda tx: tx.batches.release())
        await place.runner(f"process-{number}").advance_all()
    found = Counter(job.input.object_key for job in await place.jobs())
    assert (await place.find(batch_id)).state is JobState.SUCCESS
    assert len(found) == 350 and set(found.values()) == {1}


async def test_storage_that_is_away_is_waited_for(place: Place) -> None:
    await place.add_objects(3)
    batch_id = await place.create()

    class Away:
        async def list_objects(self, bucket: str, wanted: Any) -> Any:
            raise StorageUnavailable("away")

    await place.runner("one", objects=Away()).advance_all()
    assert not (await place.find(batch_id)).state.is_final
    batch = await place.run_until_done(place.runner("one"), batch_id)
    assert (batch.state, batch.counts.started) == (JobState.SUCCESS, 3)


async def test_template_that_goes_fails_the_batch_and_names_it(place: Place) -> None:
    await place.add_objects(3)
    params = {"rule": "imageMogr2/rotate/90", "is_pic_info": False}
    template = await place.store.run(create_template, BUCKET, "PicProcess", "t", params)
    operation = (
        f"<Operation><Tag>PicProcess</Tag><JobParam><TemplateId>{template.id}</TemplateId></JobParam>"
        "<Output><Object>out/${InputName}</Object></Output></Operation>"
    )
    batch_id = await place.create(operation)
    await place.store.run(lambda tx: tx.templates.delete(BUCKET, template.id))
    batch = await place.run_until_done(place.runner(), batch_id)
    assert (batch.state, batch.code) == (JobState.FAILED, "TemplateNotFound") and template.id in batch.message


async def test_memory_does_not_grow_with_the_objects(sqlite_store: Store, tmp_path: Path) -> None:
    place = Place(sqlite_store, tmp_path / "objects")
    await place.add_objects(10_000)
    batch_id = await place.create()
    runner = BatchRunner(
        place.store, place.objects, operations(), place.limits, "one", LEASE, POLL, lambda progress: None
    )
    for _ in range(10):
        await runner.advance_all()
    tracemalloc.start()
    batch = await place.run_until_done(runner, batch_id)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    place.files.close()
    assert batch.counts.started == 10_000
    assert (
        peak_bytes < 3_000_000
    )  # A page of the list, a page of jobs; all objects' rows alone would be four times that.
