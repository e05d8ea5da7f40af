"""The official Python SDK, unchanged, against the edge with handlers that only answer."""

from __future__ import annotations

import asyncio
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from aiohttp import web
from tests.edge_harness import BUCKET, SECRET_ID, SECRET_KEY, Harness

from cloudfinite.errors import JobNotFound
from cloudfinite.web import replies
from cloudfinite.web.request import Request
from cloudfinite.web.server import EdgeConfig
from cloudfinite.wire.nodes import Node
from cloudfinite.wire.routing import Hosts

# The SDK's own modules warn when they are first imported; that is not ours to mend.
pytestmark = [pytest.mark.sdk, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


async def put(request: Request) -> web.StreamResponse:
    body = await request.body()
    return replies.empty(request, headers=[("ETag", f'"{len(body)}"'), ("x-cos-hash-crc64ecma", "0")])


async def submit(request: Request) -> web.StreamResponse:
    details = (Node("Code", "Success"), Node("JobId", "a1"), Node("State", "Submitted"))
    return replies.node(request, Node("Response", (Node("JobsDetail", details),)))


async def process(request: Request) -> web.StreamResponse:
    return replies.node(request, Node("Response", (Node("Angel", 0), Node("RequestId", request.id))))


async def no_such_job(request: Request) -> web.StreamResponse:
    raise JobNotFound("The job a9 does not exist.")


@pytest.fixture
def edge() -> Iterator[Harness]:
    """An edge in a thread of its own: the SDK blocks."""
    answers = {
        "objects.put": put,
        "jobs.submit": submit,
        "process.run": process,
        "jobs.describe": no_such_job,
    }
    harness = Harness(answers=answers)
    config = EdgeConfig(Hosts(names={"ocr.lan": BUCKET}), BUCKET, "ap-chongqing")
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    run: Callable[[Any], Any] = lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(10)  # noqa: E731
    run(harness.start(config))
    yield harness
    run(harness.edge.close(1))
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def endpoint(edge: Harness) -> dict[str, Any]:
    return {"Endpoint": f"cos.ap-x.localhost:{edge.port}", "EndpointCi": f"ci.ap-x.localhost:{edge.port}"}


WAYS: dict[str, Callable[[Harness], dict[str, Any]]] = {
    "proxy": lambda edge: {"Proxies": {"http": f"http://127.0.0.1:{edge.port}"}},
    "endpoint": endpoint,
    "ip-and-port": lambda edge: {"IP": "127.0.0.1", "Port": edge.port},
    "domain": lambda edge: {"Domain": f"127.0.0.1:{edge.port}"},
    "domain-in-hosts": lambda edge: {"Domain": f"ocr.lan:{edge.port}"},
}


@pytest.fixture(params=WAYS)
def client(edge: Harness, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    from qcloud_cos import CosConfig, CosS3Client

    def resolve(host: str, *args: Any, **more: Any) -> Any:
        # A plain machine resolves no names below `localhost`; a hosts file would.
        return real(host if host == "127.0.0.1" else "127.0.0.1", *args, **more)

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    way = WAYS[request.param](edge)
    return CosS3Client(
        CosConfig(Region="ap-chongqing", SecretId=SECRET_ID, SecretKey=SECRET_KEY, Scheme="http", **way), retry=0
    )


def test_put_object_gives_its_etag_by_the_exact_name(client: Any) -> None:
    answer = client.put_object(Bucket=BUCKET, Key="pic/ü 1+2.png", Body=b"12345", Metadata={"x-cos-meta-a": "b"})
    assert answer["ETag"] == '"5"'
    assert answer["x-cos-request-id"]


def test_key_reaches_the_handler_as_given(client: Any, edge: Harness) -> None:
    client.put_object(Bucket=BUCKET, Key="pic/ü 1+2%2F.png", Body=b"1")
    [(_, request)] = edge.calls
    assert (request.key, request.bucket) == ("pic/ü 1+2%2F.png", BUCKET)


def test_job_is_submitted_by_every_way_of_pointing_the_sdk_here(client: Any, edge: Harness) -> None:
    operation = {"ImageOCR": {"Type": "general"}}
    jobs = {"Tag": "ImageOCR", "Input": {"Object": "a.png"}, "Operation": operation}
    answer = client.ci_create_media_jobs(Bucket=BUCKET, Jobs=jobs, Lst={}, ContentType="application/xml")
    assert answer["JobsDetail"][0]["JobId"] == "a1"
    assert edge.calls[0][1].bucket == BUCKET


def test_synchronous_answer_is_parsed_as_xml(client: Any) -> None:
    answer = client.ci_ocr_process(Bucket=BUCKET, Key="a.png", Type="general")
    assert answer["Angel"] == "0"
    assert answer["RequestId"]


def test_error_code_and_request_id_are_read(client: Any, edge: Harness) -> None:
    from qcloud_cos import CosServiceError

    edge.facts.ids.add(("jobs", "a9"))
    with pytest.raises(CosServiceError) as caught:
        client.ci_get_media_jobs(Bucket=BUCKET, JobIDs="a9")
    assert caught.value.get_error_code() == "JobNotFound"
    assert caught.value.get_error_msg() == "The job a9 does not exist."
    assert caught.value.get_status_code() == 404
    assert caught.value.get_request_id()
    assert caught.value.get_trace_id()
    assert caught.value.get_resource_location()


def test_call_that_is_not_built_is_told_apart_from_a_failure(client: Any) -> None:
    from qcloud_cos import CosServiceError

    with pytest.raises(CosServiceError) as caught:
        client.get_bucket_lifecycle(Bucket=BUCKET)
    assert (caught.value.get_error_code(), caught.value.get_status_code()) == ("NotImplemented", 501)


def test_list_and_queue_calls_with_empty_parameters_find_their_handlers(client: Any, edge: Harness) -> None:
    edge.facts.ids.add(("jobs", "a1"))
    client.ci_list_media_jobs(Bucket=BUCKET, Tag="ImageOCR", ContentType="application/xml")
    client.ci_get_ai_queue(Bucket=BUCKET)
    client.ci_cancel_jobs(Bucket=BUCKET, JobID="a1")
    assert [name for name, _ in edge.calls] == ["jobs.list", "queues.list", "jobs.cancel"]


def test_wrong_key_is_told_by_its_code(edge: Harness) -> None:
    from qcloud_cos import CosConfig, CosS3Client, CosServiceError

    config = CosConfig(
        Region="ap-chongqing", SecretId=SECRET_ID, SecretKey="wrong", Scheme="http", **WAYS["proxy"](edge)
    )
    with pytest.raises(CosServiceError) as caught:
        CosS3Client(config, retry=0).put_object(Bucket=BUCKET, Key="a", Body=b"1")
    assert caught.value.get_error_code() == "SignatureDoesNotMatch"


def test_presigned_url_of_the_sdk_opens(edge: Harness) -> None:
    from qcloud_cos import CosConfig, CosS3Client

    config = CosConfig(
        Region="ap-chongqing", SecretId=SECRET_ID, SecretKey=SECRET_KEY, Scheme="http", Domain=f"127.0.0.1:{edge.port}"
    )
    url = CosS3Client(config).get_presigned_url(BUCKET, "pic/ü 1.png", "GET", Params={"response-content-type": "a/b"})
    with urllib.request.urlopen(url) as reply:
        assert reply.status == 200
