"""The object calls by the official Python SDK, unchanged, through its proxy setting."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from fastcrc import crc64
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_exception import CosServiceError
from tests.edge_harness import BUCKET, SECRET_ID, SECRET_KEY
from tests.object_server import running_object_server

from cloudfinite.ports import Store

pytestmark = pytest.mark.sdk

R = TypeVar("R")

REGION = "ap-chongqing"
OTHER = "other-1250000000"
KEYS = ["a/b.png", "a//b", "a/", "a+b c&d=e?f#g%", "中文/图片 1.png", "😀.txt", "k" * 850]


class Sdk:
    """The SDK's client, called in a thread beside the server."""

    def __init__(self, port: int) -> None:
        self.proxies = {"http": f"http://127.0.0.1:{port}"}
        config = CosConfig(Region=REGION, SecretId=SECRET_ID, SecretKey=SECRET_KEY, Scheme="http", Proxies=self.proxies)
        self.client = CosS3Client(config)

    async def __call__(self, name: str, **arguments: Any) -> Any:
        return await self.run(getattr(self.client, name), **{"Bucket": BUCKET, **arguments})

    async def run(self, function: Callable[..., R], *arguments: Any, **named: Any) -> R:
        return await asyncio.to_thread(function, *arguments, **named)

    async def read(self, **arguments: Any) -> bytes:
        def get() -> bytes:
            body = self.client.get_object(Bucket=BUCKET, **arguments)["Body"]
            data: bytes = body.get_raw_stream().read()
            return data

        return await self.run(get)

    async def error(self, name: str, **arguments: Any) -> tuple[str, int]:
        with pytest.raises(CosServiceError) as caught:
            await self(name, **arguments)
        return caught.value.get_error_code(), caught.value.get_status_code()


@pytest.fixture
async def sdk(sqlite_store: Store, tmp_path: Path) -> AsyncIterator[Sdk]:
    async with running_object_server(sqlite_store, tmp_path / "objects") as server:
        sdk = Sdk(server.port)
        yield sdk
        sdk.client._session.close()


@pytest.mark.parametrize("key", KEYS, ids=ascii)
async def test_put_get_head_delete(sdk: Sdk, key: str) -> None:
    data = os.urandom(100_000)
    put = await sdk("put_object", Key=key, Body=data, Metadata={"x-cos-meta-team": "blue"}, EnableMD5=True)
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    assert put["x-cos-hash-crc64ecma"] == str(crc64.xz(data))
    assert await sdk.read(Key=key) == data
    head = await sdk("head_object", Key=key)
    assert (head["Content-Length"], head["x-cos-meta-team"], head["ETag"]) == ("100000", "blue", put["ETag"])
    assert await sdk.read(Key=key, Range="bytes=10-19") == data[10:20]
    assert await sdk("object_exists", Key=key)
    await sdk("delete_object", Key=key)
    assert not await sdk("object_exists", Key=key)


async def test_errors_are_read(sdk: Sdk) -> None:
    assert await sdk.error("get_object", Key="no") == ("NoSuchKey", 404)
    assert await sdk.error("head_object", Key="no") == ("NoSuchResource", 404)
    assert await sdk.error("get_object", Key="no", Bucket=OTHER) == ("NoSuchBucket", 404)
    assert await sdk.error("put_object", Key="k", Body=b"a", ContentMD5="AAAA") == ("InvalidDigest", 400)


async def test_listing_decodes_every_key(sdk: Sdk) -> None:
    for key in KEYS:
        await sdk("put_object", Key=key, Body=b"data")
    found: list[str] = []
    marker = ""
    while True:
        page = await sdk("list_objects", Marker=marker, MaxKeys=2)
        found += [item["Key"] for item in page.get("Contents", [])]
        if page["IsTruncated"] == "false":
            break
        marker = page["NextMarker"]
    assert found == sorted(KEYS, key=str.encode)
    page = await sdk("list_objects", Prefix="a/", Delimiter="/")
    assert [item["Prefix"] for item in page["CommonPrefixes"]] == ["a//"]


