"""The object calls over HTTP, on both databases: what is on the wire, and what is in the folder afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from fastcrc import crc64
from tests.edge_harness import BUCKET, COS_HOST
from tests.object_server import LIMIT_BYTES, SERVICE_HOST, ObjectServer, running_object_server

from cloudfinite.ports import Store

MIB = 1 << 20
ODD_KEYS = [
    "a//b",
    "/lead",
    "a/",
    "a",
    "../../etc/passwd",
    "./x",
    "..\\x",
    "%2e%2e%2f",
    "a+b c&d=e?f#g",
    "中文/图片 1.png",
    "😀",
    "x" * 850,
    "\u202egnp",
]


@pytest.fixture
async def server(store: Store, tmp_path: Path) -> AsyncIterator[ObjectServer]:
    async with running_object_server(store, tmp_path / "objects") as running:
        yield running


@pytest.fixture
async def sqlite_server(sqlite_store: Store, tmp_path: Path) -> AsyncIterator[ObjectServer]:
    """For what does not depend on the database."""
    async with running_object_server(sqlite_store, tmp_path / "objects") as running:
        yield running


def files_in(folder: Path) -> list[Path]:
    return [path for path in (folder / "objects").rglob("*") if path.is_file()]


def md5_header(data: bytes) -> dict[str, str]:
    return {"Content-MD5": b64encode(hashlib.md5(data).digest()).decode()}


async def test_object_comes_back_as_it_was_put(server: ObjectServer) -> None:
    data = os.urandom(3 * MIB + 11)
    sent = {
        "Content-Type": "image/png",
        "Cache-Control": "max-age=60",
        "x-cos-meta-Team": "蓝",
        "Content-Encoding": "br",
    }
    put = await server.ask("PUT", "a/b.png", data, headers=sent | md5_header(data))
    assert (put.status, put["ETag"]) == (200, f'"{hashlib.md5(data).hexdigest()}"')
    assert put["x-cos-hash-crc64ecma"] == str(crc64.xz(data))
    got = await server.ask("GET", "a/b.png")
    assert (got.status, got.body) == (200, data)
    assert got["ETag"] == put["ETag"]
    assert got["Content-Length"] == str(len(data))
    assert got["x-cos-hash-crc64ecma"] == str(crc64.xz(data))
    assert (got["Content-Type"], got["Cache-Control"], got["Content-Encoding"]) == ("image/png", "max-age=60", "br")
    assert (got["x-cos-meta-team"], got["Accept-Ranges"]) == ("蓝", "bytes")
    assert got["Last-Modified"].endswith("GMT")


async def test_head_tells_what_get_tells_without_the_body(server: ObjectServer) -> None:
    await server.ask("PUT", "k.txt", b"data")
    got, head = await server.ask("GET", "k.txt"), await server.ask("HEAD", "k.txt")
    own = {"Date", "x-ci-request-id", "x-cos-request-id"}
    assert {(name, value) for name, value in head.head if name not in own} == {
        (name, value) for name, value in got.head if name not in own
    }
    assert (head["Content-Length"], head["Content-Type"]) == ("4", "text/plain")


async def test_every_odd_key_keeps_its_own_bytes(server: ObjectServer, tmp_path: Path) -> None:
    for key in ODD_KEYS:
        assert (await server.ask("PUT", key, key.encode())).status == 200
    for key in ODD_KEYS:
        assert (await server.ask("GET", key)).body == key.encode()
    assert {path.name for path in tmp_path.iterdir()} <= {"objects", "store.db", "store.db-wal", "store.db-shm"}
    listed = await server.ask("GET", query="encoding-type=url")
    keys = re.findall("<Key>(.*?)</Key>", listed.body.decode())
    assert keys == [quote(key, safe="/") for key in sorted(ODD_KEYS, key=str.encode)]


@pytest.mark.parametrize(
    ("key", "code"), [("x" * 851, "KeyTooLong"), ("中" * 284, "KeyTooLong"), ("a\nb", "InvalidArgument")]
)
async def test_key_that_is_not_allowed_is_refused(sqlite_server: ObjectServer, key: str, code: str) -> None:
    refused = await sqlite_server.ask("PUT", key, b"data")
    assert (refused.status, refused.code) == (400, code)


async def test_empty_object_is_an_object(sqlite_server: ObjectServer) -> None:
    await sqlite_server.ask("PUT", "empty", b"")
    got = await sqlite_server.ask("GET", "empty")
    assert (got.status, got.body, got["x-cos-hash-crc64ecma"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("headers", "code", "status"),
    [
        ({"Content-MD5": "AAAA"}, "InvalidDigest", 400),
        (md5_header(b"other"), "BadDigest", 400),
        ({"x-cos-meta-a": "x" * 2048}, "InvalidArgument", 400),
        ({"Pic-Operations": "{}"}, "NotImplemented", 501),
    ],
)
async def test_refused_put_stores_nothing(
    sqlite_server: ObjectServer, tmp_path: Path, headers: dict[str, str], code: str, status: int
) -> None:
    await sqlite_server.ask("PUT", "k", b"old")
    refused = await sqlite_server.ask("PUT", "k", b"new", headers=headers)
    assert (refused.status, refused.code) == (status, code)
    assert (await sqlite_server.ask("GET", "k")).body == b"old"
    assert len(files_in(tmp_path)) == 1


async def test_announced_object_that_is_too_large_is_refused_unread(sqlite_server: ObjectServer) -> None:
    head = sqlite_server.request_bytes("PUT", "/k", COS_HOST, headers={"Content-Length": str(LIMIT_BYTES + 1)})
    refused = await sqlite_server.raw(head)
    assert (refused.status, refused.code) == (400, "EntityTooLarge")


async def test_chunked_object_that_grows_too_large_is_refused(sqlite_server: ObjectServer, tmp_path: Path) -> None:
    refused = await sqlite_server.raw(chunked_put(sqlite_server, [bytes(MIB)] * 9))
    assert (refused.status, refused.code) == (400, "EntityTooLarge")
    assert files_in(tmp_path) == []


def chunked_put(server: ObjectServer, chunks: list[bytes], key: str = "k") -> bytes:
    head = server.request_bytes("PUT", f"/{key}", COS_HOST).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])


async def test_chunked_object_is_stored(sqlite_server: ObjectServer) -> None:
    assert (await sqlite_server.raw(chunked_put(sqlite_server, [b"ab", b"cd"]))).status == 200
    assert (await sqlite_server.ask("GET", "k")).body == b"abcd"


async def test_put_needs_a_length(sqlite_server: ObjectServer) -> None:
    head = sqlite_server.request_bytes("PUT", "/k", COS_HOST).replace(b"Content-Length: 0\r\n", b"")
    refused = await sqlite_server.raw(head)
    assert (refused.status, refused.code) == (411, "MissingContentLength")


async def test_body_that_breaks_off_stores_nothing(sqlite_server: ObjectServer, tmp_path: Path) -> None:
    await sqlite_server.ask("PUT", "k", b"old")
    client = await sqlite_server.connect()
    client.send(sqlite_server.request_bytes("PUT", "/k", COS_HOST, headers={"Content-Length": str(5 * MIB)}))
    client.send(bytes(3 * MIB))
    await client.writer.drain()
    await client.close()
    while sqlite_server.edge._in_flight:
        await asyncio.sleep(0)
    assert len(files_in(tmp_path)) == 1


async def test_missing_object_and_bucket_are_told_apart(server: ObjectServer) -> None:
    missing = await server.ask("GET", "no.png")
    assert (missing.status, missing.code) == (404, "NoSuchKey")
    for method, body in (("GET", b""), ("PUT", b"data"), ("DELETE", b"")):
        elsewhere = await server.ask(method, "k", body, host="other-1250000000.cos.ap-chongqing.myqcloud.com")
        assert (elsewhere.status, elsewhere.code) == (404, "NoSuchBucket")
    assert (await server.ask("HEAD", "no.png")).status == 404


async def test_delete_is_204_also_for_what_is_not_there(server: ObjectServer) -> None:
    await server.ask("PUT", "k", b"data")
    assert [(await server.ask("DELETE", "k")).status for _ in range(2)] == [204, 204]
    assert (await server.ask("GET", "k")).status == 404


@pytest.mark.parametrize(
    ("wanted", "expected", "content_range"),
    [
        ("bytes=0-3", slice(0, 4), "bytes 0-3/3000000"),
        ("bytes=2999990-", slice(2999990, None), "bytes 2999990-2999999/3000000"),
        ("bytes=-5", slice(-5, None), "bytes 2999995-2999999/3000000"),
        ("bytes=100000-2000000", slice(100000, 2000001), "bytes 100000-2000000/3000000"),
    ],
)
async def test_range_gives_these_bytes(
    sqlite_server: ObjectServer, wanted: str, expected: slice, content_range: str
) -> None:
    data = os.urandom(3_000_000)
    await sqlite_server.ask("PUT", "k", data)
    got = await sqlite_server.ask("GET", "k", headers={"Range": wanted})
    assert (got.status, got["Content-Range"], got.body) == (206, content_range, data[expected])


async def test_range_outside_is_416(sqlite_server: ObjectServer) -> None:
    await sqlite_server.ask("PUT", "k", b"data")
    got = await sqlite_server.ask("GET", "k", headers={"Range": "bytes=4-"})
    assert (got.status, got.code, got["Content-Range"]) == (416, "InvalidRange", "bytes */4")


async def test_known_object_is_304_without_a_body(sqlite_server: ObjectServer) -> None:
    put = await sqlite_server.ask("PUT", "k", b"data")
    for headers in ({"If-None-Match": put["ETag"]}, {"If-Modified-Since": "Fri, 01 Jan 2038 00:00:00 GMT"}):
        got = await sqlite_server.ask("GET", "k", headers=headers)
        assert (got.status, got.body, got["ETag"]) == (304, b"", put["ETag"])


async def test_other_object_is_412(sqlite_server: ObjectServer) -> None:
    await sqlite_server.ask("PUT", "k", b"data")
    got = await sqlite_server.ask("GET", "k", headers={"If-Match": '"0"'})
    assert (got.status, got.code) == (412, "PreconditionFailed")


async def test_signed_request_may_override_headers(sqlite_server: ObjectServer) -> None:
    await sqlite_server.ask("PUT", "k", b"data", headers={"Cache-Control": "no-store"})
    query = "response-content-type=text%2Fcsv&response-cache-control=max-age%3D1&response-content-disposition=%E4%B8%AD"
    got = await sqlite_server.ask("GET", "k", query=query)
    assert (got["Content-Type"], got["Cache-Control"], got["Content-Disposition"]) == ("text/csv", "max-age=1", "中")
    forged = await sqlite_server.ask("GET", "k", query="response-content-type=a%0D%0Ab")
    assert (forged.status, forged.code) == (400, "InvalidArgument")


async def test_empty_headers_count_as_absent(sqlite_server: ObjectServer) -> None:
    await sqlite_server.ask("PUT", "k.webp", b"data", headers={"Cache-Control": "", "Content-Type": ""})
    got = await sqlite_server.ask("GET", "k.webp")
    assert (got.get("Cache-Control"), got["Content-Type"]) == (None, "image/webp")


async def test_reader_of_a_replaced_object_keeps_its_stream(sqlite_server: ObjectServer) -> None:
    data = os.urandom(LIMIT_BYTES)
    await sqlite_server.ask("PUT", "k", data)
    client = await sqlite_server.connect()
    client.send(sqlite_server.request_bytes("GET", "/k", COS_HOST))
    await client.reader.readuntil(b"\r\n\r\n")
    await sqlite_server.ask("PUT", "k", b"new")
    assert await sqlite_server.objects.collect_garbage() == 0  # type: ignore[union-attr]
    assert await client.reader.readexactly(len(data)) == data
    await client.close()


async def test_answer_is_cut_off_when_the_bytes_cannot_be_read(sqlite_server: ObjectServer, tmp_path: Path) -> None:
    await sqlite_server.ask("PUT", "k", bytes(MIB))
    [path] = files_in(tmp_path)
    os.truncate(path, 300_000)
    client = await sqlite_server.connect()
    client.send(sqlite_server.request_bytes("GET", "/k", COS_HOST))
    head = await client.reader.readuntil(b"\r\n\r\n")
    assert b"Content-Length: 1048576" in head
    assert len(await client.reader.read(-1)) == 300_000


async def test_missing_file_is_an_error_document(sqlite_server: ObjectServer, tmp_path: Path) -> None:
    await sqlite_server.ask("PUT", "k", b"data")
    [path] = files_in(tmp_path)
    path.unlink()
    got = await sqlite_server.ask("GET", "k")
    assert (got.status, got.code) == (500, "InternalError")


async def test_replaced_bytes_are_removed(server: ObjectServer, tmp_path: Path) -> None:
    for data in (b"one", b"two", b"three"):
        await server.ask("PUT", "k", data)
    assert await server.objects.collect_garbage() == 2  # type: ignore[union-attr]
    assert [path.read_bytes() for path in files_in(tmp_path)] == [b"three"]


async def test_orphans_are_removed_and_nothing_else(server: ObjectServer, tmp_path: Path) -> None:
    await server.ask("PUT", "k", b"data")
    [upload_id] = await start(server, "big")
    await server.ask("PUT", "big", b"part", query=f"partNumber=1&uploadId={upload_id}")
    orphan = tmp_path / "objects" / "a" / "b" / ("ab" + "0" * 30)
    orphan.write_bytes(b"orphan")
    for path in files_in(tmp_path):
        os.utime(path, (0, 0))
    assert await server.objects.collect_orphans() == 1  # type: ignore[union-attr]
    assert sorted(path.read_bytes() for path in files_in(tmp_path)) == [b"data", b"part"]


# --- copy ----------------------------------------------------------------------------------------------------------


async def test_copy_keeps_or_replaces_the_headers(server: ObjectServer) -> None:
    put = await server.ask("PUT", "源 1", b"data", headers={"x-cos-meta-a": "b", "Content-Type": "image/png"})
    source = {"x-cos-copy-source": f"{COS_HOST}/{quote('源 1')}"}
    copied = await server.ask("PUT", "kept", headers=source)
    assert (copied.status, copied["x-cos-hash-crc64ecma"]) == (200, put["x-cos-hash-crc64ecma"])
    assert f"<ETag>{put['ETag']}</ETag><CRC64>{put['x-cos-hash-crc64ecma']}</CRC64>" in copied.body.decode()
    changes = {"x-cos-metadata-directive": "Replaced", "x-cos-meta-c": "d"}
    await server.ask("PUT", "changed.txt", headers=source | changes)
    await server.ask("DELETE", "源 1")
    await server.objects.collect_garbage()  # type: ignore[union-attr]
    kept, changed = await server.ask("GET", "kept"), await server.ask("GET", "changed.txt")
    assert (kept.body, kept["x-cos-meta-a"], kept["Content-Type"]) == (b"data", "b", "image/png")
    assert (changed.body, changed.get("x-cos-meta-a"), changed["x-cos-meta-c"]) == (b"data", None, "d")
    assert changed["Content-Type"] == "text/plain"


async def test_copy_obeys_conditions_and_needs_its_source(sqlite_server: ObjectServer) -> None:
    await sqlite_server.ask("PUT", "k", b"data")
    source = {"x-cos-copy-source": f"{COS_HOST}/k", "x-cos-copy-source-If-Match": '"0"'}
    assert (await sqlite_server.ask("PUT", "copy", headers=source)).code == "PreconditionFailed"
    assert (
        await sqlite_server.ask("PUT", "c", headers={"x-cos-copy-source": f"{COS_HOST}/no"})
    ).code == "NoSuchCopySource"


# --- multipart -----------------------------------------------------------------------------------------------------


async def start(server: ObjectServer, key: str, **headers: str) -> list[str]:
    answer = await server.ask("POST", key, query="uploads", headers=headers)
    return re.findall("<UploadId>(.*?)</UploadId>", answer.body.decode())


def completion(parts: dict[int, bytes]) -> bytes:
    nodes = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>&quot;{hashlib.md5(data).hexdigest()}&quot;</ETag></Part>"
        for number, data in parts.items()
    )
    return f'<?xml version="1.0" encoding="utf-8"?><CompleteMultipartUpload>{nodes}</CompleteMultipartUpload>'.encode()


async def upload(server: ObjectServer, key: str, parts: dict[int, bytes]) -> tuple[str, bytes]:
    """Upload and complete, parts in reverse order; returns the answer's ETag and the whole."""
    [upload_id] = await start(server, key, **{"x-cos-meta-a": "b"})
    for number in sorted(parts, reverse=True):
        put = await server.ask("PUT", key, parts[number], query=f"partNumber={number}&uploadId={upload_id}")
        assert put["x-cos-hash-crc64ecma"] == str(crc64.xz(parts[number]))
    answer = await server.ask(
        "POST",
        key,
        completion(dict(sorted(parts.items()))),
        query=f"uploadId={upload_id}",
        headers={"x-cos-meta-a": "ignored"},
    )
    whole = b"".join(parts[number] for number in sorted(parts))
    assert (answer.status, answer["x-cos-hash-crc64ecma"]) == (200, str(crc64.xz(whole)))
    assert f"<ETag>{answer['ETag']}</ETag>" in answer.body.decode()
    return answer["ETag"], whole


