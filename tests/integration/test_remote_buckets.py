"""Buckets that other storages keep, through the edge: an S3 server with its outages, and a folder that is only read."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from fastcrc import crc64
from tests.edge_harness import BUCKET, COS_HOST, Reply, running_edge
from tests.object_server import ObjectServer, running_object_server
from tests.support.notifications import MINIO
from tests.support.seaweed import Seaweed

from cloudfinite.adapters.folder import FolderStorage
from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.adapters.outbound import OutboundClient
from cloudfinite.adapters.s3 import S3Storage
from cloudfinite.domain.events import ObjectEvent
from cloudfinite.domain.job import JobInput
from cloudfinite.domain.objects import ListQuery, StoredObject
from cloudfinite.errors import InputMissing, SetupError, StorageFailed
from cloudfinite.ports import Store
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.events import EventService
from cloudfinite.service.object_files import ObjectFiles
from cloudfinite.service.sources import Sources
from cloudfinite.service.staging import PREFIX
from cloudfinite.web.events import EventPages

MIB = 1 << 20
LOCAL = "local-1250000000"
LOCAL_HOST = COS_HOST.replace(BUCKET, LOCAL)
NUMBERS = count(1)


@dataclass
class Setup:
    """An edge whose bucket BUCKET is kept in SeaweedFS; LOCAL is one of ours."""

    server: ObjectServer
    storage: S3Storage
    folder: Path
    store: Store

    def files(self) -> list[Path]:
        """Ours: nothing of a remote bucket may stay here."""
        return [path for path in self.folder.rglob("*") if path.is_file()]

    async def staged(self) -> list[str]:
        page = await self.storage.select(ListQuery(prefix=PREFIX))
        return [item.key for item in page.objects]

    async def events(self) -> list[ObjectEvent]:
        return await self.store.run(lambda tx: tx.events.take(100))


async def running(store: Store, weed: Seaweed, folder: Path, *, tells: bool = False) -> AsyncIterator[Setup]:
    name = f"edge-{next(NUMBERS)}"
    weed.make_bucket(name)
    storage = weed.storage(BUCKET, name)
    storage.tells_creations = tells
    async with running_object_server(store, folder, limit_bytes=64 * MIB, storages={BUCKET: storage}) as server:
        assert server.buckets
        await server.buckets.ensure_bucket(LOCAL, "ap-chongqing")
        yield Setup(server, storage, folder, store)
    await storage.close()


@pytest.fixture
async def setup(sqlite_store: Store, seaweed: Seaweed, tmp_path: Path) -> AsyncIterator[Setup]:
    async for found in running(sqlite_store, seaweed, tmp_path / "objects"):
        yield found


@pytest.fixture
async def telling(sqlite_store: Store, seaweed: Seaweed, tmp_path: Path) -> AsyncIterator[Setup]:
    async for found in running(sqlite_store, seaweed, tmp_path / "objects", tells=True):
        yield found


@pytest.fixture
def own_seaweed() -> Iterator[Seaweed]:
    """One to kill."""
    weed = Seaweed()
    try:
        weed.start()
        yield weed
    finally:
        weed.remove()


async def upload(server: ObjectServer, key: str, parts: list[bytes]) -> Reply:
    started = await server.ask("POST", key, query="uploads", headers={"x-cos-meta-a": "b"})
    upload_id = started.body.decode().partition("<UploadId>")[2].partition("<")[0]
    words = ""
    for number, data in enumerate(parts, 1):
        part = await server.ask("PUT", key, data, query=f"partNumber={number}&uploadId={upload_id}")
        assert part["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
        words += f"<Part><PartNumber>{number}</PartNumber><ETag>{part['ETag']}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{words}</CompleteMultipartUpload>".encode()
    return await server.ask("POST", key, body, query=f"uploadId={upload_id}")


# --- objects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 3, 9 * MIB + 5])
async def test_object_goes_to_the_storage_and_comes_back(setup: Setup, size: int) -> None:
    data = os.urandom(size)
    headers = {"Content-Type": "image/png", "x-cos-meta-team": "蓝", "Cache-Control": "max-age=60"}
    put = await setup.server.ask("PUT", "in/a.png", data, headers=headers)
    assert (put.status, put["x-cos-hash-crc64ecma"]) == (200, str(crc64.xz(data)))
    got = await setup.server.ask("GET", "in/a.png")
    assert (got.status, got.body, got["ETag"]) == (200, data, put["ETag"])
    assert (got["Content-Type"], got["x-cos-meta-team"], got["Cache-Control"]) == ("image/png", "蓝", "max-age=60")
    assert got["x-cos-hash-crc64ecma"] == put["x-cos-hash-crc64ecma"]
    assert setup.files() == []


async def test_ranges_and_preconditions_hold_for_remote_objects(setup: Setup) -> None:
    put = await setup.server.ask("PUT", "k", b"0123456789")
    part = await setup.server.ask("GET", "k", headers={"Range": "bytes=-3"})
    assert (part.status, part.body, part["Content-Range"]) == (206, b"789", "bytes 7-9/10")
    assert (await setup.server.ask("GET", "k", headers={"If-None-Match": put["ETag"]})).status == 304
    assert (await setup.server.ask("GET", "k", headers={"Range": "bytes=10-"})).code == "InvalidRange"
    assert (await setup.server.ask("HEAD", "k"))["Content-Length"] == "10"


async def test_objects_of_others_are_served_without_a_crc(setup: Setup, seaweed: Seaweed) -> None:
    import obstore
    from obstore.store import S3Store

    other = S3Store(
        setup.storage._place.bucket, endpoint=seaweed.endpoint, access_key_id="seaweed-key", region="us-east-1",
        secret_access_key="seaweed-secret", client_options={"allow_http": True},
    )  # fmt: skip
    await obstore.put_async(other, "theirs/a b.png", b"data", attributes={"Content-Type": "image/png", "team": "x"})
    got = await setup.server.ask("GET", "theirs/a b.png")
    assert (got.body, got["Content-Type"], got["x-cos-meta-team"]) == (b"data", "image/png", "x")
    assert got.get("x-cos-hash-crc64ecma") is None
    await setup.server.ask("PUT", "ours", b"ours", headers={"x-cos-meta-a": "1"})
    theirs = await obstore.get_async(other, "ours")
    assert (bytes(await theirs.bytes_async()), theirs.attributes["a"]) == (b"ours", "1")


@pytest.mark.parametrize("headers", [{"Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}, {"Content-MD5": "x"}])
async def test_refused_body_leaves_the_old_object(setup: Setup, headers: dict[str, str]) -> None:
    await setup.server.ask("PUT", "k", b"old")
    assert (await setup.server.ask("PUT", "k", b"new", headers=headers)).status == 400
    assert (await setup.server.ask("GET", "k")).body == b"old"


async def test_parts_of_any_size_become_one_object_and_leave_nothing(setup: Setup) -> None:
    parts = [os.urandom(size) for size in (1, MIB, 9 * MIB, 5)]
    done = await upload(setup.server, "big", parts)
    data = b"".join(parts)
    assert (done.status, done["x-cos-hash-crc64ecma"]) == (200, str(crc64.xz(data)))
    got = await setup.server.ask("GET", "big")
    assert (got.body, got["x-cos-meta-a"], got["ETag"]) == (data, "b", done["ETag"])
    assert len(await setup.staged()) == 4
    assert setup.server.objects
    await setup.server.objects.collect_garbage()
    assert (await setup.staged(), setup.files()) == ([], [])


async def test_parts_that_wait_are_in_no_list_and_out_of_reach(setup: Setup) -> None:
    started = await setup.server.ask("POST", "big", query="uploads")
    upload_id = started.body.decode().partition("<UploadId>")[2].partition("<")[0]
    await setup.server.ask("PUT", "big", b"data", query=f"partNumber=1&uploadId={upload_id}")
    [key] = await setup.staged()
    assert b"cloudfinite" not in (await setup.server.ask("GET", "", query="")).body
    assert b"cloudfinite" not in (await setup.server.ask("GET", "", query="delimiter=/")).body
    assert (await setup.server.ask("GET", key)).code == "NoSuchKey"
    assert (await setup.server.ask("PUT", key, b"x")).code == "InvalidArgument"
    assert (await setup.server.ask("DELETE", key)).status == 204
    assert await setup.staged() == [key]


async def test_copies_go_inside_a_storage_and_between_it_and_us(setup: Setup) -> None:
    server = setup.server
    put = await server.ask("PUT", "源", b"data", headers={"x-cos-meta-a": "b"})
    source = f"{COS_HOST}/%E6%BA%90"
    assert (await server.ask("PUT", "inside", headers={"x-cos-copy-source": source})).status == 200
    assert (await server.ask("PUT", "out", headers={"x-cos-copy-source": source}, host=LOCAL_HOST)).status == 200
    back = {"x-cos-copy-source": f"{LOCAL_HOST}/out", "x-cos-copy-source-If-Match": put["ETag"]}
    assert (await server.ask("PUT", "back", headers=back)).status == 200
    for host, key in ((COS_HOST, "inside"), (LOCAL_HOST, "out"), (COS_HOST, "back")):
        got = await server.ask("GET", key, host=host)
        assert (got.body, got["x-cos-meta-a"]) == (b"data", "b")
        assert got["x-cos-hash-crc64ecma"] == put["x-cos-hash-crc64ecma"]
    missing = {"x-cos-copy-source": f"{COS_HOST}/none"}
    assert (await server.ask("PUT", "k", headers=missing, host=LOCAL_HOST)).code == "NoSuchCopySource"


async def test_part_copied_from_a_remote_object(setup: Setup) -> None:
    await setup.server.ask("PUT", "source", b"0123456789")
    started = await setup.server.ask("POST", "k", query="uploads", host=LOCAL_HOST)
    upload_id = started.body.decode().partition("<UploadId>")[2].partition("<")[0]
    headers = {"x-cos-copy-source": f"{COS_HOST}/source", "x-cos-copy-source-range": "bytes=2-4"}
    part = await setup.server.ask(
        "PUT", "k", query=f"partNumber=1&uploadId={upload_id}", headers=headers, host=LOCAL_HOST
    )
    assert hashlib.md5(b"234").hexdigest() in part.body.decode()


async def test_many_are_deleted_and_the_missing_ones_count(setup: Setup) -> None:
    for key in ("a", "b", "c"):
        await setup.server.ask("PUT", key, b"x")
    body = "<Delete>" + "".join(f"<Object><Key>{key}</Key></Object>" for key in ("a", "b", "none")) + "</Delete>"
    done = await setup.server.ask("POST", "", body.encode(), query="delete")
    assert done.body.count(b"<Deleted>") == 3
    listed = (await setup.server.ask("GET", "", query="prefix=")).body.decode()
    assert [key for key in ("a", "b", "c") if f"<Key>{key}</Key>" in listed] == ["c"]


async def test_a_storage_cannot_append(setup: Setup) -> None:
    refused = await setup.server.ask("POST", "log", b"data", query="append&position=0")
    assert (refused.status, refused.code) == (409, "ObjectNotAppendable")


# --- events ----------------------------------------------------------------------------------------------------------


async def test_what_is_created_through_us_is_one_event_each(setup: Setup) -> None:
    await setup.server.ask("PUT", "k", b"data")
    await setup.server.ask("PUT", "copy", headers={"x-cos-copy-source": f"{COS_HOST}/k"})
    await upload(setup.server, "big", [b"ab", b"c"])
    events = await setup.events()
    assert [(event.name.rpartition(":")[2], event.key, event.size_bytes) for event in events] == [
        ("Put", "k", 4),
        ("Copy", "copy", 4),
        ("CompleteMultipartUpload", "big", 3),
    ]


async def test_storage_that_tells_is_believed_and_nothing_is_told_twice(telling: Setup) -> None:
    await telling.server.ask("PUT", "in/a b.png", b"data")  # The storage will tell of this one too.
    assert await telling.events() == []
    service = EventService(telling.store, {"scans": BUCKET}, lambda: None)
    async with running_edge(answers={"own.page": EventPages(service, "shh").serve}) as harness:
        for _ in range(2):
            done = await harness.call(
                "POST", "/-/events/s3", host="127.0.0.1", body=json.dumps(MINIO).encode(),
                headers={"Authorization": "Bearer shh"}, is_signed=False,
            )  # fmt: skip
            assert done.status == 200
    [event] = await telling.events()
    assert (event.name, event.bucket, event.key) == ("cos:ObjectCreated:Put", BUCKET, "in/a b.png")
    assert (await telling.server.ask("GET", event.key)).body == b"data"


async def test_storage_that_is_not_set_to_tell_is_not_heard(setup: Setup) -> None:
    service = EventService(setup.store, {"scans": BUCKET}, lambda: None, silent={BUCKET})
    async with running_edge(answers={"own.page": EventPages(service, "shh").serve}) as harness:
        done = await harness.call(
            "POST", "/-/events/s3", host="127.0.0.1", body=json.dumps(MINIO).encode(),
            headers={"Authorization": "Bearer shh"}, is_signed=False,
        )  # fmt: skip
    assert json.loads(done.body) == {"creations": 1, "new": 0}
    assert await setup.events() == []


# --- outages ---------------------------------------------------------------------------------------------------------


async def test_storage_killed_in_mid_upload_answers_5xx_and_keeps_the_old_object(
    sqlite_store: Store, own_seaweed: Seaweed, tmp_path: Path
) -> None:
    async for setup in running(sqlite_store, own_seaweed, tmp_path / "objects"):
        await setup.server.ask("PUT", "k", b"old")
        kill_at_the_second_part(setup.storage, own_seaweed)
        failed = await setup.server.ask("PUT", "k", os.urandom(30 * MIB))
        assert (failed.status, failed.code) == (503, "ServiceUnavailable")
        assert (await setup.server.ask("GET", "k")).status == 503
        assert (await setup.server.ask("GET", "", query="prefix=")).status == 503
        assert setup.files() == []
        await asyncio.to_thread(own_seaweed.start)
        assert (await setup.server.ask("GET", "k")).body == b"old"
        assert [event.size_bytes for event in await setup.events()] == [3]


def kill_at_the_second_part(storage: S3Storage, weed: Seaweed) -> None:
    send, calls = storage._send_part, count(1)

    async def dying(*arguments: Any) -> str:
        if next(calls) == 2:
            weed.kill()
        return await send(*arguments)

    storage._send_part = dying  # type: ignore[method-assign]


async def test_lost_remote_bucket_is_no_such_bucket(sqlite_store: Store, seaweed: Seaweed, tmp_path: Path) -> None:
    storage = seaweed.storage(BUCKET, "never-made")
    async with running_object_server(sqlite_store, tmp_path / "objects", storages={BUCKET: storage}) as server:
        refused = await server.ask("GET", "", query="prefix=")
        assert (refused.status, refused.code) == (404, "NoSuchBucket")
    await storage.close()


async def test_job_on_a_storage_that_is_away_may_be_tried_again(
    sqlite_store: Store, tmp_path: Path, unused_seaweed: Seaweed
) -> None:
    storage = unused_seaweed.storage(BUCKET, "b")
    async with running_object_server(sqlite_store, tmp_path / "objects", storages={BUCKET: storage}) as server:
        assert server.objects
        sources = Sources(server.objects, no_downloader(), tmp_path, 1)
        with pytest.raises(StorageFailed) as caught:
            async with sources.opened(BUCKET, JobInput("k")):
                pass
    assert caught.value.retryable
    await storage.close()


@pytest.fixture
def unused_seaweed() -> Iterator[Seaweed]:
    weed = Seaweed()
    yield weed
    weed.remove()


def no_downloader() -> OutboundClient:
    return None  # type: ignore[return-value]  # never asked


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
async def folder_server(sqlite_store: Store, tmp_path: Path) -> AsyncIterator[ObjectServer]:
    root = tmp_path / "scans"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "a b.png").write_bytes(b"picture")
    storage = FolderStorage(BUCKET, root)
    async with running_object_server(sqlite_store, tmp_path / "objects", storages={BUCKET: storage}) as server:
        yield server
    await storage.close()


async def test_files_of_a_folder_are_objects(folder_server: ObjectServer) -> None:
    got = await folder_server.ask("GET", "dir/a b.png")
    assert (got.status, got.body, got["Content-Type"]) == (200, b"picture", "image/png")
    assert "-" in got["ETag"] and got.get("x-cos-hash-crc64ecma") is None
    assert (await folder_server.ask("GET", "dir/a b.png", headers={"Range": "bytes=1-3"})).body == b"ict"
    assert b"<Key>dir/a b.png</Key>" in (await folder_server.ask("GET", "", query="prefix=dir/")).body


@pytest.mark.parametrize("key", ["../objects/tmp", "dir/../../secret", "/etc/passwd", "dir"])
async def test_nothing_beside_the_folder_is_served(folder_server: ObjectServer, tmp_path: Path, key: str) -> None:
    (tmp_path / "secret").write_text("secret")
    assert (await folder_server.ask("GET", key)).code == "NoSuchKey"


async def test_writes_to_a_folder_are_refused(folder_server: ObjectServer) -> None:
    copy = {"x-cos-copy-source": f"{COS_HOST}/dir/a%20b.png"}
    for refused in (
        await folder_server.ask("PUT", "new", b"x"),
        await folder_server.ask("PUT", "copy", headers=copy),
        await folder_server.ask("DELETE", "dir/a b.png"),
        await folder_server.ask("POST", "new", query="uploads"),
        await folder_server.ask("POST", "new", b"x", query="append&position=0"),
        await folder_server.ask("POST", "", b"<Delete><Object><Key>a</Key></Object></Delete>", query="delete"),
    ):
        assert (refused.status, refused.code) == (403, "AccessDenied")
        assert b"only read here" in refused.body


async def test_file_is_a_jobs_input_that_stays_as_it_is(folder_server: ObjectServer, tmp_path: Path) -> None:
    assert folder_server.objects
    sources = Sources(folder_server.objects, no_downloader(), tmp_path, 1)
    async with sources.opened(BUCKET, JobInput("dir/a b.png")) as source:
        (tmp_path / "scans" / "dir" / "a b.png").write_bytes(b"another")
        assert (source.path.read_bytes(), source.size_bytes) == (b"picture", 7)
    assert not source.path.exists()
    with pytest.raises(InputMissing):
        async with sources.opened(BUCKET, JobInput("none")):
            pass


# --- places ----------------------------------------------------------------------------------------------------------


async def test_bucket_with_objects_in_the_data_folder_cannot_move_away(sqlite_store: Store, tmp_path: Path) -> None:
    async with running_object_server(sqlite_store, tmp_path / "objects") as server:
        await server.ask("PUT", "k", b"data")
    with pytest.raises(SetupError, match="has objects in the data folder"):
        await BucketService(sqlite_store, {BUCKET}).check_places()


async def test_bucket_in_no_storage_needs_a_shared_folder(sqlite_store: Store) -> None:
    await BucketService(sqlite_store).ensure_bucket(LOCAL, "ap-chongqing")
    with pytest.raises(SetupError, match="shared folder"):
        await BucketService(sqlite_store, {BUCKET}, is_fixed=True).check_places()


async def test_part_of_a_crash_is_removed_when_it_is_old(setup: Setup) -> None:
    started = await setup.server.ask("POST", "big", query="uploads")
    upload_id = started.body.decode().partition("<UploadId>")[2].partition("<")[0]
    await setup.server.ask("PUT", "big", b"data", query=f"partNumber=1&uploadId={upload_id}")
    [kept] = await setup.staged()
    left = StoredObject(BUCKET, f"{PREFIX}{'0' * 32}", "", 0, "", 0, datetime.now(UTC))
    reader = await setup.storage.reader(left, 0, 0)
    await setup.storage.put(left, reader)
    files = ObjectFiles(setup.store, LocalObjects(setup.folder), {BUCKET: setup.storage})
    assert await files.collect_orphans(3600) == 0
    assert await files.collect_orphans(-60) == 1
    assert await setup.staged() == [kept]
