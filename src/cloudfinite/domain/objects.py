"""Buckets and the objects in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Bucket:
    """`name` is the full name with its number, as in `examplebucket-1250000000`."""

    name: str
    region: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's row. `file_id` names its bytes in the object store; `key` is opaque.

    etag is in double quotes; crc64 is the CRC-64/XZ of the bytes; headers are those given back with the object
    (Content-Type, Cache-Control, …, x-cos-meta-*), by their wire names.
    """

    bucket: str
    key: str
    file_id: str
    size_bytes: int
    etag: str
    crc64: int
    modified_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