async def test_parts_in_any_order_become_one_object(server: ObjectServer) -> None:
    parts = {1: os.urandom(MIB), 3: os.urandom(MIB), 2: os.urandom(700_001)}
    etag, whole = await upload(server, "大/big.bin", parts)
    digests = b"".join(hashlib.md5(parts[number]).digest() for number in sorted(parts))
    assert etag == f'"{hashlib.md5(digests).hexdigest()}-3"'
    got = await server.ask("GET", "大/big.bin")
    assert (got.body, got["ETag"], got["x-cos-meta-a"]) == (whole, etag, "b")
    part = await server.ask("GET", "大/big.bin", headers={"Range": "bytes=1000000-2000000"})
    assert part.body == whole[1_000_000:2_000_001]


async def test_multipart_object_is_a_source_and_can_be_copied(server: ObjectServer, tmp_path: Path) -> None:
    etag, whole = await upload(server, "big", {1: b"ab", 2: b"cd"})
    await server.ask("PUT", "copy", headers={"x-cos-copy-source": f"{COS_HOST}/big"})
    await server.ask("DELETE", "big")
    await server.objects.collect_garbage()  # type: ignore[union-attr]
    async with server.objects.opened_source(BUCKET, "copy") as source:  # type: ignore[union-attr]
        assert (source.path.read_bytes(), source.etag, source.size_bytes) == (whole, etag, 4)
    await server.ask("DELETE", "copy")
    await server.objects.collect_garbage()  # type: ignore[union-attr]
    assert files_in(tmp_path) == []


