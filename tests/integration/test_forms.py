"""Uploads by a form, appended objects, and the two courtesies to S3 clients."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastcrc import crc64
from tests.edge_harness import BUCKET, COS_HOST, SECRET_ID, SECRET_KEY, FixedKeys, Reply
from tests.object_server import LIMIT_BYTES, ObjectServer, running_object_server
from tests.support.forms import multipart, post, signed

from cloudfinite.adapters.seal import AesSeal
from cloudfinite.adapters.store import system_clock
from cloudfinite.domain.access import Action, Grant, Policy, Rule
from cloudfinite.ports import Store
from cloudfinite.service.access import Keyring


@pytest.fixture
async def server(store: Store, tmp_path: Path) -> AsyncIterator[ObjectServer]:
    async with running_object_server(store, tmp_path / "objects") as running:
        yield running


@pytest.fixture
async def sqlite_server(sqlite_store: Store, tmp_path: Path) -> AsyncIterator[ObjectServer]:
    async with running_object_server(sqlite_store, tmp_path / "objects") as running:
        yield running


async def test_form_stores_the_file_with_its_fields(server: ObjectServer) -> None:
    fields = {"key": "in/${filename}", "Content-Type": "image/png", "x-cos-meta-Team": "蓝"}
    data = b"\x00\r\n--A\r\n" * 60_000
    done = await post(server, multipart(signed(server, fields, ["starts-with", "$key", "in/"]), data))
    assert (done.status, done.body, done["ETag"]) == (204, b"", f'"{hashlib.md5(data).hexdigest()}"')
    assert done["Location"] == f"http://{COS_HOST}/in/cat.png"
    got = await server.ask("GET", "in/cat.png")
    assert (got.body, got["Content-Type"], got["x-cos-meta-team"]) == (data, "image/png", "蓝")


async def test_form_says_how_it_wants_to_be_answered(sqlite_server: ObjectServer) -> None:
    told = signed(sqlite_server, {"key": "a&b", "success_action_status": "201"})
    created = await post(sqlite_server, multipart(told, b"data"))
    assert created.status == 201
    assert b"<PostResponse><Location>" in created.body and b"<Key>a&amp;b</Key><ETag>" in created.body
    plain = await post(sqlite_server, multipart(signed(sqlite_server, told | {"success_action_status": "200"}), b""))
    assert (plain.status, plain.body) == (200, b"")
    target = "https://my.website/done?x=1"
    gone = await post(
        sqlite_server, multipart(signed(sqlite_server, {"key": "k", "success_action_redirect": target}), b"")
    )
    assert gone.status == 303
    assert gone["Location"].startswith(f"{target}&bucket={BUCKET}&key=k&etag=%22")


async def test_mini_program_signs_the_request_in_a_field(sqlite_server: ObjectServer) -> None:
    authorization = sqlite_server.authorization("POST", "/", COS_HOST)
    fields = {"key": "k", "success_action_status": "200", "Signature": authorization, "Content-Type": ""}
    assert (await post(sqlite_server, multipart(fields, b"data"))).status == 200
    forged = authorization[:-1] + ("1" if authorization[-1] == "0" else "0")
    refused = await post(sqlite_server, multipart(fields | {"Signature": forged}, b"data"))
    assert (refused.status, refused.code) == (403, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    ("condition", "code"),
    [
        (["starts-with", "$key", "other/"], "AccessDenied"),
        (["content-length-range", 0, 3], "EntityTooLarge"),
        (["content-length-range", 5, 9], "EntityTooSmall"),
    ],
)
async def test_policy_refuses_and_nothing_is_stored(
    sqlite_server: ObjectServer, tmp_path: Path, condition: Any, code: str
) -> None:
    refused = await post(sqlite_server, multipart(signed(sqlite_server, {"key": "k"}, condition), b"data"))
    assert refused.code == code
    assert (await sqlite_server.ask("GET", "k")).status == 404
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]


async def test_form_may_do_what_its_key_may(sqlite_server: ObjectServer) -> None:
    rule = Rule((BUCKET,), ("in/",), (Action.POST_OBJECT.wire,))
    keys = sqlite_server.keys
    assert isinstance(keys, FixedKeys)
    for policy, key, status in (
        (rule, "in/k", 204),
        (rule, "out/k", 403),
        (replace(rule, buckets=("other-1250000000",)), "in/k", 403),
        (replace(rule, actions=("cos:PutObject",)), "in/k", 403),
    ):
        keys.grants[SECRET_ID] = Grant((Policy((policy,)),))
        by_policy = signed(sqlite_server, {"key": key})
        by_request = {"key": key, "Signature": sqlite_server.authorization("POST", "/", COS_HOST)}
        for fields in (by_policy, by_request):
            reply = await post(sqlite_server, multipart(fields, b"data"))
            assert reply.status == status
            assert status == 204 or reply.code == "AccessDenied"


async def test_form_of_temporary_credentials_carries_their_token(sqlite_store: Store, tmp_path: Path) -> None:
    keys = Keyring(sqlite_store, AesSeal("installation"), system_clock)
    await keys.ensure(SECRET_ID, SECRET_KEY)
    made = keys.issue(SECRET_ID, Policy((Rule((BUCKET,), ("in/",)),)), timedelta(minutes=1))
    pair = made.secret_id, made.secret_key
    async with running_object_server(sqlite_store, tmp_path / "objects", keys=keys) as server:
        fields = {"key": "in/k", "x-cos-security-token": made.token}
        assert (await post(server, multipart(signed(server, fields, pair=pair), b"data"))).status == 204
        refused = await post(server, multipart(signed(server, fields | {"key": "out/k"}, pair=pair), b"data"))
        assert refused.code == "AccessDenied"
        del fields["x-cos-security-token"]
        refused = await post(server, multipart(signed(server, fields, pair=pair), b"data"))
        assert refused.code == "InvalidAccessKeyId"


async def test_form_without_signature_is_refused(sqlite_server: ObjectServer) -> None:
    refused = await post(sqlite_server, multipart({"key": "k"}, b"data"))
    assert (refused.status, refused.code) == (403, "AccessDenied")


async def test_form_is_bounded(sqlite_server: ObjectServer) -> None:
    for fields in ({"key": "k", "x": "y" * 70_000}, {f"f{number}": "" for number in range(101)}):
        assert (await post(sqlite_server, multipart(fields, b"data"))).code == "MalformedPOSTRequest"
    fields = signed(sqlite_server, {"key": "k"})
    assert (await post(sqlite_server, multipart(fields, bytes(LIMIT_BYTES + 1)))).code == "EntityTooLarge"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "MalformedPOSTRequest"),
        (b"nothing of a form", "MalformedPOSTRequest"),
        (multipart({"key": "k"}, None), "MalformedPOSTRequest"),
        (multipart({"key": "k"}, None, end=""), "MalformedPOSTRequest"),
        (multipart({"x-cos-meta-a": "b\x01"}, b""), "InvalidArgument"),
    ],
)
async def test_body_that_is_no_form_is_refused(sqlite_server: ObjectServer, body: bytes, code: str) -> None:
    assert (await post(sqlite_server, body)).code == code
    assert (await post(sqlite_server, body, **{"Content-Type": "text/plain"})).code == "MalformedPOSTRequest"


async def test_file_that_breaks_off_is_not_stored(sqlite_server: ObjectServer) -> None:
    whole = multipart(signed(sqlite_server, {"key": "k"}), b"data" * 1000)
    assert (await post(sqlite_server, whole[:-2000])).code == "IncompleteBody"
    assert (await sqlite_server.ask("GET", "k")).status == 404


# --- append --------------------------------------------------------------------------------------------------------


async def append(server: ObjectServer, position: int, data: bytes, key: str = "log") -> Reply:
    return await server.ask("POST", key, data, query=f"append&position={position}")


async def test_appended_object_is_one_object(server: ObjectServer) -> None:
    first = await append(server, 0, b"hello ")
    second = await append(server, 6, b"world")
    assert second["x-cos-next-append-position"] == "11"
    assert second["x-cos-content-sha1"] == hashlib.md5(b"world").hexdigest()  # so says the Go SDK
    assert first["ETag"] != second["ETag"]
    got = await server.ask("GET", "log")
    assert (got.body, got["x-cos-hash-crc64ecma"]) == (b"hello world", str(crc64.xz(b"hello world")))
    assert (got["x-cos-object-type"], got["ETag"]) == ("appendable", second["ETag"])
    assert (await server.ask("GET", "log", headers={"Range": "bytes=4-7"})).body == b"o wo"


async def test_append_wants_the_length_for_a_position(server: ObjectServer) -> None:
    await append(server, 0, b"data")
    for position in (0, 3, 5):
        refused = await append(server, position, b"more")
        assert (refused.status, refused.code) == (409, "AppendPositionErr")
        assert refused["x-cos-next-append-position"] == "4"
    assert (await server.ask("GET", "log")).body == b"data"


async def test_only_appendable_objects_are_appended_to(sqlite_server: ObjectServer) -> None:
    await sqlite_server.ask("PUT", "k", b"data")
    assert (await append(sqlite_server, 4, b"more", "k")).code == "ObjectNotAppendable"
    await append(sqlite_server, 0, b"data")
    await sqlite_server.ask("PUT", "copy", headers={"x-cos-copy-source": f"{COS_HOST}/log"})
    assert (await append(sqlite_server, 4, b"more", "copy")).code == "ObjectNotAppendable"
    assert (await sqlite_server.ask("GET", "copy")).body == b"data"


async def test_replaced_appendable_object_leaves_no_files(sqlite_server: ObjectServer, tmp_path: Path) -> None:
    for position in (0, 4, 8):
        await append(sqlite_server, position, b"data")
    await sqlite_server.ask("PUT", "log", b"new")
    assert sqlite_server.objects
    assert await sqlite_server.objects.collect_garbage() == 3
    assert len([path for path in (tmp_path / "objects").rglob("*") if path.is_file()]) == 1


# --- courtesies ----------------------------------------------------------------------------------------------------


async def test_list_v2_gives_every_key_once(server: ObjectServer) -> None:
    keys = sorted(["a", "b/1", "b/2", "c+d", "中"], key=str.encode)
    for key in keys:
        await server.ask("PUT", key, b"data")
    found: list[str] = []
    token = ""
    while True:
        query = f"list-type=2&max-keys=2{f'&continuation-token={token}' if token else ''}"
        page = (await server.ask("GET", query=query)).body.decode()
        found += re.findall("<Key>(.*?)</Key>", page)
        if "<IsTruncated>false</IsTruncated>" in page:
            break
        token = re.findall("<NextContinuationToken>(.*?)<", page)[0].replace("=", "%3D")
    assert found == keys
    folders = (await server.ask("GET", query="list-type=2&delimiter=/&start-after=a")).body.decode()
    assert "<KeyCount>3</KeyCount>" in folders and "<CommonPrefixes><Prefix>b/</Prefix>" in folders
    assert (await server.ask("GET", query="list-type=2&continuation-token=!")).code == "InvalidArgument"


async def test_location_is_the_region(server: ObjectServer) -> None:
    assert (await server.ask("GET", query="location")).body == b"<LocationConstraint>ap-chongqing</LocationConstraint>"
