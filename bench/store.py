"""The store alone: claim and finish in lists of 50, against the same work by the bare driver; and figures at a million.

python -m bench.store [--rows 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.load import quantile
from bench.report import Row, show

from cloudfinite.adapters import store_deliveries, store_jobs
from cloudfinite.adapters.store import SqliteStore
from cloudfinite.domain.delivery import Delivery
from cloudfinite.domain.ids import new_job_id
from cloudfinite.domain.job import CallbackChoice, CallbackFormat, Job, JobFilter, JobInput, Lease, Outcome
from cloudfinite.domain.objects import Bucket
from cloudfinite.domain.queue import Queue
from cloudfinite.operations import load
from cloudfinite.ports import Transaction

LIST = 50
ROUNDS = 3
LISTS = 40
LEASE = timedelta(seconds=60)
BODY = b"x" * 700
NOTHING = CallbackChoice("http://127.0.0.1:9/x", CallbackFormat.XML)


def job(number: int, queue_id: str = "p1", bucket: str = "b-1") -> Job:
    at = datetime.now(UTC)
    return Job(
        new_job_id("a", at), bucket, "ap-x", "BenchNoOp", queue_id, JobInput(f"{number}"), {"sleep_ms": 0}, at,
        callback=NOTHING,
    )  # fmt: skip


def fill(tx: Transaction, jobs: list[Job]) -> None:
    at = datetime.now(UTC)
    for number, bucket in enumerate(("b-1", "b-2"), 1):
        tx.buckets.ensure(Bucket(bucket, "ap-x", at))
        tx.queues.ensure(Queue(f"p{number}", bucket, "ai", "q", at, at, max_concurrent=1_000_000))
    tx.jobs.insert(jobs)


def delivery_of(item: Job) -> Delivery:
    return Delivery(
        id=f"d{item.id}", job_id=item.id, bucket=item.bucket, url="http://127.0.0.1:9/x",
        content_type="application/xml", body=BODY, created_at=item.created_at, next_at=item.created_at,
    )  # fmt: skip


def end_jobs(tx: Transaction, leases: Sequence[Lease]) -> None:
    """What the store does at the end of jobs, without the rendering of their callbacks."""
    for lease in leases:
        tx.jobs.finish(Outcome(lease, {"started_ns": 1}))
    tx.deliveries.insert(*(delivery_of(lease.job) for lease in leases))


async def ours(folder: Path) -> float:
    store = SqliteStore(folder / "ours.db")
    await store.run(fill, [job(number) for number in range(LIST * LISTS)])
    started = time.monotonic()
    for _ in range(LISTS):
        leases, _ = await store.run(lambda tx: tx.jobs.claim("bench", LIST, LEASE, ""))
        await store.run(end_jobs, leases)
    spent = time.monotonic() - started
    await store.close()
    return LIST * LISTS / spent


def bare(folder: Path) -> float:
    """The same statements by sqlite3 alone, their rows fetched and thrown away."""
    path = folder / "bare.db"
    asyncio.run(_prepare(path))
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA cache_size = -65536")
    start = store_jobs._START.text.replace("IN :seqs", f"IN ({', '.join('?' * LIST)})")
    start = re.sub(r":(now|owner|until)", "1", start)
    started = time.monotonic()
    for _ in range(LISTS):
        db.execute("BEGIN IMMEDIATE")
        taken = db.execute(store_jobs._TAKE_READY.text, {"queue_id": "p1", "n": LIST}).fetchall()
        jobs = db.execute(start, [row[1] for row in taken]).fetchall()
        db.execute(store_jobs._ADD_WAITING.text, {"queue_id": "p1", "n": -LIST})
        db.execute("COMMIT")
        db.execute("BEGIN IMMEDIATE")
        for row in jobs:
            ended = {
                "state": "Success", "now": 1, "code": "", "message": "", "result": "{}", "source_etag": "",
                "id": row[1], "token": 1,
            }  # fmt: skip
            db.execute(store_jobs._END.text, ended).fetchall()
            values = {
                "id": f"d{row[1]}", "job_id": row[1], "bucket": "b-1", "url": "http://127.0.0.1:9/x",
                "event": "TaskFinish", "content_type": "application/xml", "request_id": "", "state": "waiting",
                "created_us": 1, "next_us": 1, "ended_us": None, "body": BODY,
            }  # fmt: skip
            db.execute(store_deliveries._INSERT.text, values)
        db.execute("COMMIT")
    return LIST * LISTS / (time.monotonic() - started)


async def _prepare(path: Path) -> None:
    store = SqliteStore(path, synchronous="OFF")
    await store.run(fill, [job(number) for number in range(LIST * LISTS)])
    await store.close()


def lists_of_50() -> list[Row]:
    ratios, rates = [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            mine = asyncio.run(ours(Path(folder)))
            theirs = bare(Path(folder))
            rates.append(mine)
            ratios.append(mine / theirs)
    return [
        Row("claim + finish in lists of 50, synchronous=FULL", sorted(rates)[1], "jobs/s"),
        Row("the same ÷ bare sqlite3", sorted(ratios)[1], "", least=0.5),
    ]


# --- many rows -----------------------------------------------------------------------------------------------------


async def at_size(folder: Path, ended: int, waiting: int) -> dict[str, list[float]]:
    """Times in ms of submit, claim and list with so many rows, after ANALYZE."""
    store = SqliteStore(folder / f"{ended}.db", synchronous="OFF")
    await store.run(fill, [])
    raw = sqlite3.connect(folder / f"{ended}.db", isolation_level=None)
    raw.execute("BEGIN")
    raw.executemany(
        "INSERT INTO job (id, bucket, region, tag, queue_id, state, level, object_key, url, params, template_id, "
        "template_name, created_us, started_us, ended_us, result) VALUES (?, 'b-1', 'ap-x', 'BenchNoOp', 'p1', "
        "'Success', 0, 'k', '', '{}', '', '', ?, 1, ?, '{\"started_ns\": 1}')",
        ((f"e{number}", number, number) for number in range(ended)),
    )
    raw.execute("COMMIT")
    raw.close()
    for start in range(0, waiting, 5_000):
        await store.run(fill, [job(start + number) for number in range(min(5_000, waiting - start))])
    with store.engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    times: dict[str, list[float]] = {"submit": [], "claim": [], "list": []}
    wanted = JobFilter(tag="BenchNoOp", size=10)
    for number in range(300):
        for name, work in (
            ("submit", lambda tx, n=number: tx.jobs.insert([job(10_000_000 + n, "p2", "b-2")])),
            ("claim", lambda tx: tx.jobs.claim("bench", 1, LEASE, "")),
            ("list", lambda tx: tx.jobs.select("b-1", wanted)),
        ):
            started = time.perf_counter()
            await (store.read(work) if name == "list" else store.run(work))
            times[name].append((time.perf_counter() - started) * 1000)
    await store.close()
    return times


def flatness(rows: int) -> list[Row]:
    found = []
    with tempfile.TemporaryDirectory() as folder:
        small = asyncio.run(at_size(Path(folder), 1_000, 500))
        large = asyncio.run(at_size(Path(folder), rows, min(100_000, rows // 10)))
    for name in small:
        p50 = quantile(large[name], 0.5) / quantile(small[name], 0.5)
        p99 = quantile(large[name], 0.99) / quantile(small[name], 0.99)
        note = f"{quantile(small[name], 0.5):.2f} ms > {quantile(large[name], 0.5):.2f} ms; store, not over HTTP"
        found.append(Row(f"{name} at {rows:,} jobs ÷ at 1,000, p50", p50, "", most=1.3, note=note))
        found.append(Row(f"{name} at {rows:,} jobs ÷ at 1,000, p99", p99, "", most=2))
    return found


def measure(*, rows: int = 0) -> list[Row]:
    load(["bench.noop_operation"])
    return lists_of_50() + (flatness(rows) if rows else [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=0)
    show(measure(rows=parser.parse_args().rows), Path("bench-out/store.json"), "python -m bench.store")


if __name__ == "__main__":
    main()
