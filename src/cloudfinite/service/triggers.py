"""Starts the runs that the arrival of objects sets off: takes events, matches them, and deals with each once.

Matching and starting are one transaction, later than the one that stored the object; the event is finished in it. So
whatever dies, an event starts each workflow that takes it once, and one that nobody takes is done with as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from cloudfinite.domain.events import ObjectEvent
from cloudfinite.domain.execution import RunSource
from cloudfinite.domain.workflow import Workflow
from cloudfinite.errors import RequestError
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.loops import Loop
from cloudfinite.service.queues import QueueLimits
from cloudfinite.service.runs import Progress, start_run
from cloudfinite.wire.operation import Operation

log = structlog.get_logger()

_AT_ONCE = 50  # events in one transaction, so that no submit waits long behind it


@dataclass(frozen=True, slots=True)
class Triggered:
    """What one transaction did with `events` events."""

    events: int
    progress: Progress = field(default_factory=Progress)


class Triggers:
    """One per process that runs jobs; several on one database take different events."""

    def __init__(
        self,
        store: Store,
        operations: Mapping[str, Operation],
        limits: QueueLimits,
        poll: timedelta,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._store = store
        self._operations = operations
        self._limits = limits
        self._poll_s = poll.total_seconds()
        self._on_progress = on_progress
        self._woken = asyncio.Event()
        self.loop = Loop("triggers", self.take_events, self._pause)

    def wake(self) -> None:
        """Look at the events now."""
        self._woken.set()

    async def take_events(self) -> None:
        """Deal with all events there are."""
        while True:
            self._woken.clear()
            done = await self._store.run(trigger_events, _AT_ONCE, self._operations, self._limits)
            self._on_progress(done.progress)
            if done.events < _AT_ONCE:
                return

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                await self._woken.wait()


def trigger_events(tx: Transaction, limit: int, operations: Mapping[str, Operation], limits: QueueLimits) -> Triggered:
    """Start all runs that the oldest undone events set off."""
    events = tx.events.take(limit)
    if not events:
        return Triggered(0)
    progress = Progress()
    active = {bucket: tx.workflows.active(bucket) for bucket in {event.bucket for event in events}}
    for event in events:
        for workflow in active[event.bucket]:
            if _sets_off(event, workflow):
                progress.add(_start(tx, workflow, event, operations, limits))
    tx.events.finish([event.id for event in events])
    return Triggered(len(events), progress)


def _sets_off(event: ObjectEvent, workflow: Workflow) -> bool:
    """No object starts a workflow whose own run led to it, over however many other workflows.

    Wire: our choice – no page tells how the vendor ends such circles.
    """
    content_type = event.headers.get("Content-Type", "")
    return workflow.id not in event.lineage and workflow.start.takes(event.key, content_type)


def _start(
    tx: Transaction,
    workflow: Workflow,
    event: ObjectEvent,
    operations: Mapping[str, Operation],
    limits: QueueLimits,
) -> Progress:
    source = RunSource(
        key=event.key,
        size_bytes=event.size_bytes,
        headers=event.headers,
        event_id=event.id,
        event_name=event.name,
        request_id=event.request_id,
        lineage=event.lineage,
    )
    try:
        started = start_run(tx, workflow, source, operations, limits)
    except RequestError as exc:
        # The workflow cannot run now (a closed service, a template that is gone): a later look would see the same.
        log.warning("trigger.refused", workflow_id=workflow.id, event_id=event.id, reason=exc.message)
        return Progress()
    if started is None:
        return Progress()
    execution, progress = started
    log.info("trigger.started", run_id=execution.id, workflow_id=workflow.id, event_id=event.id)
    return progress
