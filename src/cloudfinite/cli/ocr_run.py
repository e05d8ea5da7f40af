"""Reads files with the OCR engine in child processes, in order, without a server.

Files are decoded in children only, so that a broken or hostile one costs its own result and nothing else.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, ImageDraw

from cloudfinite.adapters.pool import ChildLimits, ChildPool, usable_cores
from cloudfinite.domain.ocr import PictureLimits
from cloudfinite.errors import JobFailed, SetupError, UnreadableInput
from cloudfinite.operations import operations
from cloudfinite.operations.image_ocr import Detection, OcrParams
from cloudfinite.ports import EngineSpec, Task

TAG = "ImageOCR"
INPUT_LIMIT_BYTES = 256 * 1024 * 1024  # Files of one's own: the vendor's limit is for uploads.
PREVIEW_MODULE, PREVIEW_TAG = "cloudfinite.child_preview", "-preview"
_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".pdf", ".webp", ".tif", ".tiff", ".gif"})
_BOX_COLOUR = (220, 30, 30)
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Input:
    """A file to read, called `name` in what is printed."""

    name: str
    path: Path
    is_pdf: bool


@dataclass(frozen=True, slots=True)
class PageResult:
    """What became of one page (0: the file has none): `detection`, or why there is none."""

    source: Input
    page: int = 0
    detection: Detection | None = None
    boxes: Path | None = None
    failure: str = ""

    @property
    def title(self) -> str:
        return f"{self.source.name}, page {self.page}" if self.page else self.source.name


def parse_pages(text: str) -> list[tuple[int, int | None]]:
    """`2`, `1-3`, `4-`, also several with commas: first and last page, None to the end. Raises ValueError."""
    ranges = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,6})(?:(-)(\d{1,6})?)?\s*", part)
        first = int(found[1]) if found else 0
        last = int(found[3]) if found and found[3] else None if found and found[2] else first
        if first < 1 or (last is not None and last < first):
            raise ValueError(f"{text!r} is no page range; write 2, 1-3, 4- or 1,3-5")
        ranges.append((first, last))
    return ranges


def wanted_pages(ranges: Sequence[tuple[int, int | None]], total: int) -> list[int]:
    """The pages of a document of `total` pages that are in the ranges, in their order."""
    return [page for first, last in ranges for page in range(first, min(last or total, total) + 1)]


def find_inputs(names: Sequence[str], stdin: BinaryIO, scratch: Path) -> list[Input]:
    """Files as given, those of folders by the endings of their names, and `-`. Raises SetupError for a missing one."""
    found: list[Input] = []
    for name in names:
        if name == "-":
            found.append(_input("-", _keep_stdin(stdin, scratch / "stdin")))
        elif (path := Path(name)).is_dir():
            files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
            found += [_input(str(file), file) for file in files]
        elif path.is_file():
            found.append(_input(name, path))
        else:
            raise SetupError(f"there is no file or folder {name!r}")
    return found


def _input(name: str, path: Path) -> Input:
    try:
        with path.open("rb") as file:
            return Input(name, path, is_pdf=b"%PDF-" in file.read(1024))
    except OSError as exc:
        raise SetupError(f"{name!r} cannot be read: {exc.strerror}") from exc


def _keep_stdin(stdin: BinaryIO, target: Path) -> Path:
    size = 0
    with target.open("wb") as file:
        while chunk := stdin.read(_CHUNK_BYTES):
            size += len(chunk)
            if size > INPUT_LIMIT_BYTES:
                raise UnreadableInput(f"standard input has more than the {INPUT_LIMIT_BYTES} bytes that are allowed")
            file.write(chunk)
    return target


class Reader:
    """Reads inputs with `params` in a child process per core.

    boxes: a PNG to draw the outlines to; of several pages each gets a file of its own (`out-1.png` …). on_input: called
    after each input.
    """

    def __init__(
        self,
        engine: EngineSpec,
        params: OcrParams,
        *,
        pages: Sequence[tuple[int, int | None]] = ((1, None),),
        boxes: Path | None = None,
        limits: ChildLimits | None = None,
        on_input: Callable[[], None] = lambda: None,
    ) -> None:
        self._boxes, self._number, self._has_many = boxes, count(1), False
        self._engine = replace(engine, limits=replace(engine.limits, size_bytes=INPUT_LIMIT_BYTES))
        self._params, self._pages, self._limits, self._on_input = params, pages, limits, on_input
        self._operation = operations()[TAG]

    async def read(self, inputs: Sequence[Input]) -> AsyncIterator[list[PageResult]]:
        """The pages of each input, in order. Raises SetupError when no child can load the engine."""
        is_one_picture = len(inputs) == 1 and not inputs[0].is_pdf
        self._has_many = not is_one_picture
        size = 1 if is_one_picture else max(1, len(usable_cores()) or os.cpu_count() or 1)
        pool = ChildPool(size, self._engine, modules=[PREVIEW_MODULE], limits=self._limits)
        await pool.start()
        waiting = deque(inputs)
        running: deque[asyncio.Task[list[PageResult]]] = deque()
        try:
            await _wait_ready(pool)
            while waiting or running:
                # No more at once than keeps the children busy: a folder may have a million files.
                while waiting and len(running) < 2 * size:
                    running.append(asyncio.create_task(self._read_input(pool, waiting.popleft())))
                results = await running.popleft()
                self._on_input()
                yield results
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await pool.close()

    async def _read_input(self, pool: ChildPool, source: Input) -> list[PageResult]:
        if not source.is_pdf:
            return [await self._read_page(pool, source, 0)]
        first = await self._read_page(pool, source, self._pages[0][0])
        # Its first page tells how many a document has.
        others = wanted_pages(self._pages, first.detection.pdf_page_count)[1:] if first.detection else []
        return [first, *await asyncio.gather(*(self._read_page(pool, source, page) for page in others))]

    async def _read_page(self, pool: ChildPool, source: Input, page: int) -> PageResult:
        params = replace(self._params, is_pdf=source.is_pdf, pdf_page_number=page or None)
        boxes = self._boxes_file()
        try:
            data = await self._run(pool, TAG, self._operation.params_data(params), source)
            detection: Detection = self._operation.result_value(data)
            if boxes:
                drawing = {"target": str(boxes.absolute()), "pdf_page": page or 1, "side_px": PictureLimits().side_px}
                await self._run(pool, PREVIEW_TAG, {**drawing, "limit_bytes": INPUT_LIMIT_BYTES}, source)
                await asyncio.to_thread(draw_boxes, boxes, detection)
        except JobFailed as exc:
            return PageResult(source, page, failure=exc.message)
        return PageResult(source, page, detection, boxes)

    def _boxes_file(self) -> Path | None:
        if not self._boxes or not self._has_many:
            return self._boxes
        return self._boxes.with_stem(f"{self._boxes.stem}-{next(self._number)}")

    async def _run(self, pool: ChildPool, tag: str, params: Mapping[str, Any], source: Input) -> Mapping[str, Any]:
        return await pool.run(Task(tag, params, source.path.absolute(), name=source.name, label=source.name))


async def _wait_ready(pool: ChildPool) -> None:
    idle = asyncio.create_task(pool.wait_idle())
    try:
        while not idle.done():
            await asyncio.wait([idle], timeout=0.2)
            if not idle.done() and pool.trouble:
                raise SetupError(f"the OCR engine cannot be loaded: {pool.trouble}", "Try `cloudfinite doctor`.")
    finally:
        idle.cancel()


def draw_boxes(path: Path, detection: Detection) -> None:
    """Draw the lines' outlines over the picture that is there; it was encoded by us."""
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    draw = ImageDraw.Draw(image)
    width = max(2, max(image.size) // 600)
    for line in detection.lines:
        draw.polygon([(corner.x, corner.y) for corner in line.corners], outline=_BOX_COLOUR, width=width)
    image.save(path, "PNG")
