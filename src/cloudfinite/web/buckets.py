"""The calls on a bucket and on the list of all buckets.

Wire: COS API documentation, "Service APIs", "Bucket APIs", "DELETE Multiple Objects".
"""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from cloudfinite.domain.access import Action
from cloudfinite.domain.objects import Acl
from cloudfinite.errors import NotImplementedHere, RequestError
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.objects import ObjectService, check_key
from cloudfinite.web import replies
from cloudfinite.web.request import Request
from cloudfinite.wire import storage

_MAX_DELETION_BYTES = 8 << 20  # 1,000 keys of 850 bytes, each byte an entity


class BucketHandlers:
    """`/` of a bucket's host, and of the service's."""

    def __init__(self, buckets: BucketService, objects: ObjectService) -> None:
        self._buckets = buckets
        self._objects = objects

    async def list_all(self, request: Request) -> web.StreamResponse:
        """Only buckets that the key may see."""
        buckets = [bucket for bucket in await self._buckets.list_buckets() if request.grant.sees(bucket.name)]
        return replies.node(request, storage.bucket_list(buckets))

    async def create(self, request: Request) -> web.StreamResponse:
        """A region that a body names is ignored: the host says which."""
        await request.body()
        acl = storage.read_acl(request.headers)
        if acl is not Acl.PRIVATE:
            request.check(Action.PUT_BUCKET_ACL)
        await self._buckets.create_bucket(request.bucket, request.region, acl)
        return replies.empty(request)

    async def head(self, request: Request) -> web.StreamResponse:
        bucket = await self._buckets.find_bucket(request.bucket)
        return replies.empty(request, headers=[("x-cos-bucket-region", bucket.region)])

    async def delete(self, request: Request) -> web.StreamResponse:
        await self._buckets.delete_bucket(request.bucket)
        return replies.empty(request, 204)

    async def list(self, request: Request) -> web.StreamResponse:
        """The objects in it."""
        listing = storage.read_listing(request.query.get, size="max-keys", marker="marker")
        bucket = await self._buckets.find_bucket(request.bucket)
        page = await self._objects.list_objects(bucket.name, listing.query)
        return replies.node(
            request,
            storage.object_list(bucket, listing, page),
            headers=[("x-cos-bucket-region", bucket.region)],
        )

    async def list_v2(self, request: Request) -> web.StreamResponse:
        """As `list`, in the words of S3's second version."""
        get = request.query.get
        listing = storage.read_listing(get, size="max-keys", marker="start-after")
        if token := get("continuation-token"):
            marker = storage.read_token(token)
            listing = replace(listing, query=replace(listing.query, marker=marker))
        bucket = await self._buckets.find_bucket(request.bucket)
        page = await self._objects.list_objects(bucket.name, listing.query)
        root = storage.object_list_v2(bucket, listing, page, token, get("start-after"))
        return replies.node(request, root, headers=[("x-cos-bucket-region", bucket.region)])

    async def location(self, request: Request) -> web.StreamResponse:
        return replies.node(request, storage.location(await self._buckets.find_bucket(request.bucket)))

    async def acl(self, request: Request) -> web.StreamResponse:
        return replies.node(request, storage.access_control(await self._buckets.find_bucket(request.bucket)))

    async def set_acl(self, request: Request) -> web.StreamResponse:
        """From the header `x-cos-acl` alone: grants to single accounts mean nothing here."""
        if await request.body():
            raise NotImplementedHere("an ACL in the body is not implemented; send the header x-cos-acl")
        await self._buckets.set_acl(request.bucket, storage.read_acl(request.headers))
        return replies.empty(request)

    async def delete_objects(self, request: Request) -> web.StreamResponse:
        keys, is_quiet = storage.read_deletion(await request.body(_MAX_DELETION_BYTES))
        refused = [(key, error.code, error.message) for key in keys if (error := _refusal(request, key))]
        bad = {key for key, _, _ in refused}
        deleted = [key for key in keys if key not in bad]
        refused += await self._objects.delete_objects(request.bucket, deleted)
        bad = {key for key, _, _ in refused}
        deleted = [key for key in deleted if key not in bad]
        return replies.node(request, storage.deletion(() if is_quiet else deleted, refused))


def _refusal(request: Request, key: str) -> RequestError | None:
    try:
        check_key(key)
        request.check(Action.DELETE_OBJECTS, key)
    except RequestError as exc:
        return exc
    return None
