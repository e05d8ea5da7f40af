"""The engines that the OCR benchmark compares, each alive in a process of its own, pinned to a core."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STOCK = "stock"


@dataclass(frozen=True)
class PageRead:
    """One page as an engine read it; seconds include decoding the file and the programs that it started."""

    lines: list[str]
    boxes: list[list[float]]
    cpu_s: float
    wall_s: float
    rss_bytes: int
    data_bytes: int


def pinned(engine: str, cores: list[int]) -> ProcessPoolExecutor:
    """A process per core with the engine: "stock" is rapidocr as it comes, on OpenVINO, else a Type of ours."""
    context = multiprocessing.get_context("spawn")
    numbers = context.Queue()
    for core in cores:
        numbers.put(core)
    return ProcessPoolExecutor(len(cores), context, _load, (engine, numbers))


_read: Callable[[Any], tuple[list[str], list[list[float]]]]


def _load(engine: str, cores: Any) -> None:
    global _read
    os.sched_setaffinity(0, {cores.get()})
    _read = _stock() if engine == STOCK else _ours(engine)


def _stock() -> Callable[[Any], tuple[list[str], list[list[float]]]]:
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how import is refused
    import cv2
    import numpy as np
    from rapidocr import RapidOCR
    from rapidocr.utils.typings import EngineType

    cv2.setNumThreads(1)
    engine = RapidOCR(
        params={
            **{f"{part}.engine_type": EngineType.OPENVINO for part in ("Det", "Cls", "Rec")},
            "EngineConfig.openvino.inference_num_threads": 1,
            "Global.log_level": "error",
        }
    )
    engine(np.full((300, 600, 3), 255, np.uint8))

    def read(pixels: Any) -> tuple[list[str], list[list[float]]]:
        found = engine(pixels)
        if found.txts is None:
            return [], []
        return list(found.txts), [[float(value) for point in box for value in point] for box in found.boxes]

    return read


def _ours(mode: str) -> Callable[[Any], tuple[list[str], list[list[float]]]]:
    from cloudfinite.adapters.ocr_rapid import RapidEngine
    from cloudfinite.domain.ocr import OcrMode, OcrRequest, PictureLimits

    engine = RapidEngine(PictureLimits())
    engine.warm_up()

    def read(pixels: Any) -> tuple[list[str], list[list[float]]]:
        lines = engine._read_pixels(pixels, OcrRequest(mode=OcrMode(mode))).lines
        return [line.text for line in lines], [[value for point in line.corners for value in point] for line in lines]

    return read


def read_page(path: str, page: int) -> PageRead:
    """In the pinned process: decode and read."""
    from cloudfinite.adapters.pictures import load_picture
    from cloudfinite.domain.ocr import PictureLimits

    cpu, wall = _cpu_s(), time.monotonic()
    lines, boxes = _read(load_picture(Path(path), PictureLimits(size_bytes=2**30), pdf_page=page).pixels)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    data = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    return PageRead(lines, boxes, _cpu_s() - cpu, time.monotonic() - wall, rss, data)


def _cpu_s() -> float:
    return sum(os.times()[:4])
