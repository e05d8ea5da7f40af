"""Calls from pages: preflights, the headers of answers and of errors, and a bucket's own rules."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.edge_harness import CI_HOST, Reply
from tests.object_server import ObjectServer, running_object_server

from cloudfinite.ports import Store

PAGE = "https://app.example.com"
LOCAL = "http://localhost:5173"
RULES = b"""<CORSConfiguration><CORSRule><ID>a</ID><AllowedOrigin>https://*.example.com</AllowedOrigin>
<AllowedMethod>PUT</AllowedMethod><AllowedMethod>GET</AllowedMethod><AllowedHeader>x-cos-*</AllowedHeader>
<AllowedHeader>Authorization</AllowedHeader><ExposeHeader>ETag</ExposeHeader><ExposeHeader>x-cos-meta-*</ExposeHeader>
<MaxAgeSeconds>600</MaxAgeSeconds></CORSRule></CORSConfiguration>"""


@pytest.fixture
async def server(store: Store, tmp_path: Path) -> AsyncIterator[ObjectServer]:
    async with running_object_server(store, tmp_path / "objects") as running:
        yield running


async def preflight(
    server: ObjectServer, origin: str, method: str, headers: str = "", target: str = "/k", **more: str
) -> Reply:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
    asked = {name: value for name, value in asked.items() if value}
    return await server.call("OPTIONS", target, headers=asked, is_signed=False, **more)


async def test_own_rules_decide_the_preflight(server: ObjectServer) -> None:
    assert (await server.ask("PUT", query="cors", body=RULES)).status == 200
    good = await preflight(server, PAGE, "PUT", "authorization, x-cos-meta-a")
    assert good.status == 200
    assert good["Access-Control-Allow-Origin"] == PAGE
    assert good["Access-Control-Allow-Methods"] == "PUT, GET"
    assert good["Access-Control-Allow-Headers"] == "authorization, x-cos-meta-a"
    assert (good["Access-Control-Max-Age"], good["Vary"]) == ("600", "Origin")
    for refused in (
        await preflight(server, "https://evil.example", "PUT"),
        await preflight(server, PAGE, "DELETE"),
        await preflight(server, PAGE, "PUT", "x-other"),
        await preflight(server, LOCAL, "PUT"),  # rules of its own replace the development default
    ):
        assert (refused.status, refused.code) == (403, "AccessForbidden")
        assert refused.get("Access-Control-Allow-Origin") is None


async def test_page_may_read_what_the_rule_exposes(server: ObjectServer) -> None:
    await server.ask("PUT", query="cors", body=RULES)
    put = await server.ask("PUT", "k", b"data", headers={"Origin": PAGE, "x-cos-meta-team": "blue"})
    assert (put["Access-Control-Allow-Origin"], put["Access-Control-Expose-Headers"]) == (PAGE, "ETag")
    got = await server.ask("GET", "k", headers={"Origin": PAGE})
    assert set(got["Access-Control-Expose-Headers"].split(", ")) == {"ETag", "x-cos-meta-team"}
    other = await server.ask("GET", "k", headers={"Origin": "https://evil.example"})
    assert other.get("Access-Control-Allow-Origin") is None
    assert (await server.ask("GET", "k")).get("Access-Control-Allow-Origin") is None


async def test_kept_answer_stays_readable_after_not_modified(server: ObjectServer) -> None:
    put = await server.ask("PUT", "k", b"data", headers={"x-cos-meta-team": "blue"})
    kept = await server.ask("GET", "k", headers={"Origin": LOCAL, "If-None-Match": put["ETag"]})
    assert (kept.status, kept["Access-Control-Allow-Origin"]) == (304, LOCAL)
    assert kept.get("Access-Control-Expose-Headers") is None


async def test_page_may_read_errors(server: ObjectServer) -> None:
    missing = await server.ask("GET", "no", headers={"Origin": LOCAL})
    assert (missing.code, missing["Access-Control-Allow-Origin"]) == ("NoSuchKey", LOCAL)
    unsigned = await server.call("GET", "/jobs", headers={"Origin": LOCAL}, is_signed=False)
    assert (unsigned.status, unsigned["Access-Control-Allow-Origin"]) == (401, LOCAL)


@pytest.mark.parametrize("origin", ["http://localhost", LOCAL, "http://127.0.0.1:8080", "https://[::1]:1"])
async def test_development_default_lets_in_the_pages_of_this_machine(server: ObjectServer, origin: str) -> None:
    allowed = await preflight(server, origin, "POST", "content-type", "/jobs", host=CI_HOST)
    assert allowed["Access-Control-Allow-Origin"] == origin
    got = await server.ask("HEAD", "no", headers={"Origin": origin})
    assert {"x-cos-request-id", "x-ci-request-id"} <= set(got["Access-Control-Expose-Headers"].split(", "))


@pytest.mark.parametrize(
    "origin",
    [PAGE, "http://localhost.evil.example", "http://127.0.0.1.evil.example:80", "null"],
)
async def test_development_default_lets_in_nobody_else(server: ObjectServer, origin: str) -> None:
    assert (await preflight(server, origin, "GET")).status == 403


async def test_rules_are_given_back_and_removed(server: ObjectServer) -> None:
    assert (await server.ask("GET", query="cors")).code == "NoSuchCORSConfiguration"
    await server.ask("PUT", query="cors", body=RULES)
    assert (await server.ask("GET", query="cors")).body == RULES.replace(b"\n", b"")
    assert (await server.ask("DELETE", query="cors")).status == 204
    assert (await server.ask("GET", query="cors")).status == 404


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("", "MalformedXML"),
        ("<CORSRule><AllowedOrigin>*</AllowedOrigin></CORSRule>", "MalformedXML"),
        (
            "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>PATCH</AllowedMethod></CORSRule>",
            "InvalidArgument",
        ),
        (
            "<CORSRule><AllowedOrigin>*.*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule>",
            "InvalidArgument",
        ),
        (
            "<CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod>"
            "<ExposeHeader>a\r\nSet-Cookie: b</ExposeHeader></CORSRule>",
            "InvalidArgument",
        ),
    ],
)
async def test_rules_that_mean_nothing_are_refused(server: ObjectServer, rule: str, code: str) -> None:
    body = f"<CORSConfiguration>{rule}</CORSConfiguration>".encode()
    assert (await server.ask("PUT", query="cors", body=body)).code == code


async def test_preflight_needs_its_two_headers(server: ObjectServer) -> None:
    bare = await server.call("OPTIONS", "/k", is_signed=False)
    assert (bare.status, bare.code) == (400, "InvalidArgument")