async def test_part_is_copied_from_a_range(sqlite_server: ObjectServer) -> None:
    await sqlite_server.ask("PUT", "source", b"0123456789")
    [upload_id] = await start(sqlite_server, "big")
    headers = {"x-cos-copy-source": f"{COS_HOST}/source", "x-cos-copy-source-range": "bytes=2-5"}
    copied = await sqlite_server.ask("PUT", "big", query=f"partNumber=1&uploadId={upload_id}", headers=headers)
    assert f'<ETag>"{hashlib.md5(b"2345").hexdigest()}"</ETag>' in copied.body.decode()
    await sqlite_server.ask("POST", "big", completion({1: b"2345"}), query=f"uploadId={upload_id}")
    assert (await sqlite_server.ask("GET", "big")).body == b"2345"


async def test_left_over_upload_is_found_with_its_parts(server: ObjectServer) -> None:
    """What the Python SDK asks before it resumes."""
    [upload_id] = await start(server, "a b/big")
    for number in (1, 2, 3):
        await server.ask("PUT", "a b/big", b"x" * number, query=f"partNumber={number}&uploadId={upload_id}")
    wanted = "uploads=&prefix=a+b%2Fbig&delimiter=&key-marker=&upload-id-marker=&max-uploads=1000&encoding-type=url"
    listed = (await server.ask("GET", query=wanted)).body.decode()
    assert f"<Upload><Key>a%20b/big</Key><UploadId>{upload_id}</UploadId>" in listed
    assert "<IsTruncated>false</IsTruncated>" in listed
    pages = []
    for marker in (0, 2):
        query = f"uploadId={upload_id}&part-number-marker={marker}&max-parts=2&encoding-type=url"
        pages.append((await server.ask("GET", "a b/big", query=query)).body.decode())
    assert [re.findall("<PartNumber>(.*?)<", page) for page in pages] == [["1", "2"], ["3"]]
    assert "<NextPartNumberMarker>2</NextPartNumberMarker>" in pages[0]
    assert f'<ETag>"{hashlib.md5(b"xxx").hexdigest()}"</ETag><Size>3</Size>' in pages[1]
    assert ["true" in page.partition("<IsTruncated>")[2][:4] for page in pages] == [True, False]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (completion({2: b"b", 1: b"a"}), "InvalidPartOrder"),
        (completion({1: b"a", 3: b"c"}), "InvalidPart"),
        (completion({1: b"other"}), "InvalidPart"),
        (completion({}), "MalformedXML"),
        (b"<Complete", "MalformedXML"),
        (b"", "MalformedXML"),
    ],
)
async def test_completion_that_does_not_fit_is_refused(sqlite_server: ObjectServer, body: bytes, code: str) -> None:
    [upload_id] = await start(sqlite_server, "big")
    for number, data in ((1, b"a"), (2, b"b")):
        await sqlite_server.ask("PUT", "big", data, query=f"partNumber={number}&uploadId={upload_id}")
    assert (await sqlite_server.ask("POST", "big", body, query=f"uploadId={upload_id}")).code == code
    good = await sqlite_server.ask("POST", "big", completion({1: b"a", 2: b"b"}), query=f"uploadId={upload_id}")
    assert good.status == 200


