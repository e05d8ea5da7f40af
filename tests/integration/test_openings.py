"""Opening and closing services and binding buckets: the calls, and what they do to jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.edge_harness import BUCKET, CI_HOST, COS_HOST
from tests.object_server import ObjectServer, running_object_server

from cloudfinite.domain.job import JobInput, JobRequest
from cloudfinite.errors import ServiceClosed
from cloudfinite.operations import load, operations
from cloudfinite.ports import Store
from cloudfinite.service.jobs import submit_jobs
from cloudfinite.service.openings import OpeningService
from cloudfinite.service.queues import QueueLimits

PIC_HOST = COS_HOST.replace(".cos.", ".pic.")
LIST_HOST = "ci.ap-chongqing.myqcloud.com"
OTHER = "other-1250000000"


@pytest.fixture
async def server(store: Store, tmp_path: Path) -> AsyncIterator[ObjectServer]:
    async with running_object_server(store, tmp_path / "objects") as running:
        yield running


async def submit(store: Store, tag: str = "ImageOCR") -> None:
    load([])
    operation = operations()[tag]
    params = operation.params_value({"type": "md5"} if tag == "FileHashCode" else {})
    request = JobRequest(tag=tag, input=JobInput(object_key="a.png"), params=operation.params_data(params))
    await store.run(submit_jobs, BUCKET, [request], operations(), QueueLimits())


async def test_every_bucket_is_open_and_bound_from_the_start(server: ObjectServer) -> None:
    for segment, node in (("ai_bucket", "AiBucketList"), ("file_bucket", "FileBucketList")):
        listed = await server.ask("GET", segment, query="bucketNames=&pageSize=", host=LIST_HOST)
        assert f"<{node}><BucketId>{BUCKET}</BucketId><Name>{BUCKET}</Name>".encode() in listed.body
        assert b"<TotalCount>1</TotalCount><PageNumber>1</PageNumber><PageSize>10</PageSize>" in listed.body
    assert (await server.ask("GET", host=PIC_HOST)).body == b"<CIStatus>on</CIStatus>"


async def test_closed_service_refuses_its_jobs_and_no_others(server: ObjectServer, store: Store) -> None:
    closed = await server.ask("DELETE", "ai_bucket", host=CI_HOST)
    assert f"<BucketName>{BUCKET}</BucketName>".encode() in closed.body
    with pytest.raises(ServiceClosed, match="POST /ai_bucket"):
        await submit(store)
    await submit(store, "FileHashCode")
    listed = await server.ask("GET", "ai_bucket", host=LIST_HOST)
    assert b"<TotalCount>0</TotalCount>" in listed.body


async def test_opening_takes_jobs_again_and_twice_is_harmless(server: ObjectServer, store: Store) -> None:
    await server.ask("DELETE", "ai_bucket", host=CI_HOST)
    for _ in range(2):
        opened = await server.ask("POST", "ai_bucket", host=CI_HOST)
        assert f"<AiBucket><BucketId>{BUCKET}</BucketId>".encode() in opened.body
    assert (await server.ask("GET", "ai_bucket", host=LIST_HOST)).body.count(b"<AiBucketList>") == 1
    await submit(store)


async def test_unbound_bucket_refuses_all_jobs_and_keeps_its_objects(server: ObjectServer, store: Store) -> None:
    assert (await server.ask("PUT", query="unbind", host=PIC_HOST)).status == 200
    assert (await server.ask("GET", host=PIC_HOST)).body == b"<CIStatus>off</CIStatus>"
    with pytest.raises(ServiceClosed, match="not bound"):
        await submit(store, "FileHashCode")
    with pytest.raises(ServiceClosed):
        await OpeningService(store, QueueLimits()).check_bound(BUCKET)
    assert (await server.ask("PUT", "k", b"data")).status == 200
    assert (await server.ask("PUT", host=PIC_HOST)).status == 200
    await submit(store, "FileHashCode")


async def test_opening_a_service_binds_the_bucket(server: ObjectServer, store: Store) -> None:
    await server.ask("PUT", query="unbind", host=PIC_HOST)
    await server.ask("POST", "mediabucket", host=CI_HOST)
    assert (await server.ask("GET", host=PIC_HOST)).body == b"<CIStatus>on</CIStatus>"
    assert len(await store.read(lambda tx: tx.queues.of_bucket(BUCKET, "media"))) == 1


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", [BUCKET, OTHER]),
        ("bucketName=other", [OTHER]),
        (f"bucketNames={OTHER},{BUCKET}", [BUCKET, OTHER]),
        ("bucketNames=nobody-1", []),
        ("regions=ap-tokyo", [OTHER]),
        ("regions=All", [BUCKET, OTHER]),
        ("pageSize=1&pageNumber=2", [OTHER]),
    ],
)
async def test_list_is_narrowed_and_paged(server: ObjectServer, query: str, names: list[str]) -> None:
    assert server.buckets
    await server.buckets.create_bucket(OTHER, "ap-tokyo")
    listed = (await server.ask("GET", "mediabucket", query=query, host=LIST_HOST)).body.decode()
    assert [part.partition("<")[0] for part in listed.split("<BucketId>")[1:]] == names


async def test_unknown_bucket_is_told(server: ObjectServer) -> None:
    host = CI_HOST.replace(BUCKET, "nobody-1250000000")
    for method in ("POST", "DELETE"):
        assert (await server.ask(method, "ai_bucket", host=host)).code == "NoSuchBucket"
