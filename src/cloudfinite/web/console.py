"""The console: pages of jobs, one job, deliveries and the inbox, rendered here and kept fresh by server-sent events.

Wire: our choice – design of the project, section 3.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from aiohttp import web

from cloudfinite.domain.job import JobState
from cloudfinite.errors import (
    InvalidArgument,
    InvalidUrl,
    JobFailed,
    MethodNotAllowed,
    RequestError,
    ServiceUnavailable,
)
from cloudfinite.operations.image_ocr import TextLine
from cloudfinite.ports import Clock, Store, Transaction
from cloudfinite.service.changes import EVERYTHING, ChangeFeed, Subscription
from cloudfinite.service.deliveries import DeliveryService
from cloudfinite.service.jobs import JobService
from cloudfinite.service.previews import Preview, PreviewService
from cloudfinite.service.run_control import RunControl
from cloudfinite.service.workflows import WorkflowService
from cloudfinite.web import console_inbox as post
from cloudfinite.web import console_job as one
from cloudfinite.web import console_jobs as many
from cloudfinite.web import replies
from cloudfinite.web.console_deliveries import DeliveryPages
from cloudfinite.web.console_frame import PAGE_HEADERS, Frame, read_form
from cloudfinite.web.console_workflows import WorkflowPages
from cloudfinite.web.drawing import MAX_LINES, draw_boxes, draw_spans, picture_size
from cloudfinite.web.inbox import Inbox
from cloudfinite.web.request import Request
from cloudfinite.wire.operation import Operation

_HOME = "/-/console/"
_PICTURE_LIMIT_S = 60.0
_EVENTS_APART_S = 0.3
_BEAT_S = 10.0  # Finds pages that were closed, and changes that no feed told (another process made them).


@dataclass(frozen=True, slots=True)
class Welcome:
    """What the first page's snippets are filled with: where to, and a key pair that may be shown ("" for none)."""

    bucket: str = ""
    region: str = ""
    secret_id: str = ""
    secret_key: str = ""