async def test_aborted_upload_is_gone(server: ObjectServer, tmp_path: Path) -> None:
    [upload_id] = await start(server, "big")
    await server.ask("PUT", "big", b"a", query=f"partNumber=1&uploadId={upload_id}")
    assert (await server.ask("DELETE", "big", query=f"uploadId={upload_id}")).status == 204
    for method, body, query in (
        ("PUT", b"a", f"partNumber=1&uploadId={upload_id}"),
        ("POST", completion({1: b"a"}), f"uploadId={upload_id}"),
        ("GET", b"", f"uploadId={upload_id}"),
        ("DELETE", b"", f"uploadId={upload_id}"),
    ):
        assert (await server.ask(method, "big", body, query=query)).code == "NoSuchUpload"
    await server.objects.collect_garbage()  # type: ignore[union-attr]
    assert files_in(tmp_path) == []


# --- lists, buckets ------------------------------------------------------------------------------------------------


async def test_list_is_as_the_documentation_shows(server: ObjectServer) -> None:
    for key in ("in/2026/x", "in/a b.png", "in/c"):
        await server.ask("PUT", key, b"a")
    listed = await server.ask("GET", query="prefix=in/&delimiter=/&max-keys=2&encoding-type=url&marker=")
    text = re.sub(r"<LastModified>[^<]*\.\d{3}Z<", "<LastModified>T<", listed.body.decode())
    assert text == (
        f"<ListBucketResult><Name>{BUCKET}</Name><EncodingType>url</EncodingType><Prefix>in/</Prefix><Marker/>"
        "<MaxKeys>2</MaxKeys><Delimiter>/</Delimiter><IsTruncated>true</IsTruncated>"
        "<NextMarker>in/a%20b.png</NextMarker><CommonPrefixes><Prefix>in/2026/</Prefix></CommonPrefixes>"
        "<Contents><Key>in/a%20b.png</Key><LastModified>T</LastModified>"
        '<ETag>"0cc175b9c0f1b6a831c399e269772661"</ETag><Size>1</Size>'
        "<Owner><ID>1250000000</ID><DisplayName>1250000000</DisplayName></Owner><StorageClass>STANDARD</StorageClass>"
        "</Contents></ListBucketResult>"
    )
    assert listed["x-cos-bucket-region"] == "ap-chongqing"


