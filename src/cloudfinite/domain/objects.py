"""Buckets, the objects in them, and uploads that become objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import uuid4

from cloudfinite.domain.cors import CorsRule

MAX_KEY_BYTES = 850  # Wire: COS documentation, "Object Overview".


def new_upload_id() -> str:
    """32 hex digits; also the `file_id` of the object that the upload becomes."""
    return uuid4().hex


@dataclass(frozen=True, slots=True)
class Switch:
    """Whether something is on for a bucket, and since when."""

    is_on: bool
    changed_at: datetime


BINDING = "binding"
"""The switch of the bucket's binding to Cloud Infinite as a whole; the others bear the names of the services."""


class Acl(StrEnum):
    """Who may read a bucket's objects without a signature: nobody, or anybody."""

    PRIVATE = "private"
    PUBLIC_READ = "public-read"


@dataclass(frozen=True, slots=True)
class Bucket:
    """`name` is the full name with its number, as in `examplebucket-1250000000`.

    switches: those that were ever turned; every other is on since the bucket was made. cors: rules of its own.
    """

    name: str
    region: str
    created_at: datetime
    switches: Mapping[str, Switch] = field(default_factory=dict)
    cors: tuple[CorsRule, ...] = ()
    acl: Acl = Acl.PRIVATE

    @property
    def owner(self) -> str:
        """The number behind the last hyphen: the vendor's account id, "" when the name has none."""
        return self.name.rpartition("-")[2] if "-" in self.name else ""

    def is_on(self, switch: str) -> bool:
        turned = self.switches.get(switch)
        return turned is None or turned.is_on

    def is_open(self, service: str) -> bool:
        """Whether jobs of the service are taken: it is open, and the bucket is bound."""
        return self.is_on(BINDING) and self.is_on(service)

    def opened_at(self, service: str) -> datetime:
        turned = self.switches.get(service)
        return turned.changed_at if turned else self.created_at


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object's row. `file_id` names its bytes in the object store; `key` is opaque.

    etag is in double quotes; crc64 is the CRC-64/XZ of the bytes, None where another store keeps an object that did not
    come through us; headers are those given back with the object (Content-Type, Cache-Control, …, x-cos-meta-*), by
    their wire names. The bytes of a multipart object are the parts of the upload whose id `file_id` is, in the order of
    their numbers.

    is_elsewhere: a storage keeps it, so it has no row here; `file_id` then only tells creations apart. is_told: that
    storage tells of its creation by itself.
    """

    bucket: str
    key: str
    file_id: str
    size_bytes: int
    etag: str
    crc64: int | None
    modified_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)
    is_multipart: bool = False
    is_elsewhere: bool = False
    is_told: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of an object's bytes."""

    file_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload in progress; `headers` are those of the object it will become."""

    id: str
    bucket: str
    key: str
    created_at: datetime
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of an upload; fields as in StoredObject."""

    upload_id: str
    number: int
    file_id: str
    size_bytes: int
    etag: str
    crc64: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a list of keys selects, in byte order of the keys. Only what sorts after `marker` is given.

    With a delimiter, keys that hold it behind the prefix are given once, as the common prefix up to it. `marker_id`
    goes on inside the uploads of one key.
    """

    prefix: str = ""
    delimiter: str = ""
    marker: str = ""
    marker_id: str = ""
    size: int = 1000


@dataclass(frozen=True, slots=True)
class ObjectPage:
    """One page of a bucket's list; `next_marker` is "" on the last."""

    objects: tuple[StoredObject, ...] = ()
    common_prefixes: tuple[str, ...] = ()
    next_marker: str = ""


@dataclass(frozen=True, slots=True)
class UploadPage:
    """One page of a bucket's uploads; `next_marker` is "" on the last."""

    uploads: tuple[Upload, ...] = ()
    common_prefixes: tuple[str, ...] = ()
    next_marker: str = ""
    next_marker_id: str = ""
