"""The calls that open, list and close services, and bind buckets.

Wire: Cloud Infinite API documentation, "AI content recognition service", "Media bucket APIs", "Bucket configuration".
"""

from __future__ import annotations

from aiohttp import web

from cloudfinite.domain.queue import SERVICES
from cloudfinite.service.openings import OpenFilter, OpeningService
from cloudfinite.web import replies
from cloudfinite.web.request import Request
from cloudfinite.wire import openings, requests, shapes

_SERVICES = {service.bucket_path: service.name for service in SERVICES.values()}


class OpeningHandlers:
    """`/ai_bucket` and the other services' paths, and `/` of the pic host."""

    def __init__(self, service: OpeningService) -> None:
        self._openings = service

    async def open(self, request: Request) -> web.StreamResponse:
        """Wire: our choice – opening an open service answers 200 with its data: here all are open from the start."""
        await request.body()
        service = _SERVICES[request.segments[0]]
        bucket = await self._openings.open_service(request.bucket, service)
        return replies.node(request, openings.opened(request.id, bucket, service))

    async def close(self, request: Request) -> web.StreamResponse:
        bucket = await self._openings.close_service(request.bucket, _SERVICES[request.segments[0]])
        return replies.node(request, openings.closed(request.id, bucket))

    async def list(self, request: Request) -> web.StreamResponse:
        """Buckets of all regions, whatever the host names: the vendor's samples come with either form of it."""
        get = request.query.get
        service = _SERVICES[request.segments[0]]
        regions = requests.read_ids(get("regions"), "regions")
        wanted = OpenFilter(
            regions=() if "All" in regions else regions,
            names=requests.read_ids(get("bucketNames"), "bucketNames"),
            prefix=get("bucketName"),
        )
        page = requests.read_page(get)
        open_buckets = await self._openings.list_open(service, wanted)
        buckets = [bucket for bucket in open_buckets if request.grant.sees(bucket.name)]
        nodes = openings.open_buckets(page.cut(buckets), service)
        return replies.node(request, shapes.page_answer(request.id, len(buckets), page.number, page.size, nodes))

    async def bind(self, request: Request) -> web.StreamResponse:
        await request.body()
        await self._openings.bind(request.bucket, is_bound=True)
        return replies.empty(request)

    async def unbind(self, request: Request) -> web.StreamResponse:
        await request.body()
        await self._openings.bind(request.bucket, is_bound=False)
        return replies.empty(request)

    async def binding(self, request: Request) -> web.StreamResponse:
        return replies.node(request, openings.binding(await self._openings.is_bound(request.bucket)))
