"""The official Python SDK on a bucket that an S3 server keeps, and on a folder: through a whole server, with jobs."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests
from fastcrc import crc64
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosServiceError
from tests.conformance.python.conftest import client_of
from tests.support.postgres import fresh_database
from tests.support.seaweed import Seaweed
from tests.support.waiting import until

from cloudfinite.testing import Server

pytestmark = pytest.mark.sdk

MIB = 1 << 20
SCANS, FOLDER = "scans-1250000000", "folder-1250000000"
REMOTE = "sdk-scans"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("folder")
    (root / "in").mkdir()
    (root / "in" / "页 1.png").write_bytes(b"a page")
    return root


@pytest.fixture(scope="module")
def remote_server(seaweed: Seaweed, folder: Path) -> Iterator[Server]:
    seaweed.make_bucket(REMOTE)
    with Server(
        ocr_engine="fixed",
        buckets=f"{SCANS}:ap-chongqing=s3://{REMOTE},{FOLDER}:ap-chongqing=file://{folder}",
        storages={SCANS: seaweed.access()},
        workers=1,
    ) as running:
        yield running


@pytest.fixture(scope="module")
def client(remote_server: Server) -> CosS3Client:
    return client_of(remote_server)


def read(client: CosS3Client, key: str, bucket: str = SCANS, **more: Any) -> bytes:
    data: bytes = client.get_object(Bucket=bucket, Key=key, **more)["Body"].get_raw_stream().read()
    return data


def run_job(client: CosS3Client, bucket: str, key: str, job: dict[str, Any]) -> dict[str, Any]:
    made = client.ci_create_media_jobs(Bucket=bucket, Jobs={"Input": {"Object": key}, **job}, Lst={})
    job_id = made["JobsDetail"][0]["JobId"] if isinstance(made["JobsDetail"], list) else made["JobsDetail"]["JobId"]

    def ended() -> dict[str, Any] | None:
        found = client.ci_get_media_jobs(Bucket=bucket, JobIDs=job_id)["JobsDetail"]
        detail: dict[str, Any] = found[0] if isinstance(found, list) else found
        return detail if detail["State"] in ("Success", "Failed") else None

    detail = until(ended, "the job's end")
    assert detail is not None
    return detail


@pytest.mark.parametrize("key", ["in/a.png", "中文/图片 1.png", "a+b c&d=e?f#g%.txt", "marker/"], ids=ascii)
def test_put_get_head_delete(client: CosS3Client, key: str) -> None:
    data = b"" if key.endswith("/") else os.urandom(100_000)
    put = client.put_object(
        Bucket=SCANS, Key=key, Body=data, Metadata={"x-cos-meta-team": "blue"}, EnableMD5=bool(data)
    )
    assert put["x-cos-hash-crc64ecma"] == str(crc64.xz(data))
    assert read(client, key) == data
    assert client.head_object(Bucket=SCANS, Key=key)["Content-Length"] == str(len(data))
    assert client.object_exists(Bucket=SCANS, Key=key)
    client.delete_object(Bucket=SCANS, Key=key)
    assert not client.object_exists(Bucket=SCANS, Key=key)


def test_listing_with_pages_and_folders(client: CosS3Client) -> None:
    keys = [f"list/{name}" for name in ("a", "b 1", "中", "sub/x", "sub/y")]
    for key in keys:
        client.put_object(Bucket=SCANS, Key=key, Body=b"data")
    found: list[str] = []
    page: dict[str, Any] = {"IsTruncated": "true", "NextMarker": ""}
    while page["IsTruncated"] == "true":
        page = client.list_objects(Bucket=SCANS, Prefix="list/", Marker=page["NextMarker"], MaxKeys=2)
        found += [item["Key"] for item in page.get("Contents", [])]
    assert found == sorted(keys, key=str.encode)
    page = client.list_objects(Bucket=SCANS, Prefix="list/", Delimiter="/")
    assert [item["Prefix"] for item in page["CommonPrefixes"]] == ["list/sub/"]


def test_upload_file_in_parts_resumes_and_downloads(client: CosS3Client, tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 5)
    local = tmp_path / "big.bin"
    local.write_bytes(data)
    started = client.create_multipart_upload(Bucket=SCANS, Key="big.bin")
    client.upload_part(Bucket=SCANS, Key="big.bin", Body=data[:MIB], PartNumber=1, UploadId=started["UploadId"])
    client.upload_file(Bucket=SCANS, Key="big.bin", LocalFilePath=str(local), PartSize=1, MAXThread=3, EnableMD5=True)
    client.download_file(
        Bucket=SCANS, Key="big.bin", DestFilePath=str(tmp_path / "back.bin"), PartSize=1, EnableCRC=True
    )
    assert (tmp_path / "back.bin").read_bytes() == data
    assert "Upload" not in client.list_multipart_uploads(Bucket=SCANS)


def test_copy_and_delete_many(client: CosS3Client) -> None:
    client.put_object(Bucket=SCANS, Key="many/源", Body=b"data", Metadata={"x-cos-meta-a": "b"})
    source = {"Bucket": SCANS, "Key": "many/源", "Region": "ap-chongqing"}
    client.copy_object(Bucket=SCANS, Key="many/copy", CopySource=source)
    assert client.head_object(Bucket=SCANS, Key="many/copy")["x-cos-meta-a"] == "b"
    keys = [{"Key": key} for key in ("many/源", "many/copy", "many/none")]
    done = client.delete_objects(Bucket=SCANS, Delete={"Object": keys, "Quiet": "false"})
    assert len(done["Deleted"]) == 3
    assert "Contents" not in client.list_objects(Bucket=SCANS, Prefix="many/")


def test_presigned_urls(client: CosS3Client, remote_server: Server) -> None:
    for method, body in (("PUT", b"data"), ("GET", None)):
        url = client.get_presigned_url(Bucket=SCANS, Key="signed/ü 中.txt", Method=method, Expired=60)
        answer = requests.request(method, url, data=body, proxies={"http": remote_server.url}, timeout=30)
        assert answer.status_code == 200
    assert answer.content == b"data"


@pytest.mark.parametrize("bucket", [SCANS, FOLDER])
def test_jobs_read_objects_where_they_are_kept(client: CosS3Client, bucket: str) -> None:
    key, data = "in/页 1.png", b"a page"
    if bucket == SCANS:
        client.put_object(Bucket=SCANS, Key=key, Body=data)
    detail = run_job(
        client, bucket, key, {"Tag": "FileHashCode", "Operation": {"FileHashCodeConfig": {"Type": "SHA256"}}}
    )
    assert detail["State"] == "Success", detail
    assert detail["Operation"]["FileHashCodeResult"]["SHA256"] == hashlib.sha256(data).hexdigest()
    assert detail["Operation"]["FileHashCodeResult"]["Etag"] == client.head_object(Bucket=bucket, Key=key)["ETag"]
    ocr = run_job(client, bucket, key, {"Tag": "ImageOCR", "Operation": {"ImageOCR": {"Type": "general"}}})
    assert ocr["State"] == "Success", ocr


def test_job_on_an_object_that_is_not_there_ends_failed(client: CosS3Client) -> None:
    detail = run_job(
        client, SCANS, "none", {"Tag": "FileHashCode", "Operation": {"FileHashCodeConfig": {"Type": "MD5"}}}
    )
    assert (detail["State"], detail["Code"]) == ("Failed", "ResourceNotFound")


def test_bucket_of_the_settings_is_not_deleted_and_a_folder_not_written(client: CosS3Client) -> None:
    for call in (
        lambda: client.delete_bucket(Bucket=SCANS),
        lambda: client.put_object(Bucket=FOLDER, Key="new", Body=b"x"),
    ):
        with pytest.raises(CosServiceError) as caught:
            call()
        assert (caught.value.get_status_code(), caught.value.get_error_code()) == (403, "AccessDenied")


def test_roles_with_folders_of_their_own_share_a_storage(postgres_url: str, seaweed: Seaweed) -> None:
    seaweed.make_bucket("sdk-roles")
    settings = {
        "buckets": f"{SCANS}:ap-chongqing=s3://sdk-roles",
        "storages": {"default": seaweed.access()},
        "encryption_key": "the same on all machines",
        "callback_secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "admin_token": "shared",
        "ocr_engine": "fixed",
    }
    with fresh_database(postgres_url) as database, ExitStack() as stack:
        api = stack.enter_context(Server(database=database, role="api", **settings))
        stack.enter_context(Server(database=database, role="worker", workers=1, **settings))
        client = client_of(api)
        upload = client.create_multipart_upload(Bucket=SCANS, Key="k")
        part = client.upload_part(Bucket=SCANS, Key="k", Body=b"data", PartNumber=1, UploadId=upload["UploadId"])
        other = client_of(stack.enter_context(Server(database=database, role="api", **settings)))
        parts = {"Part": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        other.complete_multipart_upload(Bucket=SCANS, Key="k", UploadId=upload["UploadId"], MultipartUpload=parts)
        detail = run_job(
            client, SCANS, "k", {"Tag": "FileHashCode", "Operation": {"FileHashCodeConfig": {"Type": "MD5"}}}
        )
        assert detail["Operation"]["FileHashCodeResult"]["MD5"] == hashlib.md5(b"data").hexdigest()
        with pytest.raises(CosServiceError, match="AccessDenied"):
            client.create_bucket(Bucket="more-1250000000")
