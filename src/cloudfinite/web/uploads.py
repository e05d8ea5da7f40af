"""The calls of multipart uploads.

Wire: COS API documentation, "Multipart Upload APIs".
"""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from cloudfinite.domain.access import Action
from cloudfinite.errors import InvalidArgument, NoSuchCopySource, NoSuchKey
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.keepers import stream_bytes
from cloudfinite.service.object_files import Body
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.uploads import MAX_PART_NUMBER, UploadService
from cloudfinite.web import replies
from cloudfinite.web.object_headers import find_range, read_body, stored_headers
from cloudfinite.web.objects import COPY_SOURCE, check_copy_source, read_copy_source, upload_headers
from cloudfinite.web.request import Request
from cloudfinite.wire import storage
from cloudfinite.wire.documents import read_integer

_MAX_COMPLETION_BYTES = 4 << 20  # 10,000 parts take 1.5 MB
_MAX_PARTS_LISTED = 1000


class UploadHandlers:
    """`/{key}?uploads`, `?uploadId`, and `/?uploads`."""

    def __init__(self, uploads: UploadService, objects: ObjectService, buckets: BucketService) -> None:
        self._uploads = uploads
        self._objects = objects
        self._buckets = buckets

    async def start(self, request: Request) -> web.StreamResponse:
        upload = await self._uploads.start_upload(
            request.bucket, request.key, stored_headers(request.headers, request.key)
        )
        return replies.node(request, storage.upload_started(upload))

    async def put_part(self, request: Request) -> web.StreamResponse:
        number = read_integer(request.query.get("partNumber"), "partNumber", 1, MAX_PART_NUMBER)
        is_copy = bool(request.headers.get(COPY_SOURCE))
        body = await self._source_body(request) if is_copy else read_body(request)
        part = await self._uploads.put_part(request.bucket, request.key, _upload_id(request), number, body)
        headers = [("ETag", part.etag), ("x-cos-hash-crc64ecma", str(part.crc64))]
        if is_copy:
            return replies.node(request, storage.part_copied(part), headers=headers)
        return replies.empty(request, headers=headers)

    async def _source_body(self, request: Request) -> Body:
        """The object, or a range of it, that a part is to be copied from. Raises NoSuchCopySource, InvalidRange."""
        bucket, key = read_copy_source(request.headers[COPY_SOURCE])
        request.check(Action.GET_OBJECT, key, bucket)
        try:
            found = await self._objects.locate_object(bucket, key)
        except NoSuchKey as exc:
            raise NoSuchCopySource(exc.message) from exc
        source = found.item
        check_copy_source(request, source)
        wanted = request.headers.get(f"{COPY_SOURCE}-range", "")
        start, size_bytes = find_range({"Range": wanted}, source) or (0, source.size_bytes)
        return Body(stream_bytes(found, start, size_bytes), size_bytes)

    async def list_parts(self, request: Request) -> web.StreamResponse:
        get = request.query.get
        after = read_integer(get("part-number-marker", "0"), "part-number-marker", 0)
        limit = min(read_integer(get("max-parts", str(_MAX_PARTS_LISTED)), "max-parts", 1), _MAX_PARTS_LISTED)
        bucket = await self._buckets.find_bucket(request.bucket)
        parts, more = await self._uploads.list_parts(bucket.name, request.key, _upload_id(request), after, limit)
        root = storage.part_list(
            bucket,
            request.key,
            _upload_id(request),
            parts,
            encoding=storage.read_encoding(get),
            after=after,
            size=limit,
            more=more,
        )
        return replies.node(request, root)

    async def complete(self, request: Request) -> web.StreamResponse:
        """Metadata comes from the start of the upload; what Node repeats here is ignored."""
        parts = storage.read_completion(await request.body(_MAX_COMPLETION_BYTES))
        item = await self._uploads.complete_upload(request.bucket, request.key, _upload_id(request), parts, request.id)
        location = f"http://{request.host}/{quote(item.key, safe='/')}"
        return replies.node(request, storage.upload_completed(item, location), headers=upload_headers(item))

    async def abort(self, request: Request) -> web.StreamResponse:
        await self._uploads.abort_upload(request.bucket, request.key, _upload_id(request))
        return replies.empty(request, 204)

    async def list(self, request: Request) -> web.StreamResponse:
        listing = storage.read_listing(
            request.query.get, size="max-uploads", marker="key-marker", marker_id="upload-id-marker"
        )
        bucket = await self._buckets.find_bucket(request.bucket)
        page = await self._uploads.list_uploads(bucket.name, listing.query)
        return replies.node(request, storage.upload_list(bucket, listing, page))


def _upload_id(request: Request) -> str:
    upload_id = request.query.get("uploadId")
    if not upload_id:
        raise InvalidArgument("uploadId is empty")
    return upload_id
