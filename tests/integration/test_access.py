"""The edge lets a call through to those keys alone whose policy has its action: a test for each row, each scope."""

from __future__ import annotations

import pytest
from tests.edge_harness import BUCKET, CI_HOST, COS_HOST, SECRET_ID, FixedKeys, Harness, KnownFacts, Reply, running_edge

from cloudfinite.domain.access import NOTHING, Action, Grant, Policy, Rule, Scope
from cloudfinite.web.request import HostKind
from cloudfinite.web.routes import TABLE, Row, Shape

OTHER = "otherbucket-1250000000"
HOSTS = {
    HostKind.CI: CI_HOST,
    HostKind.COS: COS_HOST,
    HostKind.PIC: COS_HOST.replace(".cos.", ".pic."),
    HostKind.SERVICE: "service.cos.myqcloud.com",
}
SIGNED = [row for row in TABLE if row.handler and row.is_signed]


def keys(*rules: Rule, public: Grant = NOTHING) -> FixedKeys:
    """The test's key pair with this policy; without rules, with none at all."""
    return FixedKeys(grants={SECRET_ID: Grant((Policy(rules),)) if rules else NOTHING}, public=public)


def only(*actions: Action, buckets: tuple[str, ...] = ("*",), prefixes: tuple[str, ...] = ("",)) -> Rule:
    return Rule(buckets, prefixes, tuple(action.wire for action in actions))


async def send(harness: Harness, method: str, target: str, host: str = COS_HOST, *, is_signed: bool = True) -> Reply:
    client = await harness.connect()
    client.send(harness.request_bytes(method, target, host, is_signed=is_signed))
    return await client.reply(has_body=method != "HEAD")


def request_of(row: Row) -> tuple[str, str, str]:
    path = ("/" + row.path if row.path else "") + {Shape.ID: "/x1", Shape.KEY: "/in/k.png"}.get(row.shape, "")
    host = CI_HOST if row.is_api else HOSTS[sorted(row.hosts)[0]]
    return row.method, (path or "/") + (f"?{row.flag}" if row.flag else ""), host


# --- one test a row ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", SIGNED, ids=lambda row: row.title)
async def test_row_is_refused_without_its_action_and_served_with_it_alone(row: Row) -> None:
    assert row.action is not None
    others = only(*(action for action in Action if action.wire != row.action.wire))
    async with running_edge(keys=keys(others)) as harness:
        refused = await send(harness, *request_of(row))
        assert (refused.status, harness.calls) == (403, [])
        if row.method != "HEAD":
            assert refused.code == "AccessDenied"
    async with running_edge(keys=keys(only(row.action))) as harness:
        served = await send(harness, *request_of(row))
        assert (served.status, [name for name, _ in harness.calls]) == (200, [row.handler])


@pytest.mark.parametrize("row", [row for row in SIGNED if row.action], ids=lambda row: row.title)
async def test_row_of_another_bucket_is_refused(row: Row) -> None:
    assert row.action is not None
    async with running_edge(keys=keys(only(*Action, buckets=(OTHER,)))) as harness:
        reply = await send(harness, *request_of(row))
        is_of_account = row.action.scope is Scope.ACCOUNT  # its handler leaves out what the key may not see
        assert reply.status == (200 if is_of_account else 403)


@pytest.mark.parametrize("row", SIGNED, ids=lambda row: row.title)
async def test_row_without_signature_is_served_for_reading_public_objects_alone(row: Row) -> None:
    public = Grant((Policy((only(Action.GET_OBJECT, Action.HEAD_OBJECT, buckets=(BUCKET,)),)),))
    async with running_edge(keys=keys(public=public)) as harness:
        reply = await send(harness, *request_of(row), is_signed=False)
        is_reading = row.handler in ("objects.get", "objects.head")
        assert reply.status == (200 if is_reading else 401 if row.is_api or HostKind.CI in row.hosts else 403)
        assert bool(harness.calls) is is_reading


def test_row_with_a_handler_and_no_action_is_refused_at_import() -> None:
    with pytest.raises(ValueError, match="needs an action"):
        Row("GET", "jobs", handler="jobs.list")


def test_calls_that_need_no_key_are_these_alone() -> None:
    assert {row.title for row in TABLE if not row.is_signed} == {"OPTIONS /*", "POST /"}