class Console:
    """Serves `/-/console/…`, `/-/static/…` and the login's page."""

    DOORS = ("console", "static", "login")

    def __init__(
        self,
        store: Store,
        jobs: JobService,
        previews: PreviewService,
        feed: ChangeFeed,
        inbox: Inbox,
        operations: Mapping[str, Operation],
        deliveries: DeliveryService,
        workflows: WorkflowService,
        runs: RunControl,
        clock: Clock,
        welcome: Welcome,
        *,
        picture_wait_s: float = 1.5,
    ) -> None:
        """picture_wait_s: a page waits no longer for its picture; the picture's own request does."""
        self._store = store
        self._jobs = jobs
        self._previews = previews
        self._feed = feed
        self._inbox = inbox
        self._operations = operations
        self._clock = clock
        self._welcome = welcome
        self._picture_wait_s = picture_wait_s
        self._frame = Frame()
        self._deliveries = DeliveryPages(deliveries, feed, self._frame, clock)
        self._workflows = WorkflowPages(workflows, runs, feed, self._frame, operations, clock)
        self._counters = many.Counters(time.monotonic)

    async def serve(self, request: Request) -> web.StreamResponse:
        """Errors become pages here, for they are read by people."""
        try:
            return await self._route(request)
        except RequestError as exc:
            values = {"status": exc.status, "code": exc.code, "message": exc.message}
            response = self._frame.page(request, "error.html", values, now=self._clock(), status=exc.status)
            response.headers.extend(exc.headers)
            return response

    async def _route(self, request: Request) -> web.StreamResponse:
        method = "GET" if request.method == "HEAD" else request.method
        door, *path = request.segments[1:]
        match method, door, path:
            case "GET", "static", [name]:
                return self._frame.static_file(request, name)
            case "GET", "login", []:
                return self._login(request)
            case "GET", "console", []:
                return replies.see_other(request, _HOME)
            case "GET", "console", [""]:
                return await self._job_list(request)
            case "GET", "console", ["events"]:
                return await self._events(request)
            case "GET", "console", ["jobs", job_id]:
                return await self._job(request, job_id)
            case "GET", "console", ["jobs", job_id, "picture"]:
                return await self._picture(request, job_id)
            case "POST", "console", ["jobs", job_id, "cancel"]:
                return await self._cancel(request, job_id)
            case "GET" | "POST", "console", ["deliveries" | "targets", *_]:
                return await self._deliveries.serve(request, method, path)
            case "GET" | "POST", "console", ["workflows" | "runs", *_]:
                return await self._workflows.serve(request, method, path)
            case "GET", "console", ["inbox", ""] | ["inbox"]:
                return self._inboxes(request)
            case "GET", "console", ["inbox", name]:
                return await self._inbox_page(request, name)
            case "POST", "console", ["inbox", name, "faults"]:
                self._inbox.add_fault(name, post.read_fault(await read_form(request)))
                return self._back_to_inbox(request, name)
            case "POST", "console", ["inbox", name, "clear"]:
                await post.clear(self._inbox, request, name)
                return self._back_to_inbox(request, name)
        if method not in ("GET", "POST"):
            raise MethodNotAllowed(headers=(("Allow", "GET, HEAD, POST"),))
        raise InvalidUrl(f"there is no page {request.path}")

    def _login(self, request: Request) -> web.Response:
        return self._frame.page(request, "login.html", {"next": request.query.get("next")}, now=self._clock())

    # --- jobs ------------------------------------------------------------------------------------------------------

    async def _job_list(self, request: Request) -> web.Response:
        wanted = many.read_wanted(request.query, self._clock())
        page = await self._jobs.list_jobs(wanted.bucket, wanted.filter)
        counts = self._counters.fresh(wanted.bucket)
        started = time.monotonic()
        buckets, counted = await self._store.read(_buckets_and_counts, wanted.bucket, counts is None)
        if counts is None:
            counts = counted
            self._counters.keep(wanted.bucket, counts, started)
        values = {
            "wanted": wanted,
            "rows": [many.make_row(job) for job in page.jobs],
            "next_url": many.next_url(wanted, page),
            "counts": {state: counts.get(state, 0) for state in JobState},
            "total": sum(counts.values()),
            "buckets": buckets,
            "tags": list(self._operations),
            "since": list(many.SINCE),
            "welcome": self._welcome,
            "base_url": f"http://{request.host}",
        }
        return self._frame.page(request, "jobs.html", values, now=self._clock())

    async def _job(self, request: Request, job_id: str) -> web.Response:
        facts = await self._store.read(one.read_job_facts, job_id)
        job = facts.job
        operation = self._operations.get(job.tag)
        if operation is None:
            raise InvalidArgument(f"the job {job_id} has the tag {job.tag}, which this process does not know")
        lines = one.text_lines(job, operation)
        values: dict[str, Any] = {
            "facts": facts,
            "job": job,
            "name": job.input.object_key or job.input.url,
            "lines": lines,
            "line_limit": MAX_LINES,
            "spans": one.spans(facts),
            "life": draw_spans(one.spans(facts)),
            "told_at": one.told_at(facts),
            "can_cancel": one.can_cancel(job),
            "parameters": one.parameter_rows(job, operation),
            "answer": one.api_answer(job, operation),
            "bodies": {item.delivery.id: one.show_body(item.delivery.body, item.delivery.content_type)
                       for item in facts.deliveries},
            "show_answer": one.show_answer,
            **await self._picture_values(facts, lines),
        }  # fmt: skip
        return self._frame.page(request, "job.html", values, now=facts.now)

    async def _picture_values(self, facts: one.JobFacts, lines: Sequence[TextLine] | None) -> dict[str, Any]:
        """The drawing of the job page: the picture with its boxes, or the boxes alone and why."""
        job = facts.job
        found: dict[str, Any] = {"boxes": "", "picture_note": "", "is_drawing": False, "picture_url": ""}
        if not one.shows_picture(job):
            if lines:
                found["boxes"] = draw_boxes(lines, *picture_size(lines))
                found["picture_note"] = "The input came from a URL; looking at it here does not fetch it again."
            return found
        try:
            async with asyncio.timeout(self._picture_wait_s):
                preview = await self._preview(facts)
        except TimeoutError:
            found.update(is_drawing=True, picture_note="The picture is still being drawn.")
        except (JobFailed, RequestError) as exc:
            found["picture_note"] = f"No picture: {exc.message}."
        else:
            # The ETag in the address: another object of this key is another picture.
            url = f"/-/console/jobs/{quote(job.id)}/picture?of={quote(preview.etag.strip(chr(34)))}"
            found["picture_url"] = url
            found["boxes"] = draw_boxes(lines or (), preview.width_px, preview.height_px, url)
            if job.source_etag and job.source_etag != preview.etag:
                found["picture_note"] = "The object was replaced after the job had read it: the boxes may not fit."
        if not found["boxes"] and lines:
            found["boxes"] = draw_boxes(lines, *picture_size(lines))
        return found

    async def _preview(self, facts: one.JobFacts) -> Preview:
        job = facts.job
        return await self._previews.preview(job.bucket, job.input.object_key, one.picture_page(job))

    async def _picture(self, request: Request, job_id: str) -> web.Response:
        facts = await self._store.read(one.read_job_facts, job_id)
        if not one.shows_picture(facts.job):
            raise InvalidUrl(f"the job {job_id} has no picture")
        try:
            async with asyncio.timeout(_PICTURE_LIMIT_S):
                preview = await self._preview(facts)
        except TimeoutError as exc:
            raise ServiceUnavailable("the picture was not drawn in time; try again") from exc
        except JobFailed as exc:
            raise InvalidUrl(exc.message) from exc
        return replies.data(request, preview.data, preview.content_type, headers=PAGE_HEADERS)

    async def _cancel(self, request: Request, job_id: str) -> web.Response:
        facts = await self._store.read(one.read_job_facts, job_id)
        await self._jobs.cancel_job(facts.job.bucket, job_id)
        self._feed.publish(job_id)
        return replies.see_other(request, f"/-/console/jobs/{quote(job_id)}")

    # --- inbox -----------------------------------------------------------------------------------------------------

    def _inboxes(self, request: Request) -> web.Response:
        inboxes = [(name, len(self._inbox.messages(name))) for name in self._inbox.names()]
        values = {"inboxes": inboxes, "base_url": f"http://{request.host}"}
        return self._frame.page(request, "inboxes.html", values, now=self._clock())

    async def _inbox_page(self, request: Request, name: str) -> web.Response:
        values = {
            "faults": await post.waiting_faults(self._inbox, request, name),
            "name": name,
            "url": f"http://{request.host}/-/inbox/{name}",
            "arrivals": post.arrivals(self._inbox, name),
            "count": len(self._inbox.messages(name)),
            "events": inbox_subject(name),
        }
        return self._frame.page(request, "inbox.html", values, now=self._clock())

    def _back_to_inbox(self, request: Request, name: str) -> web.Response:
        self._feed.publish(inbox_subject(name))
        return replies.see_other(request, f"/-/console/inbox/{quote(name)}")

    # --- live ------------------------------------------------------------------------------------------------------

    async def _events(self, request: Request) -> web.StreamResponse:
        """Server-sent events: `change` with what changed (or `*`), `beat` when nothing happened for a while.

        `?of=<job id or inbox:name>` tells of that one only.
        """
        only = request.query.get("of")
        with self._feed.subscribe() as changes:
            response = web.StreamResponse(headers=dict(PAGE_HEADERS))
            response.content_type = "text/event-stream"
            await replies.begin(request, response)
            try:
                await response.write(b"retry: 2000\n\n")
                while (event := await _next_event(changes, only)) is not None:
                    await response.write(event)
                    await asyncio.sleep(_EVENTS_APART_S)
            except ConnectionError:
                return response  # The page was closed.
            await response.write_eof()
            return response


def inbox_subject(name: str) -> str:
    """How the change feed calls an inbox; jobs go by their ids."""
    return f"inbox:{name}"


def _buckets_and_counts(tx: Transaction, bucket: str, counts: bool) -> tuple[list[str], Mapping[JobState, int]]:
    names = sorted(item.name for item in tx.buckets.all())
    return names, tx.jobs.count_by_state(bucket or None) if counts else {}


async def _next_event(changes: Subscription, only: str) -> bytes | None:
    """The next event's text; None when the feed has closed."""
    try:
        async with asyncio.timeout(_BEAT_S):
            while (ids := await changes.take()) is not None:
                if ids == EVERYTHING:
                    return b"event: change\ndata: *\n\n"
                if not only or only in ids:
                    data = json.dumps([only] if only else sorted(ids), separators=(",", ":"))
                    return f"event: change\ndata: {data}\n\n".encode()
            return None
    except TimeoutError:
        return b"event: beat\ndata: \n\n"
