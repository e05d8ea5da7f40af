"""Every creation of an object is an event, committed with it; other stores tell theirs by `/-/events/s3`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from tests.edge_harness import BUCKET, COS_HOST, Harness, Reply, running_edge
from tests.object_server import ObjectServer, running_object_server
from tests.support.forms import multipart, post, signed
from tests.support.notifications import MINIO

from cloudfinite.domain.events import ObjectEvent
from cloudfinite.ports import Store
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.events import EventService
from cloudfinite.web.events import EventPages


@pytest.fixture
async def server(store: Store, tmp_path: Path) -> AsyncIterator[ObjectServer]:
    async with running_object_server(store, tmp_path / "objects") as running:
        yield running


async def events_of(store: Store) -> Sequence[ObjectEvent]:
    return await store.run(lambda tx: tx.events.take(100))


async def create(server: ObjectServer, how: str) -> Reply:
    """Create the object `k` of 4 bytes in one of the ways there are."""
    headers = {"Content-Type": "image/png", "x-cos-meta-b": "2", "x-cos-meta-a": "1", "Cache-Control": "no-cache"}
    match how:
        case "Put":
            return await server.ask("PUT", "k", b"data", headers=headers)
        case "Post":
            fields = {"key": "k", **headers}
            return await post(server, multipart(signed(server, fields), b"data"))
        case "Append":
            return await server.ask("POST", "k", b"data", query="append&position=0", headers=headers)
        case "Copy":
            await server.ask("PUT", "source", b"data", headers=headers)
            return await server.ask("PUT", "k", headers={"x-cos-copy-source": f"{COS_HOST}/source"})
    started = await server.ask("POST", "k", query="uploads", headers=headers)
    upload_id = started.body.decode().partition("<UploadId>")[2].partition("<")[0]
    part = await server.ask("PUT", "k", b"data", query=f"partNumber=1&uploadId={upload_id}")
    parts = f"<Part><PartNumber>1</PartNumber><ETag>{part['ETag']}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    return await server.ask("POST", "k", body, query=f"uploadId={upload_id}")


@pytest.mark.parametrize("how", ["Put", "Post", "Copy", "CompleteMultipartUpload", "Append"])
async def test_each_way_of_creating_an_object_is_an_event(server: ObjectServer, store: Store, how: str) -> None:
    done = await create(server, how)
    assert done.status in (200, 204)
    *_, event = await events_of(store)
    assert (event.name, event.bucket, event.key) == (f"cos:ObjectCreated:{how}", BUCKET, "k")
    assert (event.size_bytes, event.request_id) == (4, done["x-cos-request-id"])
    assert event.headers == {"Content-Type": "image/png", "x-cos-meta-a": "1", "x-cos-meta-b": "2"}


async def test_refused_upload_and_part_are_no_events(server: ObjectServer, store: Store) -> None:
    await server.ask("PUT", "k", b"data", headers={"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="})
    await server.ask("POST", "k", query="uploads")
    await server.ask("DELETE", "k")
    assert await events_of(store) == []


async def test_replacing_an_object_is_another_event(server: ObjectServer, store: Store) -> None:
    for _ in range(2):
        await create(server, "Put")
    for position in (0, 4):
        await server.ask("POST", "log", b"data", query=f"append&position={position}")
    names = [event.name.rpartition(":")[2] for event in await events_of(store)]
    assert names == ["Put", "Put", "Append", "Append"]


# --- other stores --------------------------------------------------------------------------------------------------


class Listening:
    """The page, on a store with one bucket; `woken` counts the wake-ups."""

    def __init__(self, store: Store, secret: str) -> None:
        self.woken = 0
        service = EventService(store, {"scans": BUCKET}, self.wake)
        self.page = EventPages(service, secret)

    def wake(self) -> None:
        self.woken += 1


async def tell(harness: Harness, body: bytes, **headers: str) -> Reply:
    return await harness.call("POST", "/-/events/s3", host="127.0.0.1", body=body, headers=headers, is_signed=False)


async def test_other_stores_creation_is_an_event_once(store: Store) -> None:
    await BucketService(store).ensure_bucket(BUCKET, "ap-chongqing")
    listening = Listening(store, "shh")
    async with running_edge(answers={"own.page": listening.page.serve}) as harness:
        for count in (1, 0):  # told twice
            done = await tell(harness, json.dumps(MINIO).encode(), Authorization="Bearer shh")
            assert (done.status, json.loads(done.body)) == (200, {"creations": 1, "new": count})
    (event,) = await events_of(store)
    assert (event.name, event.bucket, event.key) == ("cos:ObjectCreated:Put", BUCKET, "in/a b.png")
    assert event.headers["x-cos-meta-team"] == "蓝"
    assert listening.woken == 1


async def test_event_of_no_bucket_or_key_of_ours_is_left_out(sqlite_store: Store) -> None:
    listening = Listening(sqlite_store, "shh")  # the bucket was not made
    async with running_edge(answers={"own.page": listening.page.serve}) as harness:
        for body in (json.dumps(MINIO), json.dumps(MINIO).replace("in%2Fa+b.png", "%0A")):
            done = await tell(harness, body.encode(), Authorization="shh")
            assert json.loads(done.body) == {"creations": 1, "new": 0}
    assert (await events_of(sqlite_store), listening.woken) == ([], 0)


@pytest.mark.parametrize(("secret", "given"), [("shh", ""), ("shh", "Bearer no"), ("shh", "Bearer "), ("", "Bearer ")])
async def test_notification_needs_the_secret(sqlite_store: Store, secret: str, given: str) -> None:
    listening = Listening(sqlite_store, secret)
    async with running_edge(answers={"own.page": listening.page.serve}) as harness:
        refused = await tell(harness, b"{}", **({"Authorization": given} if given else {}))
        assert (refused.status, refused.code) == (403, "AccessDenied")
