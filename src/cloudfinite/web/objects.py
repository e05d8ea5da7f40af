"""The calls on one object: put, append, get, head, delete, copy.

Wire: COS API documentation, "Object APIs"; the case of the header names matters to the Python SDK.
"""

from __future__ import annotations

from urllib.parse import unquote

from aiohttp import web

from cloudfinite.domain.access import Action
from cloudfinite.domain.events import Cause, Creation
from cloudfinite.domain.objects import StoredObject
from cloudfinite.errors import InvalidArgument, PreconditionFailed
from cloudfinite.service.objects import ObjectService
from cloudfinite.web import replies
from cloudfinite.web.object_body import ObjectBody
from cloudfinite.web.object_headers import (
    find_range,
    is_unmodified,
    object_headers,
    overrides,
    read_body,
    stored_headers,
)
from cloudfinite.web.request import Request
from cloudfinite.wire import storage
from cloudfinite.wire.documents import read_integer

COPY_SOURCE = "x-cos-copy-source"


class ObjectHandlers:
    """`/{key}` of a bucket's host."""

    def __init__(self, objects: ObjectService) -> None:
        self._objects = objects

    async def put(self, request: Request) -> web.StreamResponse:
        if request.headers.get(COPY_SOURCE):
            return await self._copy(request)
        item = await self._objects.put_object(
            request.bucket,
            request.key,
            read_body(request),
            stored_headers(request.headers, request.key),
            Cause(Creation.PUT, request.id),
        )
        return replies.empty(request, headers=upload_headers(item))

    async def get(self, request: Request) -> web.StreamResponse:
        found = await self._objects.locate_object(request.bucket, request.key)
        status, headers, start, size_bytes = _answer_head(request, found.item)
        if status == 304:
            return replies.empty(request, status, headers.items())
        reader = await found.open(start, size_bytes)
        return ObjectBody(reader, size_bytes, status, headers)

    async def head(self, request: Request) -> web.StreamResponse:
        item = await self._objects.find_object(request.bucket, request.key)
        status, headers, _, size_bytes = _answer_head(request, item)
        if status != 304:
            headers["Content-Length"] = str(size_bytes)
        return replies.empty(request, status, headers.items())

    async def append(self, request: Request) -> web.StreamResponse:
        """Wire: COS documentation, "APPEND Object"; cos-go-sdk-v5 compares `x-cos-content-sha1` with the MD5."""
        position = read_integer(request.query.get("position"), "position", 0)
        item, appended = await self._objects.append_object(
            request.bucket,
            request.key,
            position,
            read_body(request),
            stored_headers(request.headers, request.key),
            request.id,
        )
        headers = [*upload_headers(item), ("x-cos-next-append-position", str(item.size_bytes))]
        return replies.empty(request, headers=[*headers, ("x-cos-content-sha1", appended.md5.hex())])

    async def delete(self, request: Request) -> web.StreamResponse:
        await self._objects.delete_object(request.bucket, request.key)
        return replies.empty(request, 204)

    async def _copy(self, request: Request) -> web.StreamResponse:
        directive = request.headers.get("x-cos-metadata-directive", "Copy").lower()
        if directive not in ("copy", "replaced"):
            raise InvalidArgument(f"x-cos-metadata-directive is {directive!r}; it must be Copy or Replaced")
        bucket, key = read_copy_source(request.headers[COPY_SOURCE])
        request.check(Action.GET_OBJECT, key, bucket)
        item = await self._objects.copy_object(
            (bucket, key),
            (request.bucket, request.key),
            stored_headers(request.headers, request.key) if directive == "replaced" else None,
            lambda source: check_copy_source(request, source),
            request.id,
        )
        return replies.node(request, storage.object_copied(item), headers=upload_headers(item))


def upload_headers(item: StoredObject) -> list[tuple[str, str]]:
    """Wire: cos-go-sdk-v5 fails without the CRC on every answer to an upload."""
    headers = [("ETag", item.etag)]
    return headers if item.crc64 is None else [*headers, ("x-cos-hash-crc64ecma", str(item.crc64))]


def _answer_head(request: Request, item: StoredObject) -> tuple[int, dict[str, str], int, int]:
    """Status, headers, and which bytes of the object the body is."""
    headers = object_headers(item)
    if is_unmodified(request.headers, item):
        validators = ("ETag", "Last-Modified", "Cache-Control", "Expires")
        return 304, {name: headers[name] for name in validators if name in headers}, 0, 0
    headers |= overrides(request)
    wanted = find_range(request.headers, item)
    if wanted is None:
        return 200, headers, 0, item.size_bytes
    start, size_bytes = wanted
    headers["Content-Range"] = f"bytes {start}-{start + size_bytes - 1}/{item.size_bytes}"
    return 206, headers, start, size_bytes


def read_copy_source(text: str) -> tuple[str, str]:
    """Bucket and key of `<bucket>.cos.<region>.<suffix>/<encoded key>[?versionId=…]`. Raises InvalidArgument.

    Wire: COS documentation, "PUT Object - Copy". Versions are not kept, so a versionId is refused.
    """
    source, _, query = text.strip().removeprefix("http://").removeprefix("https://").partition("?")
    host, _, path = source.removeprefix("/").partition("/")
    bucket = host.partition(".")[0]
    if query.startswith("versionId=") and len(query) > len("versionId="):
        raise InvalidArgument("x-cos-copy-source names a version; this server keeps one version of an object")
    try:
        key = unquote(path, errors="strict")
    except UnicodeDecodeError as exc:
        raise InvalidArgument(f"{COPY_SOURCE} is not UTF-8 after decoding") from exc
    if not bucket or not key:
        raise InvalidArgument(f"{COPY_SOURCE} is {text!r}; it must be <bucket>.cos.<region>.<suffix>/<key>")
    return bucket, key


def check_copy_source(request: Request, source: StoredObject) -> None:
    """Raises PreconditionFailed: for a copy, what would be 304 is 412."""
    if is_unmodified(request.headers, source, f"{COPY_SOURCE}-"):
        raise PreconditionFailed("the source is not modified")