async def test_upload_file_in_parts_and_download(sdk: Sdk, tmp_path: Path) -> None:
    data = os.urandom(3 * (1 << 20) + 5)
    local = tmp_path / "big.bin"
    local.write_bytes(data)
    done = await sdk("upload_file", Key="big.bin", LocalFilePath=str(local), PartSize=1, MAXThread=3, EnableMD5=True)
    assert done["ETag"].strip('"').endswith("-4")
    await sdk("download_file", Key="big.bin", DestFilePath=str(tmp_path / "back.bin"), PartSize=1, EnableCRC=True)
    assert (tmp_path / "back.bin").read_bytes() == data


async def test_broken_upload_is_resumed(sdk: Sdk, tmp_path: Path) -> None:
    data = os.urandom(2 * (1 << 20) + 5)
    local = tmp_path / "big.bin"
    local.write_bytes(data)
    upload = await sdk("create_multipart_upload", Key="big.bin", Metadata={"x-cos-meta-a": "b"})
    await sdk("upload_part", Key="big.bin", Body=data[: 1 << 20], PartNumber=1, UploadId=upload["UploadId"])
    sent: list[int] = []
    upload_part = sdk.client.upload_part

    def counting(*arguments: Any, **named: Any) -> Any:
        sent.append(arguments[3])
        return upload_part(*arguments, **named)

    sdk.client.upload_part = counting
    await sdk("upload_file", Key="big.bin", LocalFilePath=str(local), PartSize=1, MAXThread=1)
    assert sorted(sent) == [2, 3]
    assert await sdk.read(Key="big.bin") == data
    assert (await sdk("head_object", Key="big.bin"))["x-cos-meta-a"] == "b"


async def test_uploads_are_listed_and_aborted(sdk: Sdk) -> None:
    upload = await sdk("create_multipart_upload", Key="中/big")
    await sdk("upload_part", Key="中/big", Body=b"data", PartNumber=1, UploadId=upload["UploadId"])
    [found] = (await sdk("list_multipart_uploads"))["Upload"]
    assert (found["Key"], found["UploadId"]) == ("中/big", upload["UploadId"])
    [part] = (await sdk("list_parts", Key="中/big", UploadId=upload["UploadId"]))["Part"]
    assert part["ETag"] == f'"{hashlib.md5(b"data").hexdigest()}"'
    await sdk("abort_multipart_upload", Key="中/big", UploadId=upload["UploadId"])
    assert "Upload" not in await sdk("list_multipart_uploads")


async def test_copy_and_delete_many(sdk: Sdk) -> None:
    await sdk("put_object", Key="源 1", Body=b"data", Metadata={"x-cos-meta-a": "b"})
    source = {"Bucket": BUCKET, "Key": "源 1", "Region": REGION}
    copied = await sdk("copy_object", Key="copy", CopySource=source)
    assert copied["ETag"] == f'"{hashlib.md5(b"data").hexdigest()}"'
    await sdk("copy", Key="again", CopySource=source)
    keys = [{"Key": key} for key in ("源 1", "copy", "again", " gone & <x>")]
    done = await sdk("delete_objects", Delete={"Object": keys, "Quiet": "false"})
    assert [item["Key"] for item in done["Deleted"]] == [item["Key"] for item in keys]
    assert "Contents" not in await sdk("list_objects")


async def test_buckets(sdk: Sdk) -> None:
    await sdk("create_bucket", Bucket=OTHER)
    assert await sdk("bucket_exists", Bucket=OTHER)
    listed = await sdk.run(sdk.client.list_buckets)
    assert [item["Name"] for item in listed["Buckets"]["Bucket"]] == [BUCKET, OTHER]
    assert (await sdk("head_bucket", Bucket=OTHER))["x-cos-bucket-region"] == REGION
    await sdk("delete_bucket", Bucket=OTHER)
    assert not await sdk("bucket_exists", Bucket=OTHER)


async def test_presigned_urls(sdk: Sdk) -> None:
    for method, body in (("PUT", b"data"), ("GET", None)):
        url = sdk.client.get_presigned_url(Bucket=BUCKET, Key="ü 中.txt", Method=method, Expired=60)
        answer = await sdk.run(requests.request, method, url, data=body, proxies=sdk.proxies)
        assert answer.status_code == 200
    assert answer.content == b"data"
