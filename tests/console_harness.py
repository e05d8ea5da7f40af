"""A served console over a real store, with jobs and deliveries put there as the services would, for its tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from prometheus_client import CollectorRegistry
from tests.edge_harness import BUCKET, SECRET_ID, SECRET_KEY, TOKEN, Group, Harness, Reply

from cloudfinite.adapters.addresses import parse_url
from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.adapters.pool import ChildPool
from cloudfinite.adapters.seal import AesSeal
from cloudfinite.adapters.store import SqliteStore, system_clock
from cloudfinite.domain.delivery import Attempt, AttemptResult, Delivery, DeliveryState
from cloudfinite.domain.job import CallbackChoice, Job, JobInput, JobRequest, Outcome
from cloudfinite.domain.objects import Bucket
from cloudfinite.operations import operations
from cloudfinite.ports import Pool, Store, Transaction
from cloudfinite.service.changes import ChangeFeed
from cloudfinite.service.deliveries import DeliveryService
from cloudfinite.service.jobs import JobService
from cloudfinite.service.object_files import Body, ObjectFiles
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.previews import CHILD_MODULE, PreviewService
from cloudfinite.service.queues import QueueLimits
from cloudfinite.service.run_control import RunControl
from cloudfinite.service.signing import Signer
from cloudfinite.service.workflows import WorkflowService
from cloudfinite.web.console import Console, Welcome, inbox_subject
from cloudfinite.web.inbox import Inbox
from cloudfinite.web.pages import OwnPages
from cloudfinite.web.routes import Handlers, Router
from cloudfinite.web.server import Edge, EdgeConfig
from cloudfinite.wire.shapes import CallbackFormat, callback_body
from cloudfinite.wire.webhooks import new_secret

REGION = "ap-chongqing"
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'&\u202e\x07"
"""Text that would run, or break the page, where it is not escaped."""


class NoChildren:
    """A pool of a process that runs no operations."""

    size = idle = 0


@dataclass
class Line:
    text: str
    confidence: int
    box: tuple[int, int, int, int]

    def data(self) -> dict[str, Any]:
        x, y, width, height = self.box
        right, bottom = x + width - 1, y + height - 1
        corners = [{"x": a, "y": b} for a, b in ((x, y), (right, y), (right, bottom), (x, bottom))]
        box = {"x": x, "y": y, "width": width, "height": height}
        return {"text": self.text, "confidence": self.confidence, "box": box, "corners": corners}


def detection(lines: Sequence[Line]) -> dict[str, Any]:
    """A stored result of ImageOCR."""
    return {"angle": "0", "pdf_page_count": 0, "language": "zh", "lines": [line.data() for line in lines]}


def picture(lines: Sequence[Line] = (), size: tuple[int, int] = (360, 220)) -> bytes:
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for line in lines:
        draw.text(line.box[:2], line.text, fill="black")
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _ignore(_told: object) -> None:
    """Nobody waits for it."""


class Desk:
    """A console being served, and hands to put things into its store. `replayed` is what it asked to send again."""

    def __init__(self, store: Store, objects: ObjectService, feed: ChangeFeed) -> None:
        self.store = store
        self.objects = objects
        self.feed = feed
        self.replayed: list[str] = []
        self.deliveries = ReplayKeeper(self)
        self.inbox = Inbox(system_clock, on_received=lambda name, _message: feed.publish(inbox_subject(name)))
        self.edge = Harness()
        self.workflows = WorkflowService(store, operations(), QueueLimits(), parse_url)
        self.runs = RunControl(
            store, objects.find_object, operations(), QueueLimits(), on_started=_ignore, on_cancelled=_ignore
        )
        self.jobs = JobService(
            store,
            operations(),
            QueueLimits(),
            parse_url,
            on_submitting=lambda: None,
            on_submitted=lambda _jobs: None,
            on_progress=lambda _progress: None,
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.edge.port}"

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.edge.call("GET", path, host=f"127.0.0.1:{self.edge.port}", headers=headers, is_signed=False)

    async def page(self, path: str) -> str:
        """The text of a page that must be there."""
        reply = await self.get(path)
        assert reply.status == 200, reply.body.decode()
        return reply.body.decode()

    async def post(self, path: str, body: bytes = b"", site: str = "same-origin") -> Reply:
        host = f"127.0.0.1:{self.edge.port}"
        headers = {"Sec-Fetch-Site": site, "Content-Type": "application/x-www-form-urlencoded"}
        return await self.edge.call("POST", path, host=host, headers=headers, body=body, is_signed=False)

    # --- what is in the store

    async def put(self, key: str, data: bytes) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            yield data

        await self.objects.put_object(BUCKET, key, Body(chunks()), {})

    async def submit(self, key: str = "pic/a.png", tag: str = "ImageOCR", **given: Any) -> Job:
        params = given.pop("params", {"mode": "general"} if tag == "ImageOCR" else {"type": "MD5"})
        url = given.pop("url", "")
        request = JobRequest(tag, JobInput("" if url else key, url), params, **given)
        [job] = await self.jobs.submit_jobs(BUCKET, [request])
        return job

    async def finish(self, job: Job, result: Mapping[str, Any] | None = None, **how: str) -> Job:
        """Claim that job, and end it. Jobs that waited before it are claimed too."""

        def work(tx: Transaction) -> Job:
            leases, _ = tx.jobs.claim("desk", 1_000, timedelta(seconds=10), "")
            lease = next(lease for lease in leases if lease.job.id == job.id)
            ended = tx.jobs.finish(Outcome(lease, result, **how))
            assert ended is not None
            return ended

        ended = await self.store.run(work)
        self.feed.publish(job.id)
        return ended

    async def read_job(self, lines: Sequence[Line], key: str = "pic/a.png", source_etag: str = "", **given: Any) -> Job:
        """An OCR job that succeeded."""
        return await self.finish(await self.submit(key, **given), detection(lines), source_etag=source_etag)

    async def deliver(
        self, job: Job, form: CallbackFormat = CallbackFormat.XML, *attempts: Attempt, state: str = "delivered"
    ) -> Delivery:
        """The job's callback, with these attempts made."""
        content_type, body = callback_body(job, operations()[job.tag], form, wrapped=True)
        at = datetime.now(UTC)
        delivery = Delivery(f"msg-{job.id}", job.id, job.bucket, "http://127.0.0.1:1/in", content_type, body, at, at)

        def work(tx: Transaction) -> None:
            tx.deliveries.insert(delivery)
            tx.deliveries.admit("desk", timedelta(seconds=10), 10, 10)
            for attempt in attempts:
                outcome = DeliveryState(state) if attempt is attempts[-1] else DeliveryState.WAITING
                tx.deliveries.record([AttemptResult(attempt, outcome, timedelta(hours=1))], [], tx.now)

        await self.store.run(work)
        self.feed.publish(job.id)
        return delivery


