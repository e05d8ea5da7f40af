"""The JSON API's queues: list, show, change their name, state, notification and limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from cloudfinite.domain.job import CallbackFormat
from cloudfinite.domain.queue import Notify, Queue, QueueLoad, QueueState
from cloudfinite.errors import InvalidArgument
from cloudfinite.service.queues import QueueService
from cloudfinite.web.api_routes import Answer, Page, PageQuery, Question, Time, operation, read_position, write_position
from cloudfinite.wire.requests import MAX_URL

MAX_LIMIT = 1_000_000_000
_MAX_NAME_BYTES = 128

Event = Literal["TaskFinish", "WorkflowFinish"]


class NotifyView(Answer):
    """Where the ends of a queue's jobs, or a workflow's steps and runs, are told."""

    is_on: bool
    url: str
    events: list[str]
    format: CallbackFormat


class QueueView(Answer):
    """A queue; `waiting` and `running` count its jobs now, over all machines."""

    id: str
    bucket: str
    service: str
    name: str
    state: QueueState
    notify: NotifyView
    max_size: int
    max_concurrent: int
    waiting: int
    running: int
    created_at: Time
    updated_at: Time


class QueueQuery(PageQuery):
    bucket: str = ""


class NotifyChange(Question):
    """What is left out stays as it is. On needs a url and events."""

    is_on: bool | None = None
    url: str | None = Field(None, max_length=MAX_URL, pattern=r"^[hH][tT][tT][pP][sS]?://.+$|^$")
    events: list[Event] | None = None
    format: CallbackFormat | None = None


class QueueChange(Question):
    """What is left out stays as it is. `max_size` jobs may wait, `max_concurrent` run at once over all machines."""

    name: str | None = Field(None, min_length=1, max_length=_MAX_NAME_BYTES)
    state: QueueState | None = None
    max_size: int | None = Field(None, ge=0, le=MAX_LIMIT)
    max_concurrent: int | None = Field(None, ge=0, le=MAX_LIMIT, description="0 runs none")
    notify: NotifyChange | None = None


class QueuesApi:
    """Queues of all buckets; one exists from the first look at it or job in it."""

    group: ClassVar[str] = "queues"

    def __init__(self, queues: QueueService) -> None:
        self._queues = queues

    @operation("GET", "/queues")
    async def list_queues(self, query: QueueQuery) -> Page[QueueView]:
        """List queues by bucket and service."""
        bucket, service = read_position(query.after, str, str) if query.after else ("", "")
        found = await self._queues.list_all(query.bucket, (bucket, service), query.size)
        following = None
        if len(found) == query.size:
            last, _ = found[-1]
            following = write_position(last.bucket, last.service)
        return Page(items=[queue_view(*one) for one in found], next=following)

    @operation("GET", "/queues/{queue_id}")
    async def show_queue(self, queue_id: str) -> QueueView:
        """Show a queue."""
        return queue_view(*await self._queues.find_queue(queue_id))

    @operation("PATCH", "/queues/{queue_id}")
    async def change_queue(self, queue_id: str, body: QueueChange) -> QueueView:
        """Change a queue.

        A paused queue refuses new jobs and starts none; running ones end. Lower limits stop nothing that runs or waits.
        """
        return queue_view(*await self._queues.change_queue(queue_id, lambda queue, now: changed(queue, body, now)))


def changed(queue: Queue, change: QueueChange, now: datetime) -> Queue:
    """Raises InvalidArgument for a notification that is on without a url or events, or too long a name."""
    if change.name and len(change.name.encode()) > _MAX_NAME_BYTES:
        raise InvalidArgument(f"name has {len(change.name.encode())} bytes; at most {_MAX_NAME_BYTES} are allowed")
    given = change.model_dump(exclude_none=True, exclude={"notify"})
    return replace(queue, **given, notify=_notify(queue.notify, change.notify), updated_at=now)


def _notify(old: Notify, change: NotifyChange | None) -> Notify:
    if change is None:
        return old
    given = change.model_dump(exclude_none=True, exclude={"events"})
    events = old.events if change.events is None else tuple(dict.fromkeys(change.events))
    notify = replace(old, **given, events=events)
    if notify.is_on and not (notify.url and notify.events):
        raise InvalidArgument("notify.is_on is true, so notify needs url and events")
    return notify


def notify_view(notify: Notify) -> NotifyView:
    return NotifyView(is_on=notify.is_on, url=notify.url, events=list(notify.events), format=notify.format)


def queue_view(queue: Queue, load: QueueLoad) -> QueueView:
    return QueueView(
        id=queue.id,
        bucket=queue.bucket,
        service=queue.service,
        name=queue.name,
        state=queue.state,
        notify=notify_view(queue.notify),
        max_size=queue.max_size,
        max_concurrent=queue.max_concurrent,
        waiting=load.waiting,
        running=load.running,
        created_at=queue.created_at,
        updated_at=queue.updated_at,
    )
