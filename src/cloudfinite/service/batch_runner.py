"""Turns batches into jobs and runs, a page of objects at a time, in whichever process holds the batch's lease.

The jobs of a page, the counters and the cursor behind it are one transaction that holds only while the cursor is where
the page began: so a crash repeats a page that was not committed, and two processes at one batch double nothing. A
paused or full queue holds a batch back and never fails it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog

from cloudfinite.domain.batch import Batch, BatchCounts, BatchKind
from cloudfinite.domain.events import told_headers
from cloudfinite.domain.execution import RunSource
from cloudfinite.domain.job import JobInput, JobState
from cloudfinite.domain.objects import StoredObject
from cloudfinite.domain.queue import Queue, QueueState
from cloudfinite.domain.workflow import Step, Workflow
from cloudfinite.errors import InvalidArgument, KeyTooLong, NoSuchBucket, NoSuchKey, RequestError
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.batch_inputs import Entry, read_entries
from cloudfinite.service.jobs import draft_job, finish_draft
from cloudfinite.service.loops import Loop
from cloudfinite.service.objects import ObjectService, check_key
from cloudfinite.service.queues import QueueLimits, ensure_queue
from cloudfinite.service.runs import Progress, start_run
from cloudfinite.service.workflows import get_workflow
from cloudfinite.wire.batches import read_operation
from cloudfinite.wire.operation import Operation

log = structlog.get_logger()

_PAGE = 100  # objects in one transaction, so that no submit waits long behind it
_BATCHES = 20  # at once in one process
_SHARE_OF_QUEUE = 2  # Batches fill a queue to one half: the rest is for those who submit one by one.
_HELD_S = 0.5  # between looks at a queue that had no room


@dataclass(frozen=True, slots=True)
class Page:
    """What one transaction did: how many of its entries were dealt with, and what it made."""

    handled: int = 0
    cursor: str = ""
    is_lost: bool = False
    progress: Progress = field(default_factory=Progress)


class _Reader:
    """The objects of one batch from `cursor` on; a page of them is kept until it is committed."""

    def __init__(self, entries: AsyncIterator[Entry], cursor: str) -> None:
        self.cursor = cursor
        self.waiting: deque[Entry] = deque()
        self.is_at_end = False
        self._entries = entries

    async def fill(self) -> None:
        while not self.is_at_end and len(self.waiting) < _PAGE:
            try:
                self.waiting.append(await anext(self._entries))
            except StopAsyncIteration:
                self.is_at_end = True


class BatchRunner:
    """One per process that runs jobs. `on_made` is told of jobs and notifications once they are durable."""

    def __init__(
        self,
        store: Store,
        objects: ObjectService,
        operations: Mapping[str, Operation],
        limits: QueueLimits,
        owner: str,
        lease: timedelta,
        poll: timedelta,
        on_made: Callable[[Progress], None],
    ) -> None:
        self._store = store
        self._objects = objects
        self._operations = operations
        self._limits = limits
        self._owner = owner
        self._lease = lease
        self._poll_s = poll.total_seconds()
        self._on_made = on_made
        self._readers: dict[str, _Reader] = {}
        self._woken = asyncio.Event()
        self._pause_s = 0.0
        self.loop = Loop("batches", self.advance_all, self._pause)

    def wake(self) -> None:
        """Look for new batches now."""
        self._woken.set()

    async def recover(self) -> None:
        """Take over what a process that owned the whole database had; for SQLite's start only."""
        await self._store.run(lambda tx: tx.batches.release())

    async def stop(self) -> None:
        """Let others go on with what is ours."""
        await self.loop.stop()
        self._readers.clear()
        with contextlib.suppress(RequestError):  # A store that is away does it itself when the leases end.
            await self._store.run(lambda tx: tx.batches.release(self._owner))

    async def advance_all(self) -> None:
        """One page of each batch that is ours."""
        self._woken.clear()
        batches = await self._store.run(lease_batches, self._owner, self._lease, _BATCHES)
        self._readers = {batch.id: self._readers[batch.id] for batch in batches if batch.id in self._readers}
        has_moved = [await self._advance(batch) for batch in batches]
        self._pause_s = 0.0 if any(has_moved) else _HELD_S if batches else self._poll_s

    async def _pause(self) -> None:
        if not self._pause_s:
            await asyncio.sleep(0)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pause_s):
                await self._woken.wait()

    async def _advance(self, batch: Batch) -> bool:
        """Make a page of jobs; False when there was no room, or nothing could be read now."""
        try:
            return await self._make_page(batch)
        except RequestError as exc:
            self._readers.pop(batch.id, None)
            if exc.status >= 500:
                log.warning("batch.held", batch_id=batch.id, code=exc.code, reason=exc.message)
                return False
            log.info("batch.failed", batch_id=batch.id, code=exc.code, reason=exc.message)
            await self._store.run(fail_batch, batch, exc.code, exc.message)
            return True

    async def _make_page(self, batch: Batch) -> bool:
        reader = self._readers.get(batch.id)
        if reader is None or reader.cursor != batch.cursor:
            reader = self._readers[batch.id] = _Reader(read_entries(self._objects, batch), batch.cursor)
        await reader.fill()
        entries = [await self._known(batch, entry) for entry in reader.waiting]
        page = await self._store.run(advance_batch, batch, entries, reader.is_at_end, self._operations, self._limits)
        if page.is_lost:
            self._readers.pop(batch.id, None)
            return False
        for _ in range(page.handled):
            reader.waiting.popleft()
        reader.cursor = page.cursor
        self._on_made(page.progress)
        return page.handled > 0 or not entries

    async def _known(self, batch: Batch, entry: Entry) -> Entry:
        """The entry with what the batch needs to know of the object; without it when there is no such object."""
        needs_time = not batch.interval.is_open and entry.modified_at is None
        if entry.item is not None or not (needs_time or batch.kind is BatchKind.WORKFLOW):
            return entry
        if entry.bucket not in ("", batch.bucket):
            return entry
        try:
            item = await self._objects.find_object(batch.bucket, entry.key)
        except (NoSuchKey, KeyTooLong, InvalidArgument):
            return entry
        return replace(entry, item=item, modified_at=entry.modified_at or item.modified_at)


