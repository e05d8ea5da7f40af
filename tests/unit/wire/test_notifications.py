"""Notifications of other stores: each shape, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.notifications import AWS, COS, EVENTBRIDGE, MINIO

from cloudfinite.domain.events import Creation
from cloudfinite.errors import InvalidContent
from cloudfinite.wire.notifications import RemoteCreation, read_notification


def read(data: Any) -> RemoteCreation:
    (found,) = read_notification(json.dumps(data).encode())
    return found


def test_minio_tells_headers_and_encodes_keys() -> None:
    found = read(MINIO)
    assert (found.creation, found.bucket, found.key, found.size_bytes) == (Creation.PUT, "scans", "in/a b.png", 7)
    assert (found.etag, found.request_id) == ('"0cc1"', "17A")
    assert found.headers == {"Content-Type": "image/png", "x-cos-meta-team": "蓝"}


def test_aws_directly_and_by_sns() -> None:
    found = read(AWS)
    assert (found.creation, found.key, found.etag) == (Creation.COMPLETE, "a+b", '"0cc1-2"')
    assert read({"Type": "Notification", "Message": json.dumps(AWS)}) == found


def test_eventbridge_does_not_encode_keys() -> None:
    found = read(EVENTBRIDGE)
    assert (found.creation, found.key, found.request_id) == (Creation.COPY, "in/a+b.png", "C3D1")


def test_cos_names_bucket_and_number_apart() -> None:
    found = read(COS)
    assert (found.creation, found.bucket, found.key) == (Creation.POST, "scans-1250000000", "in/a.png")
    assert (found.size_bytes, found.request_id) == (7, "NWM=")
    assert found.headers == {"Content-Type": "image/png", "x-cos-meta-a": "b"}


def test_same_event_has_the_same_id_and_another_has_another() -> None:
    assert read(MINIO).id == read(MINIO).id
    later = json.loads(json.dumps(MINIO))
    later["Records"][0]["s3"]["object"]["sequencer"] = "17B"
    assert read(later).id != read(MINIO).id


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"Service": "Amazon S3", "Event": "s3:TestEvent"},
        {"Records": [{"eventName": "ObjectRemoved:Delete", "s3": {}}]},
        {"Records": [{"eventName": "s3:ObjectCreated:PutRetention", "s3": {}}]},
        EVENTBRIDGE | {"detail-type": "Object Deleted"},
    ],
)
def test_what_creates_nothing_is_left_out(data: Any) -> None:
    assert read_notification(json.dumps(data).encode()) == []


def spoilt(**changed: Any) -> bytes:
    data = json.loads(json.dumps(AWS))
    data["Records"][0]["s3"]["object"] |= changed
    return json.dumps(data).encode()


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"nothing", b'{"Records": 5}', b'{"Records": [5]}', b'{"Records": [{}]}', b"[" * 100_000,
     spoilt(key=5), spoilt(key="%ff"), spoilt(size="many"), spoilt(size=-1), spoilt(size=1 << 70), spoilt(eTag=5),
     spoilt(eTag="a\nb"), spoilt(eTag="\ud800"), spoilt(contentType={"a": 1}),
     json.dumps({"Records": AWS["Records"] * 1001}).encode()],
)  # fmt: skip
def test_what_is_no_notification_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidContent):
        read_notification(body)