# --- scopes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("GET /in/a", 200), ("GET /in/", 200), ("GET /in", 403), ("GET /IN/a", 403), ("GET /a/in/b", 403),
        ("GET /in%2Fa", 200), ("GET /in/../out", 200),  # keys are opaque: this is one below `in/`
        ("GET /%69n/a", 200),
        ("GET /?prefix=in/", 200), ("GET /?prefix=in/sub", 200), ("GET /?prefix=in", 403), ("GET /", 403),
        ("GET /?prefix=&Prefix=in/", 200), ("GET /?prefix=out/&prefix=in/", 403),
        ("GET /?list-type=2&prefix=in/", 200), ("GET /?list-type=2", 403),
        ("GET /?uploads&prefix=in/", 200), ("GET /?uploads", 403),
        ("HEAD /", 403), ("GET /?location", 403), ("GET /?cors", 403), ("PUT /?acl", 403),
        ("POST /?delete", 200),  # each key is checked by its handler
    ],
)  # fmt: skip
async def test_prefix_lets_through_what_begins_with_it(call: str, status: int) -> None:
    method, _, target = call.partition(" ")
    async with running_edge(keys=keys(only(*Action, prefixes=("in/",)))) as harness:
        path = {"/in%2Fa": "/in/a", "/%69n/a": "/in/a"}.get(target, "")
        client = await harness.connect()
        client.send(harness.request_bytes(method, target, COS_HOST, path))
        assert (await client.reply(has_body=method != "HEAD")).status == status


@pytest.mark.parametrize(
    ("call", "status"),
    [
        ("POST /jobs", 200), ("GET /jobs", 200), ("GET /jobs/a1", 200), ("PUT /jobs/a1?cancel", 200),
        ("GET /ai_queue", 403), ("PUT /ai_queue/p1", 403), ("GET /template", 403), ("POST /template", 403),
        ("POST /ai_bucket", 403), ("GET /ai_bucket", 200), ("PUT /", 403), ("GET /", 403),
    ],
)  # fmt: skip
async def test_what_a_bucket_shares_is_not_for_keys_with_a_prefix(call: str, status: int) -> None:
    method, _, target = call.partition(" ")
    async with running_edge(keys=keys(only(*Action, prefixes=("in/",)))) as harness:
        assert (await send(harness, method, target, CI_HOST)).status == status


async def test_bucket_that_the_key_may_not_see_is_refused_before_the_store_is_asked() -> None:
    class NoFacts(KnownFacts):
        async def object_exists(self, bucket: str, key: str, /) -> bool:
            raise AssertionError("asked about an object")

        async def id_is_ours(self, segment: str, item_id: str, /) -> bool:
            raise AssertionError("asked about an id")

    async with running_edge(keys=keys(only(*Action, buckets=(OTHER,))), facts=NoFacts()) as harness:
        for target in ("/jobs/a1", "/jobs", "/queue/p1"):
            assert (await send(harness, "GET", target)).code == "AccessDenied"


async def test_handlers_are_told_who_signed_and_what_they_may_do() -> None:
    pair = keys(only(Action.GET_OBJECT, prefixes=("in/",)))
    async with running_edge(keys=pair) as harness:
        await send(harness, "GET", "/in/a")
        [(_, request)] = harness.calls
    assert (request.secret_id, request.grant) == (SECRET_ID, pair.grants[SECRET_ID])


async def test_call_that_is_not_built_says_so_to_keys_alone() -> None:
    public = Grant((Policy((only(Action.GET_OBJECT),)),))
    async with running_edge(keys=keys(only(Action.GET_OBJECT), public=public)) as harness:
        assert (await send(harness, "GET", "/k?acl")).status == 501
        assert (await send(harness, "GET", "/k?acl", is_signed=False)).code == "AccessDenied"


async def test_wrong_signature_is_not_taken_for_none() -> None:
    public = Grant((Policy((only(Action.GET_OBJECT),)),))
    async with running_edge(keys=keys(public=public)) as harness:
        for query in ("?q-ak=x", "?sign=x", "?q-signature=1"):
            assert (await send(harness, "GET", f"/k{query}", is_signed=False)).code == "AccessDenied"
        assert (await send(harness, "GET", "/k", is_signed=False)).status == 200