# --- transactions --------------------------------------------------------------------------------------------------


def lease_batches(tx: Transaction, owner: str, lease: timedelta, limit: int) -> list[Batch]:
    return tx.batches.lease(owner, lease, limit)


def fail_batch(tx: Transaction, seen: Batch, code: str, message: str) -> None:
    batch = _unchanged(tx, seen)
    if batch is not None:
        tx.batches.replace(replace(batch, state=JobState.FAILED, code=code, message=message, held="", ended_at=tx.now))


def _unchanged(tx: Transaction, seen: Batch) -> Batch | None:
    """The batch, locked; None when it has ended or moved on since it was seen."""
    batch = tx.batches.lock(seen.id)
    return batch if batch and not batch.state.is_final and batch.cursor == seen.cursor else None


def advance_batch(
    tx: Transaction,
    seen: Batch,
    entries: Sequence[Entry],
    is_last: bool,
    operations: Mapping[str, Operation],
    limits: QueueLimits,
) -> Page:
    """Make the jobs or runs of as many entries as there is room for. `is_last`: no entries come behind these.

    Raises TemplateNotFound, QueueNotFound, WorkflowNotFound, ServiceClosed…: what the batch needs is gone.
    """
    batch = _unchanged(tx, seen)
    if batch is None:
        return Page(is_lost=True)
    maker = (_JobMaker if batch.kind is BatchKind.JOB else _RunMaker)(tx, batch, operations, limits)
    counts = BatchCounts()
    cursor, held = batch.cursor, ""
    for entry in entries:
        is_wanted = _is_wanted(batch, entry)
        if is_wanted and not maker.room:
            held = maker.held
            break
        is_made = is_wanted and maker.make(entry)
        counts = counts.plus(BatchCounts(1, int(is_made), int(not is_made)))
        cursor = entry.cursor
    maker.finish()
    moved = replace(batch, state=JobState.RUNNING, cursor=cursor, counts=batch.counts.plus(counts), held=held)
    moved = replace(moved, started_at=batch.started_at or tx.now)
    if is_last and counts.found == len(entries):
        moved = replace(moved, state=JobState.SUCCESS, ended_at=tx.now)
    if moved != batch:
        tx.batches.replace(moved)
    return Page(counts.found, cursor, progress=maker.progress)


