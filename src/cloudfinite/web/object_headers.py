"""The headers of objects: those stored with one, those given back, ranges and preconditions.

Wire: COS documentation, "PUT Object", "GET Object", "HEAD Object"; RFC 9110, sections 13 and 14.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from multidict import CIMultiDict, CIMultiDictProxy

from cloudfinite.domain.media_types import guess_type
from cloudfinite.domain.objects import StoredObject
from cloudfinite.errors import (
    InvalidArgument,
    InvalidDigest,
    InvalidRange,
    MissingContentLength,
    NotImplementedHere,
    PreconditionFailed,
)
from cloudfinite.service.kept_here import OBJECT_TYPE
from cloudfinite.service.object_files import Body
from cloudfinite.web.request import Request
from cloudfinite.wire.times import http_date

_STORED = ("Content-Type", "Cache-Control", "Content-Disposition", "Content-Encoding", "Expires")
_OVERRIDES = {
    "response-content-type": "Content-Type",
    "response-content-language": "Content-Language",
    "response-expires": "Expires",
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
}
_META = "x-cos-meta-"
_MAX_META_BYTES = 2048
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


# --- requests ------------------------------------------------------------------------------------------------------


def read_body(request: Request) -> Body:
    """The body of a request that stores bytes. Raises MissingContentLength, InvalidDigest."""
    http = request.http
    if http.content_length is None and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        raise MissingContentLength()
    return Body(request.stream(), http.content_length, read_md5(request.headers))


def read_md5(headers: Mapping[str, str]) -> bytes | None:
    """Content-MD5 as bytes, None without. Raises InvalidDigest."""
    text = headers.get("Content-MD5", "").strip()
    if not text:
        return None
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidDigest() from exc
    if len(digest) != 16:
        raise InvalidDigest()
    return digest


def stored_headers(headers: CIMultiDictProxy[str] | CIMultiDict[str], key: str) -> dict[str, str]:
    """What headers, or a form's fields, say of the object to store; empty ones count as absent. Raises InvalidArgument.

    Wire: our choice – a missing Content-Type is guessed from the key's extension.
    """
    if headers.get("Pic-Operations"):
        # Storing the picture and dropping the work would look like success.
        raise NotImplementedHere("Pic-Operations on an upload is not implemented yet; docs/coverage.md lists what is.")
    stored = {name: value for name in _STORED if (value := headers.get(name, "").strip())}
    if "Content-Type" not in stored:
        stored["Content-Type"] = guess_type(key)
    meta: dict[str, str] = {}
    for name, value in headers.items():
        name = name.lower()
        if name.startswith(_META):
            meta[name] = f"{meta[name]},{value}" if name in meta else value
    size_bytes = sum(len(name) - len(_META) + len(value.encode()) for name, value in meta.items())
    if size_bytes > _MAX_META_BYTES:
        raise InvalidArgument(f"the {_META}* headers take {size_bytes} bytes; at most {_MAX_META_BYTES} are allowed")
    return stored | meta


# --- answers -------------------------------------------------------------------------------------------------------


def object_headers(item: StoredObject) -> dict[str, str]:
    return {
        **item.headers,
        "ETag": item.etag,
        "Last-Modified": http_date(item.modified_at),
        "Accept-Ranges": "bytes",
        **({} if item.crc64 is None else {"x-cos-hash-crc64ecma": str(item.crc64)}),
        **({"x-cos-next-append-position": str(item.size_bytes)} if OBJECT_TYPE in item.headers else {}),
    }


def overrides(request: Request) -> dict[str, str]:
    """The headers that `response-*` parameters replace. Raises InvalidArgument, also for a request without signature.

    Else anybody could make a page of ours answer with headers of theirs.
    """
    found = {}
    for name, header in _OVERRIDES.items():
        if value := request.query.get(name):
            if not request.secret_id:
                raise InvalidArgument(f"{name} needs a signed request")
            if any(character < " " or character == "\x7f" for character in value):
                raise InvalidArgument(f"{name} holds control characters")
            found[header] = value
    return found


def find_range(headers: Mapping[str, str], item: StoredObject) -> tuple[int, int] | None:
    """(start, number of bytes) of a satisfiable single range; None means the whole object. Raises InvalidRange.

    What is no single range of bytes is ignored, as RFC 9110 wants it, and so is one for another version (If-Range).
    """
    match = _RANGE.fullmatch(headers.get("Range", "").strip().replace(" ", ""))
    if not match or match[1] == match[2] == "":
        return None
    if (condition := headers.get("If-Range", "").strip()) and not _is_current(condition, item):
        return None
    size = item.size_bytes
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
        is_satisfiable = int(last) > 0 and size > 0
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
        is_satisfiable = start < size
    if not is_satisfiable:
        raise InvalidRange(
            f"the range {match[0]!r} lies outside the object, which has {size} bytes",
            headers=(("Content-Range", f"bytes */{size}"),),
        )
    return start, end - start


def is_unmodified(headers: Mapping[str, str], item: StoredObject, prefix: str = "") -> bool:
    """Whether the client's copy is still good (304). Raises PreconditionFailed.

    `prefix` stands before the four names when a copy's source is meant.
    """
    modified_at = item.modified_at.replace(microsecond=0)
    if match := headers.get(f"{prefix}If-Match"):
        if not _has_etag(match, item.etag):
            raise PreconditionFailed(f"the object's ETag is {item.etag}; {prefix}If-Match asks for {match}")
    elif (date := _date(headers.get(f"{prefix}If-Unmodified-Since"))) and modified_at > date:
        raise PreconditionFailed(f"the object was modified after the date of {prefix}If-Unmodified-Since")
    if match := headers.get(f"{prefix}If-None-Match"):
        return _has_etag(match, item.etag)
    date = _date(headers.get(f"{prefix}If-Modified-Since"))
    return bool(date and modified_at <= date)


def _has_etag(wanted: str, etag: str) -> bool:
    """Wire: COS SDKs send ETags with and without quotes."""
    plain = etag.strip('"')
    names = (name.strip().removeprefix("W/").strip('"') for name in wanted.split(","))
    return any(name in ("*", plain) for name in names)


def _is_current(condition: str, item: StoredObject) -> bool:
    date = _date(condition)
    return item.modified_at.replace(microsecond=0) == date if date else condition.strip('"') == item.etag.strip('"')


def _date(text: str | None) -> datetime | None:
    """An HTTP date; None when there is none that can be read, which counts as absent."""
    if not text:
        return None
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)
