"""Notifications of other object stores that something was created there.

Wire: Amazon S3 documentation, "Event message structure" and EventBridge "Object Created"; MinIO documentation, "Bucket
notifications" (webhook); SCF documentation, "COS trigger" (Records of `cos` and `event`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

from cloudfinite.domain.events import Creation
from cloudfinite.errors import InvalidContent

_MAX_RECORDS = 1000
_CREATIONS = {creation.value: creation for creation in Creation}
# Wire: EventBridge names the call instead.
_REASONS = {
    "PutObject": Creation.PUT,
    "POST Object": Creation.POST,
    "CopyObject": Creation.COPY,
    "CompleteMultipartUpload": Creation.COMPLETE,
}


@dataclass(frozen=True, slots=True)
class RemoteCreation:
    """One creation as the other store tells it; `id` is the same when it is told again."""

    id: str
    creation: Creation
    bucket: str
    key: str
    size_bytes: int
    etag: str = ""
    request_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def read_notification(body: bytes) -> list[RemoteCreation]:
    """The creations in a notification; everything else that it tells is left out. Raises InvalidContent."""
    try:
        data = json.loads(body)
        if isinstance(data, dict) and data.get("Type") == "Notification" and isinstance(data.get("Message"), str):
            data = json.loads(data["Message"])  # SNS wraps it.
        if not isinstance(data, dict):
            raise InvalidContent("the notification is no JSON object")
        records = [data] if "detail" in data else data.get("Records", [])
        if len(records) > _MAX_RECORDS:
            raise InvalidContent(f"the notification has {len(records)} records; at most {_MAX_RECORDS} are allowed")
        return [found for record in records for found in _read_record(record)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise InvalidContent("the notification has none of the shapes of S3, MinIO, EventBridge and COS") from exc


def _read_record(record: Mapping[str, Any]) -> Iterator[RemoteCreation]:
    if "detail" in record:
        yield from _read_eventbridge(record)
    elif "cos" in record:
        yield from _read_cos(record["cos"], record["event"])
    else:
        yield from _read_s3(record)


def _read_s3(record: Mapping[str, Any]) -> Iterator[RemoteCreation]:
    creation = _creation(record["eventName"])
    if creation is None:
        return
    item = record["s3"]["object"]
    told = dict(item.get("userMetadata") or {})  # MinIO
    if item.get("contentType"):
        told["Content-Type"] = item["contentType"]
    yield _remote(
        creation,
        record["s3"]["bucket"]["name"],
        unquote_plus(item["key"], errors="strict"),
        item.get("size", 0),
        mark=item.get("sequencer") or record.get("eventTime", ""),
        etag=item.get("eTag", ""),
        request_id=(record.get("responseElements") or {}).get("x-amz-request-id", ""),
        told=told,
    )


def _read_eventbridge(record: Mapping[str, Any]) -> Iterator[RemoteCreation]:
    detail = record["detail"]
    creation = _REASONS.get(detail.get("reason", ""))
    if record.get("detail-type") != "Object Created" or creation is None:
        return
    item = detail["object"]
    yield _remote(
        creation,
        detail["bucket"]["name"],
        item["key"],
        item.get("size", 0),
        mark=item.get("sequencer") or record.get("time", ""),
        etag=item.get("etag", ""),
        request_id=detail.get("request-id", ""),
        told={},
    )


def _read_cos(cos: Mapping[str, Any], event: Mapping[str, Any]) -> Iterator[RemoteCreation]:
    creation = _creation(event["eventName"])
    if creation is None:
        return
    name, number = cos["cosBucket"]["name"], str(cos["cosBucket"]["appid"])
    item = cos["cosObject"]
    meta = dict(item.get("meta") or {})
    yield _remote(
        creation,
        f"{name}-{number}",
        item["key"].removeprefix(f"/{number}/{name}/"),
        item["size"],
        mark=str(event.get("eventTime", "")),
        etag=meta.get("ETag", ""),
        request_id=meta.get("x-cos-request-id", ""),
        told=meta,
    )


def _creation(name: str) -> Creation | None:
    """`s3:ObjectCreated:Put`, `ObjectCreated:Put`, `cos:ObjectCreated:Put`; None for what creates nothing."""
    parts = name.split(":")
    return _CREATIONS.get(parts[-1]) if "ObjectCreated" in parts[:-1] else None


def _remote(
    creation: Creation,
    bucket: str,
    key: str,
    size_bytes: Any,
    *,
    mark: str,
    etag: str,
    request_id: str,
    told: Mapping[str, Any],
) -> RemoteCreation:
    """`mark` tells two creations of one key apart."""
    etag = f'"{etag.strip(chr(34))}"' if etag else ""
    identity = json.dumps([bucket, key, creation, mark, etag]).encode()
    headers = {}
    for name, value in told.items():
        name = name.lower().replace("x-amz-meta-", "x-cos-meta-")
        if name == "content-type" and value:
            headers["Content-Type"] = _plain(value)
        elif name.startswith("x-cos-meta-"):
            headers[_plain(name)] = _plain(value)
    return RemoteCreation(
        id=f"remote-{hashlib.sha256(identity).hexdigest()[:32]}",
        creation=creation,
        bucket=_plain(bucket),
        key=key,
        size_bytes=_size(size_bytes),
        etag=_plain(etag),
        request_id=_plain(request_id),
        headers=headers,
    )


def _plain(text: Any) -> str:
    """A text as headers and every database take it. Raises ValueError, TypeError."""
    if not isinstance(text, str):
        raise TypeError("not a text")
    if any(character < " " or "\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("not a plain text")
    return text


def _size(value: Any) -> int:
    """COS writes it as a text. Raises ValueError, TypeError."""
    size_bytes = int(value)
    if not 0 <= size_bytes < 1 << 63:
        raise ValueError("not a size")
    return size_bytes
