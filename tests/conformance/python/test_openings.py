"""The Python SDK's calls on services, and the smaller ones on buckets and objects."""

from __future__ import annotations

from typing import Any

import pytest
from qcloud_cos import CosS3Client
from qcloud_cos.cos_exception import CosServiceError

from cloudfinite.testing import Server

pytestmark = pytest.mark.sdk
BUCKET = Server.bucket


@pytest.mark.parametrize("service", ["ai", "pic", "asr"])
def test_service_is_closed_and_opened(client: CosS3Client, service: str) -> None:
    def listed() -> Any:
        (name,) = {"ai": ["AiBucketList"], "pic": ["PicBucketList"], "asr": ["AsrBucketList"]}[service]
        return getattr(client, f"ci_get_{service}_bucket")(BucketName=BUCKET).get(name)

    found = listed()
    assert (found[0] if isinstance(found, list) else found)["BucketId"] == BUCKET
    _, closed = getattr(client, f"ci_close_{service}_bucket")(Bucket=BUCKET)
    assert closed["BucketName"] == BUCKET
    assert listed() is None
    _, opened = getattr(client, f"ci_open_{service}_bucket")(Bucket=BUCKET)
    assert opened["BucketName"] == BUCKET
    assert listed()


def test_media_and_document_services_are_listed(client: CosS3Client) -> None:
    (media,) = client.ci_get_media_bucket(BucketNames=BUCKET)["MediaBucketList"]
    document = client.ci_get_doc_bucket(BucketNames=BUCKET)["DocBucketList"]
    assert media["BucketId"] == (document[0] if isinstance(document, list) else document)["BucketId"] == BUCKET


def test_closed_service_refuses_a_job_with_its_code(client: CosS3Client) -> None:
    jobs = {"Tag": "ImageOCR", "Input": {"Object": "a"}, "Operation": {"ImageOCR": {"Type": "general"}}}
    client.ci_close_ai_bucket(Bucket=BUCKET)
    try:
        with pytest.raises(CosServiceError) as caught:
            client.ci_create_media_jobs(Bucket=BUCKET, Jobs=jobs, Lst={})
        assert (caught.value.get_status_code(), caught.value.get_error_code()) == (400, "MediaBucketUnBinded")
    finally:
        client.ci_open_ai_bucket(Bucket=BUCKET)


def test_cors_rules_and_location(client: CosS3Client) -> None:
    rule = {"ID": "1", "AllowedOrigin": ["https://a.example"], "AllowedMethod": ["GET"], "MaxAgeSeconds": "5"}
    client.put_bucket_cors(Bucket=BUCKET, CORSConfiguration={"CORSRule": [rule]})
    (found,) = client.get_bucket_cors(Bucket=BUCKET)["CORSRule"]
    assert (found["AllowedOrigin"], found["MaxAgeSeconds"]) == (["https://a.example"], "5")
    client.delete_bucket_cors(Bucket=BUCKET)
    assert client.get_bucket_location(Bucket=BUCKET)["LocationConstraint"] == Server.region


def test_object_is_appended_to(client: CosS3Client) -> None:
    first = client.append_object(Bucket=BUCKET, Key="log", Position=0, Data=b"hello ")
    second = client.append_object(
        Bucket=BUCKET, Key="log", Position=int(first["x-cos-next-append-position"]), Data=b"world"
    )
    assert second["x-cos-next-append-position"] == "11"
    assert client.get_object(Bucket=BUCKET, Key="log")["Body"].get_raw_stream().read() == b"hello world"
