"""The edge over real sockets, byte by byte."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest
from aiohttp import web
from prometheus_client import generate_latest
from tests.edge_harness import (
    BUCKET,
    CI_HOST,
    COS_HOST,
    SECRET_ID,
    SECRET_KEY,
    TOKEN,
    Harness,
    Reply,
    running_edge,
)

from cloudfinite.errors import QueuePaused
from cloudfinite.web import replies
from cloudfinite.web.connection import Limits
from cloudfinite.web.request import Request
from cloudfinite.web.server import EdgeConfig
from cloudfinite.wire.nodes import Node
from cloudfinite.wire.routing import Hosts
from cloudfinite.wire.signature import presign

POST = "POST /jobs HTTP/1.1\r\nHost: localhost"


def config(**limits: float) -> EdgeConfig:
    hosts = Hosts(names={"ocr.lan": BUCKET})
    return EdgeConfig(hosts, BUCKET, "ap-chongqing", TOKEN, Limits(**limits))  # type: ignore[arg-type]


def signed_get(harness: Harness, target: str, host: str = CI_HOST, **headers: str) -> bytes:
    return harness.request_bytes("GET", target, host, headers=headers)


# --- targets and hosts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (f"http://{COS_HOST}/a%2Fb+c%20d", "/a/b+c d", ()),
        (f"http://{COS_HOST}//a//b/../c", "//a//b/../c", ()),
        (f"http://{COS_HOST}/k?x=1;2&y=a+b", "/k", (("x", "1;2"), ("y", "a b"))),
        ("//a//b", "//a//b", ()),
        ("/k?cancel", "/k", (("cancel", ""),)),
    ],
)
async def test_target_reaches_the_handler_decoded_once(
    target: str, path: str, query: tuple[tuple[str, str], ...]
) -> None:
    async with running_edge() as edge:
        reply = await edge.call("GET", target, host=COS_HOST, path=path)
    assert reply.status == 200
    [(_, request)] = edge.calls
    assert (request.path, request.query.pairs) == (path, query)
    assert (request.bucket, request.region, request.secret_id) == (BUCKET, "ap-chongqing", SECRET_ID)


async def test_absolute_target_decides_and_not_the_host_header() -> None:
    async with running_edge() as edge:
        text = edge.authorization("GET", "/jobs", CI_HOST)
        head = f"GET http://{CI_HOST}/jobs HTTP/1.1\r\nHost: 127.0.0.1:{edge.port}\r\nAuthorization: {text}\r\n\r\n"
        assert (await edge.raw(head.encode())).status == 200
        stolen = head.replace(f"http://{CI_HOST}", "http://other-1.ci.ap-chongqing.myqcloud.com")
        assert (await edge.raw(stolen.encode())).code == "SignatureDoesNotMatch"


async def test_pathless_absolute_target_is_the_root() -> None:
    async with running_edge() as edge:
        reply = await edge.call("GET", f"http://{COS_HOST}?lifecycle", host=COS_HOST, path="/")
    assert (reply.status, reply.code) == (501, "NotImplemented")
    assert b"docs/coverage.md" in reply.body


@pytest.mark.parametrize(
    ("head", "status", "code"),
    [
        ("CONNECT b-1.ci.ap-x.myqcloud.com:443 HTTP/1.1\r\nHost: b-1.ci.ap-x.myqcloud.com:443", 400, "InvalidRequest"),
        ("GET / HTTP/1.1", 400, "InvalidHost"),
        ("GET / HTTP/1.0", 400, "InvalidHost"),
        ("GET / HTTP/1.1\r\nHost: a.lan\r\nHost: b.lan", 400, "InvalidHost"),
        ("GET / HTTP/1.1\r\nHost: evil.example", 400, "InvalidHost"),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost", 400, "InvalidHost"),
        (f"{POST}\r\nContent-Length: 3\r\nTransfer-Encoding: chunked", 400, "InvalidRequest"),
        (f"{POST}\r\nContent-Length: 3\r\nContent-Length: 4", 400, "InvalidRequest"),
        ("GET /%zz HTTP/1.1\r\nHost: localhost", 400, "InvalidURI"),
        ("GET /%ff HTTP/1.1\r\nHost: localhost", 400, "InvalidURI"),
        ("GET /%00 HTTP/1.1\r\nHost: localhost", 400, "InvalidURI"),
        ("GET /a#b HTTP/1.1\r\nHost: localhost", 400, "InvalidURI"),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost", 400, "InvalidURI"),
        ("GET http://[::1 HTTP/1.1\r\nHost: localhost", 400, "InvalidURI"),
        ("GET http://a:b/ HTTP/1.1\r\nHost: localhost", 400, "InvalidURI"),
        ("GET http://u:p@localhost/ HTTP/1.1\r\nHost: localhost", 400, "InvalidHost"),
        ("GET mailto:a@b HTTP/1.1\r\nHost: localhost", 400, "InvalidURI"),
        ("GET /a HTTP/1.1\r\nHost: localhost\r\nX-A: " + "a" * 9_000, 431, "RequestHeaderSectionTooLarge"),
        ("GET /" + "a" * 20_000 + " HTTP/1.1\r\nHost: localhost", 431, "RequestHeaderSectionTooLarge"),
        ("\x16\x03\x01\x02", 400, "InvalidRequest"),
        ("GIBBERISH", 400, "InvalidRequest"),
    ],
)  # fmt: skip
async def test_request_that_cannot_be_served_is_told_why(head: str, status: int, code: str) -> None:
    async with running_edge(config()) as edge:
        reply = await edge.raw(head.encode("latin-1") + b"\r\n\r\n")
        assert (reply.status, reply.code) == (status, code)
        assert_error_document(reply)
        assert (await edge.call("GET", "/jobs")).status == 200  # and the server is as well as before


def assert_error_document(reply: Reply) -> None:
    for name in ("Code", "Message", "Resource", "RequestId", "TraceId"):
        value = reply.body.partition(f"<{name}>".encode())[2].partition(f"</{name}>".encode())[0]
        assert value, name
    assert reply["x-ci-request-id"] == reply["x-cos-request-id"]
    assert reply["x-ci-request-id"].encode() in reply.body
    assert reply["x-ci-trace-id"] == reply["x-cos-trace-id"]
    assert reply["Content-Type"] == "application/xml"
    assert reply.get("x-cos-error-code") is None


async def test_connect_says_to_set_the_sdk_to_http_and_closes() -> None:
    async with running_edge() as edge:
        client = await edge.connect()
        client.send(b"CONNECT b-1.ci.ap-x.myqcloud.com:443 HTTP/1.1\r\nHost: b-1.ci.ap-x.myqcloud.com:443\r\n\r\n")
        assert b"to http" in (await client.reply()).body
        assert await client.is_closed()


async def test_header_with_bytes_that_are_no_text_is_refused() -> None:
    async with running_edge() as edge:
        reply = await edge.raw(b"GET /a HTTP/1.1\r\nHost: localhost\r\nx-cos-meta-a: \xff\xfe\r\n\r\n")
    assert (reply.status, reply.code) == (400, "InvalidArgument")
    assert b"x-cos-meta-a" in reply.body


async def test_sum_of_the_headers_is_bounded() -> None:
    many = "".join(f"X-{index}: {'a' * 800}\r\n" for index in range(100)).encode()
    async with running_edge() as edge:
        reply = await edge.raw(b"GET /a HTTP/1.1\r\nHost: localhost\r\n" + many + b"\r\n")
        assert reply.status == 431
        client = await edge.connect()
        client.send(b"GET /a HTTP/1.1\r\nHost: localhost\r\n" + many)  # and never an end
        assert (await client.reply()).status == 431
        assert await client.is_closed()


# --- answers -------------------------------------------------------------------------------------------------------


async def test_every_answer_has_both_request_ids_and_exact_header_names() -> None:
    async with running_edge() as edge:
        ci, cos = await edge.call("GET", "/jobs"), await edge.call("GET", "/k", host=COS_HOST)
    assert ci["Server"] == "tencent-ci"
    assert cos["Server"] == "tencent-cos"
    for reply in (ci, cos):
        assert reply["x-ci-request-id"] == reply["x-cos-request-id"]
        assert reply["Content-Type"] == "application/xml"
        assert int(reply["Content-Length"]) == len(reply.body)
        assert reply["Date"].endswith("GMT")
        assert reply.get("Transfer-Encoding") is None
        assert f"<RequestId>{reply['x-ci-request-id']}</RequestId>".encode() in reply.body


async def test_letter_case_of_header_names_is_kept() -> None:
    async def answer(request: Request) -> web.StreamResponse:
        return replies.empty(request, headers=[("ETag", '"x"'), ("x-cos-hash-crc64ecma", "1")])

    async with running_edge(answers={"objects.put": answer}) as edge:
        reply = await edge.call("PUT", "/k", host=COS_HOST, body=b"12")
    assert reply["ETag"] == '"x"'
    assert reply["x-cos-hash-crc64ecma"] == "1"
    assert reply["Content-Length"] == "0"


async def test_head_has_no_body_even_when_refused() -> None:
    async with running_edge() as edge:
        client = await edge.connect()
        client.send(edge.request_bytes("HEAD", "/k", COS_HOST, is_signed=False))
        reply = await client.reply(has_body=False)
        client.send(signed_get(edge, "/jobs"))
        after = await client.reply()
    assert (reply.status, after.status) == (403, 200)


@pytest.mark.parametrize(
    ("accept", "query", "is_json"),
    [
        ("application/json", "", True),
        ("*/*", "?responseFormat=json", True),
        ("application/json, application/xml", "", False),
        ("*/*", "", False),
    ],
)
async def test_json_is_answered_only_when_asked_for(accept: str, query: str, is_json: bool) -> None:
    async with running_edge() as edge:
        reply = await edge.raw(signed_get(edge, "/jobs" + query, Accept=accept))
        refused = await edge.raw(
            edge.request_bytes("GET", "/jobs" + query, headers={"Accept": accept}, is_signed=False)
        )
    assert reply["Content-Type"] == ("application/json" if is_json else "application/xml")
    if is_json:
        assert json.loads(reply.body)["Response"]["Call"] == "jobs.list"
        error = json.loads(refused.body)
        assert error["Error"]["Code"] == error["code"] == "MissingAuthorization"
        assert error["Message"] == error["message"] == error["Error"]["Message"]


async def test_handlers_error_is_rendered_with_its_code_status_and_headers() -> None:
    async def refuse(request: Request) -> web.StreamResponse:
        raise QueuePaused("The queue p1 is paused.", resource="p1", headers=(("Retry-After", "1"),))

    async with running_edge(answers={"jobs.submit": refuse}) as edge:
        reply = await edge.call("POST", "/jobs", body=b"<Request/>")
    assert (reply.status, reply.code, reply["Retry-After"]) == (403, "QueuePaused", "1")
    assert b"<Resource>p1</Resource>" in reply.body
    assert_error_document(reply)


async def test_unexpected_failure_is_an_internal_error_without_its_reason() -> None:
    async def fail(request: Request) -> web.StreamResponse:
        raise RuntimeError("the password is secret")

    async with running_edge(answers={"jobs.list": fail}) as edge:
        reply = await edge.call("GET", "/jobs")
    assert (reply.status, reply.code) == (500, "InternalError")
    assert b"password" not in reply.body
    assert b"Traceback" not in reply.body


async def test_failure_after_the_answer_began_cuts_the_connection() -> None:
    async def fail_midway(request: Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "10"})
        await replies.begin(request, response)
        await response.write(b"12345")
        raise RuntimeError("disk died")

    async with running_edge(answers={"objects.get": fail_midway}) as edge:
        client = await edge.connect()
        client.send(signed_get(edge, "/k", COS_HOST))
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await client.reply()
    assert caught.value.partial == b"12345"


async def test_streamed_answer_carries_the_common_headers() -> None:
    async def stream(request: Request) -> web.StreamResponse:
        response = await replies.begin(request, web.StreamResponse(headers={"Content-Length": "3"}))
        await response.write(b"abc")
        return response

    async with running_edge(answers={"objects.get": stream}) as edge:
        reply = await edge.call("GET", "/k", host=COS_HOST)
    assert (reply.body, reply["Server"]) == (b"abc", "tencent-cos")
    assert reply["x-ci-request-id"] == reply["x-cos-request-id"]


async def test_long_value_in_a_message_is_cut() -> None:
    async def refuse(request: Request) -> web.StreamResponse:
        raise QueuePaused("x" * 1_000_000)

    async with running_edge(answers={"jobs.list": refuse}) as edge:
        assert len((await edge.call("GET", "/jobs")).body) < 2_000


# --- signatures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "target", "status", "code"),
    [
        (CI_HOST, "/jobs", 401, "MissingAuthorization"),
        (COS_HOST, "/k", 403, "AccessDenied"),
        ("127.0.0.1", "/jobs", 401, "MissingAuthorization"),
        ("127.0.0.1", "/k", 403, "AccessDenied"),
    ],
)
async def test_unsigned_request_is_refused_as_its_host_does(host: str, target: str, status: int, code: str) -> None:
    async with running_edge() as edge:
        reply = await edge.call("GET", target, host=host, is_signed=False)
    assert (reply.status, reply.code) == (status, code)
    assert not edge.calls


async def test_store_is_not_asked_before_the_signature_is_verified() -> None:
    async with running_edge() as edge:
        edge.edge._router._facts = None  # type: ignore[assignment]  # any question would fail
        assert (await edge.call("GET", "/jobs", host=COS_HOST, is_signed=False)).status == 403


async def test_presigned_link_opens_and_expires() -> None:
    async with running_edge(now=datetime.fromtimestamp(1_700_000_000, UTC)) as edge:
        keys = {"secret_id": SECRET_ID, "secret_key": SECRET_KEY}
        query = presign("GET", "/k", COS_HOST, **keys, start_s=1_700_000_000, end_s=1_700_000_600)
        assert (await edge.call("GET", f"/k?{query}", host=COS_HOST, is_signed=False)).status == 200
        edge.now = datetime.fromtimestamp(1_700_000_601, UTC)
        reply = await edge.call("GET", f"/k?{query}", host=COS_HOST, is_signed=False)
    assert (reply.status, reply.code) == (403, "AccessDenied")
    assert b"Request has expired" in reply.body


# --- bodies --------------------------------------------------------------------------------------------------------


async def read_body(request: Request) -> web.StreamResponse:
    return replies.data(request, await request.body(100), "text/plain")


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
async def test_coded_api_body_is_refused_and_a_coded_object_is_kept_as_sent(coding: str) -> None:
    async with running_edge(answers={"objects.put": read_body}) as edge:
        refused = await edge.call("POST", "/jobs", body=b"x", headers={"Content-Encoding": coding})
        stored = await edge.call("PUT", "/k", host=COS_HOST, body=b"\x1f\x8b", headers={"Content-Encoding": coding})
    assert (refused.status, refused.code) == (415, "InvalidContentType")
    assert (stored.status, stored.body) == (200, b"\x1f\x8b")


async def test_body_beyond_the_limit_is_refused_by_length_and_by_count() -> None:
    async with running_edge(answers={"jobs.submit": read_body}) as edge:
        told = await edge.call("POST", "/jobs", body=b"x" * 101)
        head = edge.request_bytes("POST", "/jobs").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        counted = await edge.raw(head + b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n")
    assert (told.status, counted.status) == (413, 413)


@pytest.mark.parametrize(
    ("digest", "on_ci", "on_cos"),
    [("AAAA", "InvalidContent", "InvalidDigest"), ("1B2M2Y8AsgTpgAmY7PhCfg==", "InvalidContent", "BadDigest")],
)
async def test_content_md5_must_match(digest: str, on_ci: str, on_cos: str) -> None:
    async with running_edge(answers={"jobs.submit": read_body}) as edge:
        wrong = [
            await edge.call("POST", "/jobs", host=host, body=b"x", headers={"Content-MD5": digest})
            for host in (CI_HOST, COS_HOST)
        ]
        right = await edge.call("POST", "/jobs", body=b"x", headers={"Content-MD5": "ndTkYSaMgDT1yFZOFVxnpg=="})
    assert [reply.code for reply in wrong] == [on_ci, on_cos]
    assert right.status == 200


async def test_broken_chunk_framing_is_an_incomplete_body() -> None:
    started = asyncio.Event()

    async def start_to_read(request: Request) -> web.StreamResponse:
        started.set()
        return await read_body(request)

    async with running_edge(answers={"jobs.submit": start_to_read}) as edge:
        client = await edge.connect()
        head = edge.request_bytes("POST", "/jobs").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
        client.send(head + b"5\r\nabc")
        await started.wait()
        client.send(b"XXXXXXX\r\nzz\r\n")
        assert (await client.reply()).code == "IncompleteBody"
        assert await client.is_closed()


async def test_client_that_waits_for_100_is_asked_only_after_its_signature_held() -> None:
    async with running_edge(answers={"jobs.submit": read_body}) as edge:
        client = await edge.connect()
        head = edge.request_bytes("POST", "/jobs", headers={"Expect": "100-continue", "Content-Length": "2"})
        client.send(head)
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(b"ok")
        assert (await client.reply()).body == b"ok"
        unsigned = await edge.call(
            "POST", "/jobs", headers={"Expect": "100-continue", "Content-Length": "2"}, is_signed=False
        )
    assert (unsigned.status, unsigned["Connection"]) == (401, "close")


# --- connections ---------------------------------------------------------------------------------------------------


async def test_connection_is_kept_and_pipelined_requests_are_answered_in_order() -> None:
    async with running_edge() as edge:
        client = await edge.connect()
        client.send(signed_get(edge, "/jobs") + signed_get(edge, "/queue") + signed_get(edge, "/template"))
        bodies = [(await client.reply()).body for _ in range(3)]
    assert [body.partition(b"<Call>")[2].partition(b"<")[0] for body in bodies] == [
        b"jobs.list", b"queues.list", b"templates.list",
    ]  # fmt: skip


async def test_slow_head_is_told_and_closed_and_a_silent_connection_only_closed() -> None:
    async with running_edge(config(head_s=0.1)) as edge:
        slow, silent = await edge.connect(), await edge.connect()
        slow.send(b"GET /jobs HTTP/1.1\r\nHost: loc")
        assert (await slow.reply()).code == "RequestTimeout"
        assert await slow.is_closed()
        assert await silent.reader.read() == b""


async def test_dribbled_head_gains_no_time() -> None:
    async with running_edge(config(head_s=0.2)) as edge:
        client = await edge.connect()

        async def dribble() -> None:
            while not client.reader.at_eof():
                client.send(b"X-A: b\r\n")
                await asyncio.sleep(0.02)

        client.send(b"GET /jobs HTTP/1.1\r\n")
        dribbling = asyncio.create_task(dribble())
        assert (await client.reply()).code == "RequestTimeout"
        dribbling.cancel()


async def test_slow_second_head_is_closed_but_a_kept_connection_may_rest() -> None:
    async with running_edge(config(head_s=0.1, keepalive_s=60)) as edge:
        resting, slow = await edge.connect(), await edge.connect()
        for client in (resting, slow):
            client.send(signed_get(edge, "/jobs"))
            assert (await client.reply()).status == 200
        slow.send(b"GET /")
        assert (await slow.reply()).code == "RequestTimeout"
        resting.send(signed_get(edge, "/jobs"))
        assert (await resting.reply()).status == 200


async def test_body_that_stops_arriving_ends_the_request() -> None:
    async with running_edge(config(body_stall_s=0.1), answers={"jobs.submit": read_body}) as edge:
        client = await edge.connect()
        client.send(edge.request_bytes("POST", "/jobs", headers={"Content-Length": "9"}) + b"abc")
        assert (await client.reply()).code == "RequestTimeout"


async def test_reader_that_stops_reading_is_cut_off() -> None:
    sent = asyncio.Event()

    async def stream(request: Request) -> web.StreamResponse:
        response = await replies.begin(request, web.StreamResponse(headers={"Content-Length": str(2**30)}))
        try:
            while True:
                await response.write(b"x" * 2**16)
        except ConnectionError:
            sent.set()
            raise

    async with running_edge(config(send_stall_s=0.2), answers={"objects.get": stream}) as edge:
        client = await edge.connect()
        client.send(signed_get(edge, "/k", COS_HOST))
        await asyncio.wait_for(sent.wait(), 10)


async def test_connection_idle_longest_makes_room_for_a_new_one() -> None:
    async with running_edge(config(connections=3)) as edge:
        clients = [await edge.connect() for _ in range(3)]
        for client in clients[1:]:
            client.send(signed_get(edge, "/jobs"))
            assert (await client.reply()).status == 200
        assert (await edge.call("GET", "/jobs")).status == 200
        assert await clients[0].is_closed()
        clients[2].send(signed_get(edge, "/jobs"))
        assert (await clients[2].reply()).status == 200


async def test_close_lets_a_request_end_and_closes_idle_connections() -> None:
    started, may_end = asyncio.Event(), asyncio.Event()

    async def wait(request: Request) -> web.StreamResponse:
        started.set()
        await may_end.wait()
        return replies.empty(request)

    async with running_edge(answers={"jobs.submit": wait}) as edge:
        idle, busy = await edge.connect(), await edge.connect()
        busy.send(edge.request_bytes("POST", "/jobs"))
        await started.wait()
        closing = asyncio.create_task(edge.edge.close(10))
        assert await idle.is_closed()
        may_end.set()
        reply = await busy.reply()
        await closing
        assert (reply.status, reply["Connection"]) == (200, "close")
        with pytest.raises(OSError):
            await edge.connect()


async def test_close_ends_what_is_beyond_its_grace() -> None:
    started = asyncio.Event()

    async def never(request: Request) -> web.StreamResponse:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with running_edge(answers={"jobs.submit": never}) as edge:
        client = await edge.connect()
        client.send(edge.request_bytes("POST", "/jobs"))
        await started.wait()
        await asyncio.wait_for(edge.edge.close(0.05), 5)
        assert await client.is_closed()


async def test_requests_are_counted_by_host_method_and_status() -> None:
    async with running_edge() as edge:
        await edge.call("GET", "/jobs")
        await edge.call("GET", "/jobs", is_signed=False)
        text = generate_latest(edge.metrics).decode()
    assert 'cloudfinite_requests_total{kind="ci",method="GET",status="2xx"} 1.0' in text
    assert 'cloudfinite_requests_total{kind="ci",method="GET",status="4xx"} 1.0' in text


# --- our own pages -------------------------------------------------------------------------------------------------


async def page(
    edge: Harness, method: str, path: str, host: str = "127.0.0.1", body: bytes = b"", **headers: str
) -> Reply:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return await edge.call(method, path, host=host, body=body, headers=names, is_signed=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "[::1]"])
async def test_own_pages_read_freely_on_loopback(host: str) -> None:
    async with running_edge(config()) as edge:
        assert (await page(edge, "GET", "/-/console/", host)).status == 200


async def test_own_pages_are_an_object_key_elsewhere() -> None:
    async with running_edge(config()) as edge:
        assert (await edge.call("GET", "/-/health", host=COS_HOST)).body.count(b"objects.get") == 1
        assert (await edge.call("GET", "/-/health")).code == "InvalidUrl"


async def test_changes_need_a_page_of_ours_or_the_token_on_loopback_too() -> None:
    async with running_edge(config()) as edge:
        assert (await page(edge, "POST", "/-/api/v1/jobs")).status == 403
        assert (await page(edge, "POST", "/-/api/v1/jobs", Sec_Fetch_Site="cross-site")).status == 403
        assert (await page(edge, "DELETE", "/-/inbox/a", Sec_Fetch_Site="same-site")).status == 403
        assert (await page(edge, "POST", "/-/api/v1/jobs", Sec_Fetch_Site="same-origin")).status == 200
        assert (await page(edge, "POST", "/-/api/v1/jobs", Authorization=f"Bearer {TOKEN}")).status == 200
        assert (await page(edge, "POST", "/-/api/v1/jobs", Authorization="Bearer wrong")).status == 403


@pytest.mark.parametrize("path", ["/-/inbox/demo", "/-/events/s3"])
async def test_receivers_take_posts_from_anywhere(path: str) -> None:
    async with running_edge(config()) as edge:
        assert (await page(edge, "POST", path, X_Forwarded_For="8.8.8.8")).status == 200


async def test_inbox_exception_is_exactly_its_post() -> None:
    async with running_edge(config()) as edge:
        assert (await page(edge, "PUT", "/-/inbox/demo")).status == 403
        assert (await page(edge, "POST", "/-/inbox/demo/settings")).status == 403
        assert (await page(edge, "GET", "/-/inbox/demo", X_Forwarded_For="8.8.8.8")).status == 401


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("192.168.1.9", {}),
        ("ocr.lan", {}),
        ("127.0.0.1", {"X_Forwarded_For": "8.8.8.8"}),
        ("localhost", {"Via": "1.1 p"}),
    ],
)
async def test_off_loopback_reading_needs_the_token_too(host: str, headers: dict[str, str]) -> None:
    async with running_edge(config()) as edge:
        assert (await page(edge, "GET", "/-/metrics", host, **headers)).code == "MissingAuthorization"
        assert (await page(edge, "GET", "/-/metrics", host, Authorization=f"Bearer {TOKEN}", **headers)).status == 200
        for path in ("/-/health", "/-/ready", "/-/login"):
            assert (await page(edge, "GET", path, host, **headers)).status == 200


async def test_browser_is_led_to_the_login_and_its_cookie_opens_the_pages() -> None:
    async with running_edge(config(), now=datetime(2026, 1, 5, tzinfo=UTC)) as edge:
        led = await page(edge, "GET", "/-/console/jobs", "ocr.lan", Accept="text/html")
        assert (led.status, led["Location"]) == (303, "/-/login?next=/-/console/jobs")
        wrong = await page(edge, "POST", "/-/login", "ocr.lan", b"token=wrong")
        assert (wrong.status, wrong.get("Set-Cookie")) == (403, None)
        body = f"token={TOKEN}&next=/-/console/jobs".encode()
        opened = await page(edge, "POST", "/-/login", "ocr.lan", body)
        assert (opened.status, opened["Location"]) == (303, "/-/console/jobs")
        assert "HttpOnly; SameSite=Strict" in opened["Set-Cookie"]
        cookie = opened["Set-Cookie"].partition(";")[0]
        assert (await page(edge, "GET", "/-/console/jobs", "ocr.lan", Cookie=cookie)).status == 200
        assert (await page(edge, "POST", "/-/api/v1/x", "ocr.lan", Cookie=cookie)).status == 403
        forged = cookie.replace("login=", "login=9")
        assert (await page(edge, "GET", "/-/console/jobs", "ocr.lan", Cookie=forged)).status == 401
        edge.now = datetime(2026, 1, 13, tzinfo=UTC)
        assert (await page(edge, "GET", "/-/console/jobs", "ocr.lan", Cookie=cookie)).status == 401


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/-/../x\\evil", "/-/%0d%0aX:1"])
async def test_login_leads_to_our_own_pages_only(target: str) -> None:
    async with running_edge(config()) as edge:
        reply = await page(edge, "POST", "/-/login", body=f"token={TOKEN}&next={target}".encode())
    assert reply["Location"] == "/-/console/"


async def test_without_a_token_set_nobody_has_it() -> None:
    async with running_edge(EdgeConfig(default_bucket=BUCKET)) as edge:
        assert (await page(edge, "POST", "/-/api/v1/jobs", Authorization="Bearer ")).status == 403
        assert (await page(edge, "POST", "/-/login", body=b"token=")).status == 403


async def test_objects_on_our_hosts_cannot_act_as_our_pages() -> None:
    async with running_edge(config()) as edge:
        stored = await edge.call("GET", "/evil.html", host="127.0.0.1")
        ours = await page(edge, "GET", "/-/console/")
        elsewhere = await edge.call("GET", "/evil.html", host=COS_HOST)
    assert (stored["Content-Security-Policy"], stored["X-Content-Type-Options"]) == ("sandbox", "nosniff")
    assert (ours.get("Content-Security-Policy"), ours["X-Content-Type-Options"]) == (None, "nosniff")
    assert elsewhere.get("Content-Security-Policy") is None


async def test_node_without_text_is_answered_as_it_is_declared() -> None:
    async def answer(request: Request) -> web.StreamResponse:
        return replies.node(request, Node("Response", (Node("Empty", ""),)), 202)

    async with running_edge(answers={"jobs.list": answer}) as edge:
        reply = await edge.call("GET", "/jobs")
    assert (reply.status, reply.body) == (202, b"<Response><Empty/></Response>")
