"""The Node SDK, unchanged, pointed here through its Proxy setting: objects, buckets, and jobs."""

from __future__ import annotations

import asyncio
import hashlib
import os
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from tests.conformance.nodejs.conftest import HERE, NodeSdk, SdkError, node_sdk

from cloudfinite.testing import Server

pytestmark = [pytest.mark.sdk, pytest.mark.xdist_group("node")]

CI_HOST = f"{Server.bucket}.ci.{Server.region}.myqcloud.com"
ODD_KEYS = ["a//b", "a/", "a+b c&d=e?f#g", "中文/图片 1.png", "😀", "%2e%2e", "it's (here)!*"]


def etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def test_lock_file_names_no_address() -> None:
    assert "://" not in (HERE / "package-lock.json").read_text()


async def test_object_comes_back_as_it_was_put(cos: NodeSdk) -> None:
    data = os.urandom(100_000)
    put = await cos("putObject", Key="in/a.bin", Body=data, ContentType="image/png", **{"x-cos-meta-team": "blue"})
    assert put["ETag"] == etag(data)
    got = await cos("getObject", Key="in/a.bin")
    assert (got["Body"], got["ETag"]) == (data, etag(data))
    head = await cos("headObject", Key="in/a.bin")
    assert (head["headers"]["content-type"], head["headers"]["x-cos-meta-team"]) == ("image/png", "blue")
    part = await cos("getObject", Key="in/a.bin", Range="bytes=10-19")
    assert part["Body"] == data[10:20]


async def test_every_odd_key_is_put_listed_and_deleted(cos: NodeSdk) -> None:
    for key in ODD_KEYS:
        await cos("putObject", Key=f"odd/{key}", Body=key.encode())
    for key in ODD_KEYS:
        assert (await cos("getObject", Key=f"odd/{key}"))["Body"] == key.encode()
    listed = await cos("getBucket", Prefix="odd/")
    keys = [item["Key"] for item in listed["Contents"]]
    assert keys == sorted((f"odd/{key}" for key in ODD_KEYS), key=str.encode)
    done = await cos("deleteMultipleObject", Objects=[{"Key": key} for key in keys])
    assert [item["Key"] for item in done["Deleted"]] == keys
    assert (await cos("getBucket", Prefix="odd/"))["Contents"] == []


@pytest.mark.parametrize("method", ["uploadFile", "sliceUploadFile"])
async def test_file_is_uploaded_in_parts(cos: NodeSdk, tmp_path: Path, method: str) -> None:
    data = os.urandom(3 * (1 << 20) + 5)
    local = tmp_path / "big.bin"
    local.write_bytes(data)
    key = f"{method}/big.bin"
    done = await cos(method, Key=key, FilePath=str(local), ChunkSize=1 << 20, SliceSize=1 << 20)
    assert done["ETag"].strip('"').endswith("-4")
    assert (await cos("getObject", Key=key))["Body"] == data


async def test_broken_upload_is_resumed(cos: NodeSdk, tmp_path: Path) -> None:
    data = os.urandom(2 * (1 << 20) + 5)
    local = tmp_path / "big.bin"
    local.write_bytes(data)
    started = await cos("multipartInit", Key="resumed.bin")
    first = await cos(
        "multipartUpload", Key="resumed.bin", UploadId=started["UploadId"], PartNumber=1, Body=data[: 1 << 20]
    )
    done = await cos("sliceUploadFile", Key="resumed.bin", FilePath=str(local), ChunkSize=1 << 20)
    assert done["UploadId"] == started["UploadId"]
    assert first["ETag"] == etag(data[: 1 << 20])
    assert (await cos("getObject", Key="resumed.bin"))["Body"] == data


async def test_presigned_url_serves_the_object(cos: NodeSdk, server: Server) -> None:
    await cos("putObject", Key="中 a.txt", Body=b"data")
    url = await cos("getObjectUrl", Key="中 a.txt", Sign=True, Expires=60, Protocol="http:")
    through = urllib.request.build_opener(urllib.request.ProxyHandler({"http": server.url}))
    body = await asyncio.to_thread(lambda: through.open(url, timeout=10).read())
    assert body == b"data"


async def test_object_is_copied_and_appended_to(cos: NodeSdk) -> None:
    await cos("putObject", Key="源", Body=b"data")
    copied = await cos(
        "putObjectCopy", Key="copy", CopySource=f"{Server.bucket}.cos.{Server.region}.myqcloud.com/%E6%BA%90"
    )
    assert copied["ETag"] == etag(b"data")
    await cos("appendObject", Key="log", Body=b"hello ", Position=0)
    await cos("appendObject", Key="log", Body=b"world", Position=6)
    assert (await cos("getObject", Key="log"))["Body"] == b"hello world"


async def test_errors_are_read(cos: NodeSdk) -> None:
    with pytest.raises(SdkError) as caught:
        await cos("getObject", Key="no")
    assert (caught.value.error["statusCode"], caught.value.error["code"]) == (404, "NoSuchKey")
    assert caught.value.error["RequestId"]


