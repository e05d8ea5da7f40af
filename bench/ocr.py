"""OCR: accuracy and speed against stock rapidocr, and the whole pipeline against bare engines.

python -m bench.ocr --data FOLDER [--types general,fast] [--rounds 2] [--every 6]

FOLDER holds groundtruth.jsonl and score.py (`load`, `evaluate`), as CLOUDFINITE_BENCH_OCR may name it, too; without one
there is nothing to measure. Each engine reads all pages, a few at a time in turns with the others, all on one core. In
the first round all shapes of pages are new to it, in the later ones it has seen them; the bar is for the worse of both.
Judged by CPU time, decoding and started programs included: each has one thread, so nothing hides but waiting, and
other work on the machine disturbs least. The ratio by wall time stands in the note.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
from bench import load
from bench.ocr_engines import STOCK, PageRead, pinned, read_page
from bench.report import Row, show

from cloudfinite.receiver import parse_callback
from cloudfinite.testing import Server

MOST_LOSS = 0.01
PIPELINE_LEAST = 0.97
PIPELINE_ROUNDS = 2
SPEED_LEAST = {"general": 1.0, "fast": 1.6}
PAGES_A_TURN = 24  # So many that an engine is back in its stride, so few that a busy minute falls on all of them.


class GroundTruth:
    """The pages of the data folder and its scorer."""

    def __init__(self, folder: Path) -> None:
        spec = importlib.util.spec_from_file_location("bench_ocr_score", folder / "score.py")
        assert spec is not None and spec.loader is not None
        self._score: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self._score)
        self.folder = folder
        self.rows: list[dict[str, Any]] = self._score.load(folder / "groundtruth.jsonl")

    def pages(self, every: int = 1) -> list[tuple[str, int]]:
        return [(row["file"], row.get("page") or 1) for row in self.rows[::every]]

    def score(self, read: dict[tuple[str, int], tuple[list[str], list[list[float]]]]) -> dict[str, dict[str, Any]]:
        """Per class and in all; boxes of PDF pages are not compared, as there are none in the ground truth."""
        predictions = [
            {"file": file, "page": page, "lines": lines} | ({} if file.endswith(".pdf") else {"boxes": boxes})
            for (file, page), (lines, boxes) in read.items()
        ]
        return dict(self._score.evaluate(self.rows, predictions)[0])


def compare_engines(truth: GroundTruth, types: Sequence[str], rounds: int) -> Iterator[Row]:
    """Accuracy and speed of each engine on all pages."""
    core = sorted(os.sched_getaffinity(0))[-1:]
    engines = {name: pinned(name, core) for name in (STOCK, *types)}
    try:
        taken = [_read_in_turns(truth, engines) for _ in range(rounds)]
    finally:
        for engine in engines.values():
            engine.shutdown()
    first = taken[0]
    scores = {name: truth.score({key: (p.lines, p.boxes) for key, p in got.items()}) for name, got in first.items()}
    for name in types:
        yield from _accuracy_rows(name, scores[name], scores[STOCK])
    for name in engines:
        yield from _speed_rows(name, taken)


def _read_in_turns(
    truth: GroundTruth, engines: dict[str, ProcessPoolExecutor]
) -> dict[str, dict[tuple[str, int], PageRead]]:
    """One round; in each turn another engine begins."""
    pages, names = truth.pages(), list(engines)
    read: dict[str, dict[tuple[str, int], PageRead]] = {name: {} for name in names}
    for turn, start in enumerate(range(0, len(pages), PAGES_A_TURN)):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            read[name] |= _read_all(truth, engines[name], pages[start : start + PAGES_A_TURN])
    return read


def _read_all(
    truth: GroundTruth, engine: ProcessPoolExecutor, pages: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], PageRead]:
    tasks = {key: engine.submit(read_page, str(truth.folder / key[0]), key[1]) for key in pages}
    return {key: task.result() for key, task in tasks.items()}


def _accuracy_rows(name: str, scores: dict[str, dict[str, Any]], stock: dict[str, dict[str, Any]]) -> Iterator[Row]:
    bars: dict[str, float] = {"general": 0.955, "fast": 0.935}
    total = scores["ALL"]
    yield Row(f"{name}: word F1 of all pages", total["wordF1"], least=bars.get(name), note=_stock(stock["ALL"]))
    yield Row(f"{name}: CER of all pages", total["CER"], most=0.045 if name == "general" else None)
    for group in sorted(set(scores) - {"ALL"}):
        own, other = scores[group]["wordF1"], stock[group]["wordF1"]
        if own is None or other is None:
            continue
        least = other - MOST_LOSS if name == "general" else None
        yield Row(f"{name}: word F1 of {group}", own, least=least, note=_stock(stock[group]))


def _stock(score: dict[str, Any]) -> str:
    error = "" if score["CER"] is None else f", CER {score['CER']:.3f}"
    return f"stock {score['wordF1']:.3f}{error}"


def _speed_rows(name: str, taken: Sequence[dict[str, dict[tuple[str, int], PageRead]]]) -> Iterator[Row]:
    own, stock = [_seconds(one[name]) for one in taken], [_seconds(one[STOCK]) for one in taken]
    pages, usual = len(taken[0][name]), own[1:] or own
    note = f"all {pages} pages, by CPU time; shapes new {pages / own[0][0]:.3g}"
    yield Row(f"{name}: pages a second, one core", pages / statistics.median(cpu for cpu, _ in usual), "/s", note=note)
    if name != STOCK:
        by_cpu = [other[0] / mine[0] for mine, other in zip(own, stock, strict=True)]
        by_wall = [other[1] / mine[1] for mine, other in zip(own, stock, strict=True)]
        again = statistics.median(by_cpu[1:] or by_cpu)
        note = (
            f"{len(taken)} rounds of all pages, {PAGES_A_TURN} pages a turn, one core, CPU time; shapes new "
            f"{by_cpu[0]:.2f}, pages seen before {again:.2f}; by wall time {by_wall[0]:.2f}, "
            f"{statistics.median(by_wall[1:] or by_wall):.2f}"
        )
        yield Row(f"{name}: speed ÷ stock", min(by_cpu[0], again), "×", least=SPEED_LEAST.get(name), note=note)
    yield Row(f"{name}: peak RSS of one process", max(p.rss_bytes for p in taken[-1][name].values()) / 1e6, "MB")
    data = max(p.data_bytes for p in taken[-1][name].values())
    yield Row(f"{name}: data segment of one process", data / 2**30, "GiB", note="what a child's memory limit counts")


def _seconds(read: dict[tuple[str, int], PageRead]) -> tuple[float, float]:
    """CPU and wall time of a round."""
    return sum(page.cpu_s for page in read.values()), sum(page.wall_s for page in read.values())


# --- the pipeline ---------------------------------------------------------------------------------------------------


async def compare_pipeline(truth: GroundTruth, every: int) -> list[Row]:
    """Jobs from submit to callback received, against the same engine and files in as many pinned processes."""
    pages = truth.pages(every)
    cores = sorted(os.sched_getaffinity(0))
    bare = pinned("general", cores)
    through, alone, shares = [], [], []
    with Server(workers=len(cores), start_wait_s=120, log_level="warning", input_limit_bytes=2**27) as server:
        async with load.session(32) as client:
            await _put_files(truth, server, client)
            for _ in range(PIPELINE_ROUNDS + 1):  # The first one warms both up.
                started, cpu = time.monotonic(), _server_cpu(server)
                callbacks = await _run_jobs(server, client, pages)
                through.append(time.monotonic() - started)
                shares.append((_server_cpu(server) - cpu) / (through[-1] * len(cores)))
                started = time.monotonic()
                await asyncio.to_thread(_read_all, truth, bare, pages)
                alone.append(time.monotonic() - started)
            scores = truth.score(await _read_jobs(server, client, truth.pages()))["ALL"]
        assert server.process is not None
        rss = load.rss_bytes(server.process.pid)
    bare.shutdown()
    ratio = statistics.median(a / t for a, t in zip(alone[1:], through[1:], strict=True))
    note = f"{len(pages)} pages, {len(cores)} processes, {callbacks} callbacks a round"
    return [
        Row("pipeline: pages a second", len(pages) / statistics.median(through[1:]), "/s", note=note),
        Row("pipeline ÷ bare engines", ratio, "×", least=PIPELINE_LEAST),
        Row("pipeline: the server's share of all CPU", statistics.median(shares[1:]) * 100, "%", most=3),
        Row("pipeline: word F1 of the callbacks", scores["wordF1"], least=0.955),
        Row("pipeline: CER of the callbacks", scores["CER"], most=0.045),
        Row("pipeline: RSS of the server", rss / 1e6, "MB"),
    ]


def _server_cpu(server: Server) -> float:
    assert server.process is not None
    return load.cpu_s(server.process.pid)


async def _put_files(truth: GroundTruth, server: Server, client: aiohttp.ClientSession) -> None:
    host = f"{Server.bucket}.cos.{Server.region}.myqcloud.com"
    for file in sorted({file for file, _ in truth.pages()}):
        body = (truth.folder / file).read_bytes()
        headers = load.signed_headers("PUT", f"/{file}", body, host=host)
        async with client.put(f"{server.url}/{file}", data=body, headers=headers) as answer:
            answer.raise_for_status()


async def _run_jobs(server: Server, client: aiohttp.ClientSession, pages: Sequence[tuple[str, int]]) -> int:
    async with load.receiving() as receiver:
        await asyncio.gather(*(_submit(server, client, page, receiver.url) for page in pages))
        await receiver.wait_for(len(pages), 900)
        return len(receiver.arrived_ns)


async def _read_jobs(
    server: Server, client: aiohttp.ClientSession, pages: Sequence[tuple[str, int]]
) -> dict[tuple[str, int], tuple[list[str], list[list[float]]]]:
    """What the callbacks say of each page, told apart by UserData."""
    async with load.receiving(keeps_bodies=True) as receiver:
        await asyncio.gather(*(_submit(server, client, page, receiver.url) for page in pages))
        await receiver.wait_for(len(pages), 900)
        read: dict[tuple[str, int], tuple[list[str], list[list[float]]]] = {}
        for body in receiver.bodies:
            for job in parse_callback(body).jobs:
                lines = job.detection.lines if job.detection else ()
                boxes = [[float(v) for corner in line.corners for v in (corner.x, corner.y)] for line in lines]
                read[job.object_key, int(job.user_data)] = [line.text for line in lines], boxes
        return read


async def _submit(server: Server, client: aiohttp.ClientSession, page: tuple[str, int], callback: str) -> None:
    file, number = page
    body = (
        f"<Request><Tag>ImageOCR</Tag><Input><Object>{file}</Object></Input><Operation><ImageOCR><Type>general</Type>"
        f"<IsPdf>true</IsPdf><PdfPageNumber>{number}</PdfPageNumber></ImageOCR><UserData>{number}</UserData>"
        f"</Operation><CallBack>{callback}/</CallBack></Request>"
    ).encode()
    headers = load.signed_headers("POST", "/jobs", body)
    async with client.post(f"{server.url}/jobs", data=body, headers=headers) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {(await answer.read())[:300]!r}")


def measure(
    *, data: Path | None = None, types: Sequence[str] = ("general", "fast"), rounds: int = 2, every: int = 6
) -> list[Row]:
    """All rows; none when there is no data. every: the pipeline's speed is measured on every so-many-th page."""
    folder = data or (Path(named) if (named := os.environ.get("CLOUDFINITE_BENCH_OCR")) else None)
    if folder is None:
        print("bench.ocr: no data; name its folder with CLOUDFINITE_BENCH_OCR or --data")
        return []
    truth = GroundTruth(folder)
    return [
        *compare_engines(truth, types, rounds),
        *(asyncio.run(compare_pipeline(truth, every)) if every else ()),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--types", default="general,fast")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--every", type=int, default=6, help="the pipeline is timed on every so-many-th page; 0: not")
    parser.add_argument("--out", type=Path, default=Path("bench-out/ocr.json"))
    given = parser.parse_args()
    rows = measure(data=given.data, types=given.types.split(","), rounds=given.rounds, every=given.every)
    show(rows, given.out, "python -m bench.ocr")


if __name__ == "__main__":
    main()
