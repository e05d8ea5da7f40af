"""Pictures for people to look at: an object's picture or PDF page, drawn anew by a child process."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from cloudfinite.domain.objects import StoredObject
from cloudfinite.errors import ChildDied, EngineFailed, InputMissing, NoSuchBucket, NoSuchKey, SlowDown, UnreadableInput
from cloudfinite.ports import Pool, Task
from cloudfinite.service.objects import ObjectService

CHILD_MODULE = "cloudfinite.child_preview"  # The pool's children load it; this process must not.
CHILD_TAG = "-preview"

_SIDE_PX = 1600
_MAX_PICTURE_BYTES = 16 * 1024 * 1024  # 1600 × 1600 pixels as JPEG have 3 MB at worst.
_CACHE_BYTES = 24 * 1024 * 1024
_AT_ONCE = 4  # Previews wait for the same children as jobs do.


@dataclass(frozen=True, slots=True)
class Preview:
    """An encoded picture; width_px and height_px are those of the whole picture as displayed, before it was reduced.

    etag is that of the object it was made from; page_count is of a PDF, else 0.
    """

    data: bytes
    content_type: str
    width_px: int
    height_px: int
    page_count: int
    etag: str


_Key = tuple[str, str, str, int]


class PreviewService:
    """Makes previews and keeps the last few. `limit_bytes` bounds the object, `scratch` is where children write."""

    def __init__(self, objects: ObjectService, pool: Pool, scratch: Path, limit_bytes: int) -> None:
        self._objects = objects
        self._pool = pool
        self._scratch = scratch
        self._limit_bytes = limit_bytes
        self._kept: OrderedDict[_Key, Preview] = OrderedDict()
        self._kept_bytes = 0
        self._drawing: dict[_Key, asyncio.Task[Preview]] = {}

    async def preview(self, bucket: str, key: str, page: int = 1) -> Preview:
        """The object's picture; of a PDF its page `page`, from 1.

        Raises JobFailed (InputMissing, UnreadableInput, ChildDied …) or SlowDown. A caller that gives up does not stop
        the drawing: the next one finds it done.
        """
        try:
            item = await self._objects.find_object(bucket, key)
        except (NoSuchKey, NoSuchBucket) as exc:
            raise InputMissing() from exc
        wanted: _Key = (bucket, key, item.etag, page)
        if wanted in self._kept:
            self._kept.move_to_end(wanted)
            return self._kept[wanted]
        if wanted not in self._drawing:
            self._check(item)
            self._drawing[wanted] = asyncio.create_task(self._draw(wanted, item), name=f"preview-{key[:40]}")
            self._drawing[wanted].add_done_callback(lambda task: self._drawn(wanted, task))
        return await asyncio.shield(self._drawing[wanted])

    async def close(self) -> None:
        """Give up what is being drawn."""
        tasks = list(self._drawing.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _check(self, item: StoredObject) -> None:
        # Before the pieces of a large upload are put together for nothing.
        if item.size_bytes > self._limit_bytes:
            raise UnreadableInput(f"the object has {item.size_bytes} bytes; at most {self._limit_bytes} are drawn")
        if not self._pool.size:
            raise ChildDied("this process runs no operations; look at it through one with the role all or worker")
        if len(self._drawing) >= _AT_ONCE:
            raise SlowDown(f"{len(self._drawing)} pictures are being drawn already; try again")

    async def _draw(self, wanted: _Key, item: StoredObject) -> Preview:
        bucket, key, _, page = wanted
        self._scratch.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix="preview-", dir=self._scratch)
        os.close(handle)
        target = Path(name)
        try:
            async with self._objects.opened_source(bucket, key) as source:
                params = {"target": name, "pdf_page": page, "side_px": _SIDE_PX, "limit_bytes": self._limit_bytes}
                facts = await self._pool.run(Task(CHILD_TAG, params, source.path, name=key, label=f"preview {key}"))
            if target.stat().st_size > _MAX_PICTURE_BYTES:
                raise EngineFailed(f"the preview of {key!r} has {target.stat().st_size} bytes")
            return Preview(
                await asyncio.to_thread(target.read_bytes),
                # What a child says goes into a header: one of two values, whatever it was made to say.
                "image/png" if facts["content_type"] == "image/png" else "image/jpeg",
                int(facts["width_px"]),
                int(facts["height_px"]),
                int(facts["page_count"]),
                item.etag,
            )
        except (NoSuchKey, NoSuchBucket) as exc:
            raise InputMissing() from exc
        finally:
            target.unlink(missing_ok=True)

    def _drawn(self, wanted: _Key, task: asyncio.Task[Preview]) -> None:
        del self._drawing[wanted]
        if task.cancelled() or task.exception() is not None:  # also marks the exception as seen
            return
        self._kept[wanted] = task.result()
        self._kept_bytes += len(task.result().data)
        while self._kept_bytes > _CACHE_BYTES:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= len(oldest.data)