async def test_buckets_and_cors_rules(cos: NodeSdk) -> None:
    listed = await cos("getService")
    assert Server.bucket in [item["Name"] for item in listed["Buckets"]]
    rule = {
        "AllowedOrigin": ["https://*.example.com"],
        "AllowedMethod": ["GET", "PUT"],
        "AllowedHeader": ["*"],
        "ExposeHeader": ["ETag", "x-cos-meta-a"],
        "MaxAgeSeconds": "5",
    }
    await cos("putBucketCors", CORSRules=[rule])
    try:
        (found,) = (await cos("getBucketCors"))["CORSRules"]
        # The SDK writes plural names, and so it gives them back.
        assert found["AllowedOrigins"] == ["https://*.example.com"]
        assert (found["AllowedMethods"], found["MaxAgeSeconds"]) == (["GET", "PUT"], "5")
        asked = await cos("optionsObject", Key="k", Origin="https://a.example.com", AccessControlRequestMethod="PUT")
        assert asked["AccessControlAllowOrigin"] == "https://a.example.com"
    finally:
        await cos("deleteBucketCors")
    assert (await cos("getBucketCors"))["CORSRules"] == []


# --- jobs ----------------------------------------------------------------------------------------------------------


async def call(cos: NodeSdk, method: str, path: str, body: str = "", **more: Any) -> Any:
    """A call of the API with the SDK's own free request; the answer's `Response`."""
    params = {"Method": method, "Key": path, "Url": f"http://{CI_HOST}/{path}", **more}
    if body:
        params |= {"Body": body, "ContentType": "application/xml"}
    return (await cos("request", **params)).get("Response")


def ocr_job(key: str, callback: str) -> str:
    return (
        f"<Request><Tag>ImageOCR</Tag><Input><Object>{key}</Object></Input>"
        "<Operation><ImageOCR><Type>general</Type></ImageOCR></Operation>"
        f"<CallBack>{callback}</CallBack></Request>"
    )


async def test_job_is_submitted_described_and_listed(cos: NodeSdk, server: Server) -> None:
    await cos("putObject", Key="page.png", Body=b"{}")
    submitted = await call(cos, "POST", "jobs", ocr_job("page.png", server.inbox("node")))
    job_id = submitted["JobsDetail"]["JobId"]
    await asyncio.to_thread(server.wait_for_callbacks, "node", 1)
    described = await call(cos, "GET", f"jobs/{job_id}")
    assert described["JobsDetail"]["State"] == "Success"
    listed = await call(cos, "GET", "ai_jobs", Query={"tag": "ImageOCR", "states": "Success"})
    assert job_id in [job["JobId"] for job in _many(listed["JobsDetail"])]


async def test_waiting_job_is_cancelled(node_modules: Path) -> None:
    with Server(workers=0) as idle:  # nobody runs it
        async with node_sdk(idle, node_modules) as cos:
            submitted = await call(cos, "POST", "jobs", ocr_job("page.png", "no"))
            job_id = submitted["JobsDetail"]["JobId"]
            for _ in range(2):  # again is harmless
                await call(cos, "PUT", f"jobs/{job_id}", Action="cancel")
            described = await call(cos, "GET", f"jobs/{job_id}")
            assert described["JobsDetail"]["State"] == "Cancel"


async def test_paused_queue_is_told(cos: NodeSdk) -> None:
    queue = (await call(cos, "GET", "ai_queue"))["QueueList"]
    try:
        await set_state(cos, queue, "Paused")
        with pytest.raises(SdkError) as caught:
            await call(cos, "POST", "jobs", ocr_job("page.png", "no"))
        assert caught.value.error["code"] == "QueuePaused"
    finally:
        await set_state(cos, queue, "Active")


async def set_state(cos: NodeSdk, queue: dict[str, Any], state: str) -> None:
    body = (
        f"<Request><Name>{queue['Name']}</Name><QueueID>{queue['QueueId']}</QueueID><State>{state}</State>"
        "<NotifyConfig><State>Off</State></NotifyConfig></Request>"
    )
    await call(cos, "PUT", f"ai_queue/{queue['QueueId']}", body)


async def test_ended_job_cannot_be_cancelled(cos: NodeSdk, server: Server) -> None:
    await cos("putObject", Key="page.png", Body=b"{}")
    submitted = await call(cos, "POST", "jobs", ocr_job("page.png", server.inbox("ended")))
    await asyncio.to_thread(server.wait_for_callbacks, "ended", 1)
    with pytest.raises(SdkError) as caught:
        await call(cos, "PUT", f"jobs/{submitted['JobsDetail']['JobId']}", Action="cancel")
    assert "Success" in caught.value.error["message"]


async def test_services_are_listed(cos: NodeSdk) -> None:
    listed = await call(cos, "GET", "mediabucket", Query={"bucketNames": Server.bucket})
    assert listed["MediaBucketList"]["BucketId"] == Server.bucket


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
