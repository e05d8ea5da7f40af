"""What other object stores send when something was created there."""

from __future__ import annotations

from typing import Any

# Shapes as printed in the documentation named in wire/notifications.py, with values of our own.
MINIO: dict[str, Any] = {
    "EventName": "s3:ObjectCreated:Put",
    "Key": "scans/in/a b.png",
    "Records": [
        {
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "eventTime": "2026-01-05T02:00:00.000Z",
            "eventName": "s3:ObjectCreated:Put",
            "responseElements": {"x-amz-request-id": "17A"},
            "s3": {
                "bucket": {"name": "scans"},
                "object": {
                    "key": "in%2Fa+b.png",
                    "size": 7,
                    "eTag": "0cc1",
                    "contentType": "image/png",
                    "userMetadata": {"content-type": "image/png", "X-Amz-Meta-Team": "蓝"},
                    "sequencer": "17A",
                },
            },
        }
    ],
}
AWS: dict[str, Any] = {
    "Records": [
        {
            "eventSource": "aws:s3",
            "eventTime": "2026-01-05T02:00:00.000Z",
            "eventName": "ObjectCreated:CompleteMultipartUpload",
            "responseElements": {"x-amz-request-id": "C3D1"},
            "s3": {
                "bucket": {"name": "scans"},
                "object": {"key": "a%2Bb", "size": 7, "eTag": "0cc1-2", "sequencer": "1"},
            },
        }
    ]
}
COS: dict[str, Any] = {
    "Records": [
        {
            "cos": {
                "cosBucket": {"appid": "1250000000", "name": "scans", "region": "cq"},
                "cosObject": {
                    "key": "/1250000000/scans/in/a.png",
                    "meta": {"Content-Type": "image/png", "x-cos-request-id": "NWM=", "x-cos-meta-a": "b"},
                    "size": "7",
                },
                "cosSchemaVersion": "1.0",
            },
            "event": {"eventName": "cos:ObjectCreated:Post", "eventTime": 1545205770, "eventSource": "qcs::cos"},
        }
    ]
}
EVENTBRIDGE: dict[str, Any] = {
    "detail-type": "Object Created",
    "time": "2026-01-05T02:00:00Z",
    "detail": {
        "bucket": {"name": "scans"},
        "object": {"key": "in/a+b.png", "size": 7, "etag": "0cc1", "sequencer": "1"},
        "request-id": "C3D1",
        "reason": "CopyObject",
    },
}