class ReplayKeeper(DeliveryService):
    """Keeps what it is asked to send again, for nothing is sent here."""

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk.store, Signer([new_secret()], AesSeal("test")), parse_url, lambda _made, _urls: None)
        self._desk = desk

    async def replay_delivery(self, delivery_id: str) -> None:
        self._desk.replayed.append(delivery_id)


@asynccontextmanager
async def served_console(
    folder: Path, *, with_children: bool = False, config: EdgeConfig | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        store = SqliteStore(folder / "store.db", synchronous="OFF")
        stack.push_async_callback(store.close)
        files = LocalObjects(folder / "objects")
        stack.callback(files.close)
        pool: Any = NoChildren()
        if with_children:
            pool = ChildPool(1, None, modules=[CHILD_MODULE])
            await pool.start()
            stack.push_async_callback(pool.close)
        desk = Desk(store, ObjectService(ObjectFiles(store, files)), ChangeFeed())
        await store.run(lambda tx: tx.buckets.ensure(Bucket(BUCKET, REGION, tx.now)))
        console = make_console(desk, pool, folder)
        await serve(desk, console, config or EdgeConfig(default_bucket=BUCKET, admin_token=TOKEN), host)
        stack.push_async_callback(desk.edge.edge.close, 0.2)
        stack.callback(desk.feed.close)
        for_clients = desk.edge.clients
        try:
            yield desk
        finally:
            for client in for_clients:
                await client.close()


def make_console(desk: Desk, pool: Pool, folder: Path) -> Console:
    return Console(
        desk.store,
        desk.jobs,
        PreviewService(desk.objects, pool, folder / "scratch", 5_000_000),
        desk.feed,
        desk.inbox,
        operations(),
        desk.deliveries,
        desk.workflows,
        desk.runs,
        desk.edge.clock,
        Welcome(BUCKET, REGION, SECRET_ID, SECRET_KEY),
        picture_wait_s=30,
    )


async def serve(desk: Desk, console: Console, config: EdgeConfig, host: str) -> None:
    doors = {**dict.fromkeys(Console.DOORS, console.serve), "inbox": desk.inbox.serve}
    own = OwnPages(CollectorRegistry(), list, doors)
    others: dict[str, Any] = {
        item.name: Group(item.name, desk.edge.calls, {}) for item in fields(Handlers) if item.name != "own"
    }
    router = Router(Handlers(**others, own=own.serve), desk.edge.facts)
    desk.edge.edge = Edge(router, desk.edge.keys, desk.edge.clock, config, CollectorRegistry())
    [address] = await desk.edge.edge.start(host, 0)
    desk.edge.port = address.port


__all__ = ["BUCKET", "HOSTILE", "TOKEN", "CallbackChoice", "Desk", "Line", "detection", "picture", "served_console"]
