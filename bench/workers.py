"""PostgreSQL: jobs of 200 ms through one worker process and through four, eight slots each.

python -m bench.workers
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench import load
from bench.noop import bench_server
from bench.report import Row, show
from tests.support.postgres import OwnPostgres, fresh_database

from cloudfinite.testing import Server

ROUNDS = 3
SLOTS = 8
SLEEP_MS = 200
JOBS_PER_WORKER = 400
_WARM_UP = 64


async def _rate(front: Server, jobs: int) -> float:
    """Callbacks per second, from the first one on: the time before it is the start's."""
    async with load.receiving() as receiver, load.session(16) as client:
        await load.put_input(front, client)
        await load.submit_many(front, client, _WARM_UP, 16, lambda _: f"{receiver.url}/", sleep_ms=SLEEP_MS)
        await receiver.wait_for(_WARM_UP, 60)
        started = time.monotonic()
        await load.submit_many(front, client, jobs, 16, lambda _: f"{receiver.url}/", sleep_ms=SLEEP_MS)
        await receiver.wait_for(_WARM_UP + jobs, 300)
        return jobs / (time.monotonic() - started)


def rate(url: str, workers: int) -> float:
    """`workers` processes of role worker beside one that answers and delivers."""
    with tempfile.TemporaryDirectory(prefix="bench-workers-") as folder, fresh_database(url) as database:
        shared = {"data": Path(folder), "database": database, "shared_objects": True}
        with ExitStack() as stack:
            front = stack.enter_context(bench_server(**shared, workers=0))
            for _ in range(workers):
                stack.enter_context(bench_server(**shared, role="worker", workers=SLOTS))
            return asyncio.run(_rate(front, JOBS_PER_WORKER * workers))


def measure() -> list[Row]:
    postgres = OwnPostgres()
    try:
        rates: dict[int, list[float]] = {1: [], 4: []}
        for number in range(ROUNDS):
            for workers in (1, 4) if number % 2 == 0 else (4, 1):
                rates[workers].append(rate(postgres.url, workers))
    finally:
        postgres.remove()
    one, four = (statistics.median(rates[workers]) for workers in (1, 4))
    note = (
        f"{one:.0f} and {four:.0f} jobs/s; at most {SLOTS * 1000 / SLEEP_MS:.0f} and {4 * SLOTS * 1000 / SLEEP_MS:.0f}"
    )
    return [Row(f"PostgreSQL, {SLEEP_MS}-ms jobs, {SLOTS} slots: 4 workers ÷ 1", four / one, "", least=3.6, note=note)]


if __name__ == "__main__":
    show(measure(), Path("bench-out/workers.json"), "python -m bench.workers")
