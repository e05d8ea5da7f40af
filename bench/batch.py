"""A batch over many objects: jobs made per second, memory, and how long a client's submit waits meanwhile.

python -m bench.batch [--objects 100000]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.load import quantile
from bench.report import Row, show

from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.adapters.store import SqliteStore
from cloudfinite.domain.batch import BatchInput, BatchKind, BatchRequest
from cloudfinite.domain.job import JobInput, JobRequest
from cloudfinite.domain.objects import Bucket, StoredObject
from cloudfinite.operations import operations
from cloudfinite.ports import Transaction
from cloudfinite.service.batch_runner import BatchRunner
from cloudfinite.service.batches import BatchService
from cloudfinite.service.jobs import submit_jobs
from cloudfinite.service.object_files import ObjectFiles
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.queues import QueueLimits

BUCKET = "bench-1250000000"
AT = datetime(2026, 1, 1, tzinfo=UTC)
OPERATION = (
    "<Operation><Tag>FileHashCode</Tag><JobParam><FileHashCodeConfig><Type>MD5</Type></FileHashCodeConfig></JobParam>"
    "</Operation>"
)
LIMITS = QueueLimits(max_size=10_000_000)
REQUEST = JobRequest("FileHashCode", JobInput("0"), {"type": "MD5", "add_to_header": False})
SUBMIT_GAP_S = 0.02


def add_objects(tx: Transaction, numbers: range) -> None:
    tx.buckets.ensure(Bucket(BUCKET, "ap-x", AT))
    for number in numbers:
        tx.objects.put(StoredObject(BUCKET, f"in/{number:08d}", f"{number:032d}", 1, '"e"', 0, AT))


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def run_batch(objects: int, folder: Path) -> list[Row]:
    store = SqliteStore(folder / "store.db")
    files = LocalObjects(folder / "objects")
    try:
        for start in range(0, objects, 2_000):
            await store.run(add_objects, range(start, min(objects, start + 2_000)))
        known = operations()
        service = BatchService(store, known, LIMITS, lambda url: None, lambda: None)
        wanted = BatchRequest("bench", BatchKind.JOB, BatchInput(prefix="in/"), OPERATION)
        batch = await service.create_batch(BUCKET, wanted)
        runner = BatchRunner(
            store, ObjectService(ObjectFiles(store, files)), known, LIMITS, "bench", timedelta(seconds=10),
            timedelta(seconds=1), lambda made: None,
        )  # fmt: skip
        waits: list[float] = []
        submitting = asyncio.create_task(submit_beside(store, waits))
        started = time.perf_counter()
        started_mb, half_mb = rss_mb(), 0.0
        while not (batch := await service.find_batch(BUCKET, batch.id)).state.is_final:
            await runner.advance_all()
            if not half_mb and batch.counts.found >= objects // 2:
                half_mb = rss_mb()
        took_s = time.perf_counter() - started
        submitting.cancel()
        assert batch.counts.started == objects, batch
        return [
            Row("batch: jobs made", objects / took_s, "jobs/s", note=f"{objects:,} objects in {took_s:.0f} s"),
            # 64 MB are the database's page cache, which a batch of 100,000 fills and a larger one does not exceed.
            Row("batch: memory that it adds", rss_mb() - started_mb, "MB", most=96),
            Row("batch: memory that its second half adds", rss_mb() - half_mb, "MB"),
            Row("a client's submit beside it, p50", quantile(waits, 0.5) * 1e3, "ms"),
            Row("a client's submit beside it, p99", quantile(waits, 0.99) * 1e3, "ms", most=200),
        ]
    finally:
        await store.close()
        files.close()


async def submit_beside(store: SqliteStore, waits: list[float]) -> None:
    """One client that submits single jobs, in the transactions of the server."""
    while True:
        started = time.perf_counter()
        await store.run(submit_jobs, BUCKET, [REQUEST], operations(), LIMITS)
        waits.append(time.perf_counter() - started)
        await asyncio.sleep(SUBMIT_GAP_S)


def measure(*, objects: int = 100_000) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="cloudfinite-bench-") as folder:
        return asyncio.run(run_batch(objects, Path(folder)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000)
    arguments = parser.parse_args()
    show(measure(objects=arguments.objects), Path("bench-out/batch.json"), "python -m bench.batch")


if __name__ == "__main__":
    main()