async def test_many_objects_are_deleted_at_once(server: ObjectServer) -> None:
    keys = ["a", " b & <c> ", "中文", "gone"]
    for key in keys[:3]:
        await server.ask("PUT", key, b"data")
    texts = ["a", " b &amp; &lt;c&gt; ", "中文", "gone", "x" * 851]
    items = "".join(f"<Object><Key>{text}</Key></Object>" for text in texts)
    body = f"<Delete>{items}<Quiet>false</Quiet></Delete>".encode()
    answer = await server.ask("POST", body=body, query="delete=", headers=md5_header(body))
    assert re.findall("<Deleted><Key>(.*?)</Key>", answer.body.decode()) == texts[:-1]
    assert b"<Code>KeyTooLong</Code>" in answer.body
    assert [(await server.ask("GET", key)).status for key in keys] == [404] * 4
    quiet = await server.ask(
        "POST", body=b"<Delete><Quiet>true</Quiet><Object><Key>a</Key></Object></Delete>", query="delete"
    )
    assert quiet.body == b"<DeleteResult/>"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"<Delete/>", b"<Delete><Object/></Delete>", b"<!DOCTYPE a><Delete/>", b"<Delete>"]
)
async def test_deletion_that_cannot_be_read_is_refused(sqlite_server: ObjectServer, body: bytes) -> None:
    refused = await sqlite_server.ask("POST", body=body, query="delete=")
    assert (refused.status, refused.code) == (400, "MalformedXML")


async def test_bucket_is_made_found_listed_and_deleted(server: ObjectServer) -> None:
    host = "new-1250000000.cos.ap-chongqing.myqcloud.com"
    assert (await server.ask("HEAD", host=host)).status == 404
    assert (await server.ask("PUT", host=host)).status == 200
    assert (await server.ask("PUT", host=host)).code == "BucketAlreadyExists"
    assert (await server.ask("HEAD", host=host))["x-cos-bucket-region"] == "ap-chongqing"
    listed = (await server.ask("GET", host=SERVICE_HOST)).body.decode()
    assert re.findall("<Name>(.*?)</Name><Location>(.*?)<", listed) == [
        (BUCKET, "ap-chongqing"),
        ("new-1250000000", "ap-chongqing"),
    ]
    await server.ask("PUT", "k", b"data", host=host)
    assert (await server.ask("DELETE", host=host)).code == "BucketNotEmpty"
    await server.ask("DELETE", "k", host=host)
    assert (await server.ask("DELETE", host=host)).status == 204
    assert (await server.ask("GET", host=host)).code == "NoSuchBucket"
