"""The documents of service opening and binding.

Wire: Cloud Infinite API documentation, "AI content recognition service" and "Media bucket APIs"; cos-go-sdk-v5 ci.go
(the node of each service); cos-python-sdk-v5 ut/test.py (`BucketName` in the answers of open and close).
"""

from __future__ import annotations

from collections.abc import Iterable

from cloudfinite.domain.objects import Bucket
from cloudfinite.wire.nodes import Node
from cloudfinite.wire.shapes import answer, leaf
from cloudfinite.wire.times import job_time

_NODES = {
    "ai": "AiBucket",
    "media": "MediaBucket",
    "pic": "PicBucket",
    "asr": "AsrBucket",
    "doc": "DocBucket",
    "file": "FileBucket",
}


def opened(request_id: str, bucket: Bucket, service: str) -> Node:
    return answer(request_id, leaf("BucketName", bucket.name), _bucket(_NODES[service], bucket, service))


def closed(request_id: str, bucket: Bucket) -> Node:
    return answer(request_id, leaf("BucketName", bucket.name))


def open_buckets(buckets: Iterable[Bucket], service: str) -> list[Node]:
    return [_bucket(f"{_NODES[service]}List", bucket, service, many=True) for bucket in buckets]


def binding(is_bound: bool) -> Node:
    return leaf("CIStatus", "on" if is_bound else "off")


def _bucket(name: str, bucket: Bucket, service: str, *, many: bool = False) -> Node:
    fields = (
        leaf("BucketId", bucket.name),
        leaf("Name", bucket.name),
        leaf("Region", bucket.region),
        leaf("CreateTime", job_time(bucket.opened_at(service))),
    )
    return Node(name, fields, is_many=many)
