"""What happened to objects: each creation is an event, kept until all that it sets off has been set off.

Wire: COS documentation, "Event notifications" (`cos:ObjectCreated:Put` and the others).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from cloudfinite.domain.objects import StoredObject

_QUOTE = '"'


class Creation(StrEnum):
    """How an object came to be."""

    PUT = "Put"
    POST = "Post"
    COPY = "Copy"
    COMPLETE = "CompleteMultipartUpload"
    APPEND = "Append"

    @property
    def event_name(self) -> str:
        return f"cos:ObjectCreated:{self}"


@dataclass(frozen=True, slots=True)
class Cause:
    """What creates an object, and the request that did it; for an operation's output, as in ObjectEvent."""

    creation: Creation = Creation.PUT
    request_id: str = ""
    lineage: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One creation of an object. `id` is the same when the same event is told twice.

    headers: Content-Type and x-cos-meta-* as they were then. request_id: of the request that created the object, ""
    when nobody told. lineage: the ids of the workflows whose runs led to the object, so that none of them starts anew.
    """

    id: str
    name: str
    bucket: str
    key: str
    size_bytes: int
    created_at: datetime
    etag: str = ""
    request_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    lineage: tuple[str, ...] = ()


def told_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Those of an object's headers that what its creation sets off hears of."""
    return {name: value for name, value in headers.items() if name == "Content-Type" or name.startswith("x-cos-meta-")}


def object_created(item: StoredObject, cause: Cause, at: datetime) -> ObjectEvent:
    """The event of an object that has just been stored."""
    return ObjectEvent(
        # Each creation has a new file id, but an append, which has a new ETag.
        id=f"{item.file_id}-{item.etag.strip(_QUOTE)}",
        name=cause.creation.event_name,
        bucket=item.bucket,
        key=item.key,
        size_bytes=item.size_bytes,
        created_at=at,
        etag=item.etag,
        request_id=cause.request_id,
        lineage=cause.lineage,
        headers=told_headers(item.headers),
    )