def _is_wanted(batch: Batch, entry: Entry) -> bool:
    if entry.bucket not in ("", batch.bucket):
        return False
    if entry.modified_at is None:
        return batch.interval.is_open
    # Wire: TimeInterval.End is the current time by default; without that end, a batch whose jobs write below its own
    # prefix would never end.
    return batch.interval.holds(entry.modified_at) and (
        batch.interval.end is not None or entry.modified_at <= batch.created_at
    )


def _room(tx: Transaction, queue: Queue) -> tuple[int, str]:
    """(how many jobs a batch may add, why none)."""
    if queue.state is QueueState.PAUSED:
        return 0, f"the queue {queue.id} is paused"
    share = max(1, queue.max_size // _SHARE_OF_QUEUE)
    room = share - tx.queues.waiting(queue.id)
    return max(0, room), f"the queue {queue.id} is full: batch jobs may take {share} places of it"


class _JobMaker:
    """Makes a job of each object."""

    def __init__(self, tx: Transaction, batch: Batch, operations: Mapping[str, Operation], limits: QueueLimits) -> None:
        bucket = tx.buckets.get(batch.bucket)
        if bucket is None:
            raise NoSuchBucket(f"the bucket {batch.bucket} does not exist here")
        request = read_operation(batch.operation, operations)
        self._draft, queue = draft_job(tx, bucket, request, operations, limits)
        self._operation = operations[request.tag]
        self._tx = tx
        self._batch = batch
        self.progress = Progress()
        self.room, self.held = _room(tx, queue)

    def make(self, entry: Entry) -> bool:
        """False for a key that no job can have."""
        try:
            check_key(entry.key)
            source = JobInput(object_key=entry.key)
            job = finish_draft(self._draft, self._operation, self._tx.now, source, self._batch.id)
        except (KeyTooLong, InvalidArgument) as exc:
            log.info("batch.object_skipped", batch_id=self._batch.id, reason=exc.message)
            return False
        self.progress.jobs.append(job)
        self.room -= 1
        return True

    def finish(self) -> None:
        self._tx.jobs.insert(self.progress.jobs)


class _RunMaker:
    """Starts a run of each of the batch's workflows on each object."""

    def __init__(self, tx: Transaction, batch: Batch, operations: Mapping[str, Operation], limits: QueueLimits) -> None:
        self._workflows = [get_workflow(tx, batch.bucket, workflow_id) for workflow_id in batch.workflow_ids]
        self._tx = tx
        self._batch = batch
        self._operations = operations
        self._limits = limits
        self.progress = Progress()
        self.room, self.held = self._narrowest()

    def _narrowest(self) -> tuple[int, str]:
        """The room in the queues of all first steps, whose jobs would wait there however full these are."""
        services = [self._operations[step.tag].service for step in _first_steps(self._workflows)]
        rooms = []
        for service in set(services):
            room, reason = _room(self._tx, ensure_queue(self._tx, self._batch.bucket, service, self._limits))
            rooms.append((-(-room // services.count(service)), reason))
        return min(rooms)

    def make(self, entry: Entry) -> bool:
        try:
            check_key(entry.key)
        except (KeyTooLong, InvalidArgument) as exc:
            log.info("batch.object_skipped", batch_id=self._batch.id, reason=exc.message)
            return False
        source = _source(entry, self._batch.id)
        for workflow in self._workflows:
            started = start_run(self._tx, workflow, source, self._operations, self._limits)
            assert started is not None, "a run without an event is always a new one"
            self.progress.add(started[1])
        self.room -= 1
        return True

    def finish(self) -> None:
        """Each run has its jobs already."""


def _first_steps(workflows: Sequence[Workflow]) -> list[Step]:
    return [step for workflow in workflows for step in workflow.steps if not step.after]


def _source(entry: Entry, batch_id: str) -> RunSource:
    """Wire: our choice – an object that does not exist fails its run, as it fails a job."""
    item: StoredObject | None = entry.item
    size_bytes, headers = (item.size_bytes, told_headers(item.headers)) if item else (0, {})
    return RunSource(entry.key, size_bytes, headers, batch_id=batch_id)
