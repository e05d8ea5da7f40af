"""Memory over many jobs: the server's and its children's in the last quarter of a long run, against the second.

python -m bench.soak [--no-op 200000] [--ocr 2000]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import statistics
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
from bench import load
from bench.noop import CONNECTIONS, bench_server
from bench.report import Row, show
from PIL import Image, ImageDraw, ImageFont

from cloudfinite.testing import Server

_SAMPLE_S = 1.0
_WAIT_S = 4 * 3600.0
_CHUNK = 2_000  # jobs submitted before the first of them must have been told: the queue stays short
PAGE_SIZES = ((640, 480), (1240, 1754), (1000, 1400), (1600, 900), (800, 2400))


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _sampled(server: Server, work: Awaitable[None]) -> dict[str, list[float]]:
    """MB of the server, and of all its children, once a second until `work` is done."""
    assert server.process is not None
    pid = server.process.pid
    samples: dict[str, list[float]] = {"server": [], "children": []}

    async def look() -> None:
        while True:
            samples["server"].append(load.rss_bytes(pid) / 1e6)
            samples["children"].append(sum(map(load.rss_bytes, _children(pid))) / 1e6)
            await asyncio.sleep(_SAMPLE_S)

    looking = asyncio.create_task(look())
    try:
        await work
    finally:
        looking.cancel()
    return samples


async def _no_op(server: Server, jobs: int) -> dict[str, list[float]]:
    async with load.receiving() as receiver, load.session(CONNECTIONS) as client:
        await load.put_input(server, client)

        async def work() -> None:
            for start in range(0, jobs, _CHUNK):
                count = min(_CHUNK, jobs - start)
                await load.submit_many(server, client, count, CONNECTIONS, lambda _: f"{receiver.url}/")
                await receiver.wait_for(max(0, start + count - _CHUNK), _WAIT_S)
            await receiver.wait_for(jobs, _WAIT_S)

        return await _sampled(server, work())


async def _ocr(server: Server, jobs: int) -> dict[str, list[float]]:
    async with load.receiving() as receiver, load.session(4) as client:
        for number, size in enumerate(PAGE_SIZES):
            await _put(server, client, f"page-{number}.png", _page(*size))

        async def work() -> None:
            for number in range(jobs):
                body = _ocr_submission(f"page-{number % len(PAGE_SIZES)}.png", f"{receiver.url}/")
                headers = load.signed_headers("POST", "/jobs", body)
                async with client.post(f"{server.url}/jobs", data=body, headers=headers) as answer:
                    answer.raise_for_status()
            await receiver.wait_for(jobs, _WAIT_S)

        return await _sampled(server, work())


def _page(width: int, height: int) -> bytes:
    page = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(24)
    for row in range(height // 60):
        draw.text((20, 20 + 60 * row), f"line {row} of a page {width} wide", "black", font)
    data = io.BytesIO()
    page.save(data, "PNG")
    return data.getvalue()


async def _put(server: Server, client: aiohttp.ClientSession, key: str, data: bytes) -> None:
    host = f"{Server.bucket}.cos.{Server.region}.myqcloud.com"
    headers = load.signed_headers("PUT", f"/{key}", data, host=host)
    async with client.put(f"{server.url}/{key}", data=data, headers=headers) as answer:
        answer.raise_for_status()


def _ocr_submission(key: str, callback: str) -> bytes:
    return (
        f"<Request><Tag>ImageOCR</Tag><Input><Object>{key}</Object></Input><Operation><ImageOCR><Type>general</Type>"
        f"</ImageOCR></Operation><CallBack>{callback}</CallBack></Request>"
    ).encode()


def _growth(name: str, samples: dict[str, list[float]]) -> list[Row]:
    found = []
    for process, values in samples.items():
        quarter = len(values) // 4
        second, last = statistics.mean(values[quarter : 2 * quarter]), statistics.mean(values[-quarter:])
        note = f"{second:.0f} MB > {last:.0f} MB, {len(values)} samples"
        found.append(Row(f"{name}: RSS of {process}, last quarter ÷ second", last / second, "", most=1.05, note=note))
    return found


def _run(name: str, server: Server, work: Callable[[Server], Coroutine[Any, Any, dict[str, list[float]]]]) -> list[Row]:
    with server:
        return _growth(name, asyncio.run(work(server)))


def measure(*, no_op: int = 200_000, ocr: int = 2_000) -> list[Row]:
    found = []
    if no_op:
        found += _run(f"{no_op:,} no-op jobs", bench_server(), lambda server: _no_op(server, no_op))
    if ocr:
        found += _run(f"{ocr:,} OCR jobs, five sizes", Server(log_level="warning"), lambda server: _ocr(server, ocr))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-op", type=int, default=200_000)
    parser.add_argument("--ocr", type=int, default=2_000)
    arguments = parser.parse_args()
    rows = measure(no_op=arguments.no_op, ocr=arguments.ocr)
    show(rows, Path("bench-out/soak.json"), "python -m bench.soak")


if __name__ == "__main__":
    main()
