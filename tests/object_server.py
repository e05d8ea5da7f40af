"""The real object calls behind the real edge, on a store of the test's choice; and a client that signs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.edge_harness import BUCKET, COS_HOST, TOKEN, FixedKeys, Harness, Reply

from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.domain.cors import LOCAL_PAGES
from cloudfinite.ports import Storage, Store
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.object_files import ObjectFiles
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.openings import OpeningService
from cloudfinite.service.queues import QueueLimits
from cloudfinite.service.uploads import UploadService
from cloudfinite.web.access import Keys
from cloudfinite.web.buckets import BucketHandlers
from cloudfinite.web.cors import CrossOrigin
from cloudfinite.web.forms import FormHandlers
from cloudfinite.web.objects import ObjectHandlers
from cloudfinite.web.openings import OpeningHandlers
from cloudfinite.web.routes import Handlers, Router
from cloudfinite.web.server import EdgeConfig
from cloudfinite.web.uploads import UploadHandlers

LIMIT_BYTES = 8 << 20
SERVICE_HOST = "service.cos.myqcloud.com"


@dataclass
class ObjectServer(Harness):
    """An edge with the object calls alone."""

    objects: ObjectService | None = None
    uploads: UploadService | None = None
    buckets: BucketService | None = None
    openings: OpeningService | None = None
    cors: CrossOrigin | None = None

    def router(self) -> Router:
        assert self.objects and self.uploads and self.buckets and self.openings
        served: dict[str, Any] = {
            "objects": ObjectHandlers(self.objects),
            "uploads": UploadHandlers(self.uploads, self.objects, self.buckets),
            "buckets": BucketHandlers(self.buckets, self.objects),
            "openings": OpeningHandlers(self.openings),
            "cors": self.cors,
            "forms": FormHandlers(self.objects, self.keys, self.clock),
        }
        return Router(Handlers(**{**self.groups(), **served}), self.facts)

    async def ask(
        self,
        method: str,
        key: str = "",
        body: bytes = b"",
        *,
        query: str = "",
        headers: dict[str, str] | None = None,
        host: str = COS_HOST,
    ) -> Reply:
        """One signed request for a key, or without one for the bucket."""
        target = "/" + quote(key, safe="/") + (f"?{query}" if query else "")
        client = await self.connect()
        try:
            client.send(self.request_bytes(method, target, host, "/" + key, body, headers))
            return await client.reply(has_body=method != "HEAD")
        finally:
            await client.close()


@asynccontextmanager
async def running_object_server(
    store: Store,
    folder: Path,
    *,
    limit_bytes: int = LIMIT_BYTES,
    keys: Keys | None = None,
    storages: Mapping[str, Storage] | None = None,
) -> AsyncIterator[ObjectServer]:
    """`storages` keep the buckets that they are named after, BUCKET among them or not."""
    local = LocalObjects(folder)
    files = ObjectFiles(store, local, storages or {}, limit_bytes=limit_bytes)
    server = ObjectServer(
        objects=ObjectService(files, retain_s=0),
        uploads=UploadService(files),
        buckets=BucketService(store),
        openings=OpeningService(store, QueueLimits()),
        keys=keys or FixedKeys(),
    )
    assert server.buckets
    server.cors = CrossOrigin(server.buckets, (LOCAL_PAGES,))
    server.let_read = server.cors.let_read
    for bucket in {BUCKET, *(storages or {})}:
        await server.buckets.ensure_bucket(bucket, "ap-chongqing")
    await server.start(EdgeConfig(default_bucket=BUCKET, admin_token=TOKEN))
    try:
        yield server
    finally:
        for client in server.clients:
            await client.close()
        await server.edge.close(0.1)
        local.close()
