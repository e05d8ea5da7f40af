"""Objects that operations make: a child writes a file of ours, its bytes are stored, the job's end makes the object.

The object's row and its event are part of the transaction that ends the job: a run that lost its lease makes nothing,
a job repeated after a crash makes the object once, and whoever sees Success finds it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from cloudfinite.domain.job import JobOutput
from cloudfinite.domain.objects import StoredObject
from cloudfinite.errors import OutputFailed, OutputRefused, RequestError
from cloudfinite.service.object_files import Body
from cloudfinite.service.objects import ObjectService
from cloudfinite.wire.operation import OutputFile

_CHUNK_BYTES = 1 << 20


class Outputs:
    """Gives operations their files to write, in the folder `scratch`."""

    def __init__(self, objects: ObjectService, scratch: Path) -> None:
        self._objects = objects
        self._scratch = scratch

    @asynccontextmanager
    async def opened(self, wanted: JobOutput | None) -> AsyncIterator[OutputFile | None]:
        """The file to write for `wanted`, gone behind the block; None for None."""
        if wanted is None:
            yield None
            return
        self._scratch.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="output-", dir=self._scratch)
        os.close(handle)
        try:
            yield OutputFile(Path(name), wanted.bucket, wanted.region, wanted.key)
        finally:
            Path(name).unlink(missing_ok=True)

    async def store(self, file: OutputFile, content_type: str) -> StoredObject:
        """Store what was written. Raises OutputRefused (the bucket is gone), OutputFailed (no room for it)."""
        body = Body(_chunks(file.path))
        try:
            return await self._objects.write_object(file.bucket, file.key, body, {"Content-Type": content_type})
        except RequestError as exc:
            raise (OutputFailed if exc.status >= 500 else OutputRefused)(exc.message) from exc

    async def discard(self, items: Sequence[StoredObject]) -> None:
        """Remove what was stored for jobs that have not ended by it."""
        await self._objects.discard_written(items)

    def tell_made(self) -> None:
        """Call when ends of jobs that make objects are durable."""
        self._objects.tell_created()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
