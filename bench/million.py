"""Submit, claim and list over HTTP with a million jobs in the store (a tenth of them waiting), against a thousand.

python -m bench.million [--rows 1000000]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import aiohttp
from bench import load
from bench.noop import bench_server
from bench.report import Row, show

from cloudfinite.testing import Server

SMALL = 1_000
REQUESTS = 400
_WARM = 50
_COLUMNS = (
    "id, bucket, region, tag, queue_id, state, level, object_key, url, params, template_id, template_name, created_us"
)


def fill(path: Path, rows: int) -> None:
    """`rows` jobs, a tenth of them waiting in a second queue, which is paused: claims have to pass it."""
    db = sqlite3.connect(path, isolation_level=None)
    (queue_id,) = db.execute("SELECT queue_id FROM job LIMIT 1").fetchone()
    waiting = rows // 10
    db.execute("BEGIN")
    columns = [row[1] for row in db.execute("PRAGMA table_info(queue)")]
    changed = {"id": "'p0'", "service": "'pic'", "state": "'Paused'", "waiting": str(waiting)}
    values = ", ".join(changed.get(column, column) for column in columns)
    db.execute(f"INSERT INTO queue ({', '.join(columns)}) SELECT {values} FROM queue WHERE id = ?", (queue_id,))
    db.execute("INSERT INTO queue_lock (id) VALUES ('p0') ON CONFLICT DO NOTHING")
    db.executemany(
        f"INSERT INTO job ({_COLUMNS}, started_us, ended_us, result) VALUES (?, ?, ?, 'BenchNoOp', ?, 'Success', 0, "
        "'k', '', '{}', '', '', ?, 1, ?, '{\"started_ns\": 1}')",
        ((f"e{number}", Server.bucket, Server.region, queue_id, number, number) for number in range(rows - waiting)),
    )
    db.executemany(
        f"INSERT INTO job ({_COLUMNS}) VALUES (?, ?, ?, 'BenchNoOp', 'p0', 'Submitted', 0, 'k', '', '{{}}', '', '', ?)",
        ((f"w{number}", Server.bucket, Server.region, number) for number in range(waiting)),
    )
    db.execute("INSERT INTO ready (queue_id, rank, seq) SELECT 'p0', 2, seq FROM job WHERE queue_id = 'p0'")
    db.execute("COMMIT")
    db.execute("ANALYZE")
    db.close()


async def _first_job(server: Server) -> None:
    async with load.receiving() as receiver, load.session(1) as client:
        await load.put_input(server, client)
        await load.submit_many(server, client, 1, 1, lambda _: f"{receiver.url}/")
        await receiver.wait_for(1, 30)


async def _timed(servers: dict[int, Server]) -> dict[int, dict[str, list[float]]]:
    """Milliseconds by number of rows and by what was asked for, the servers in turns."""
    times: dict[int, dict[str, list[float]]] = {rows: {"submit": [], "claim": [], "list": []} for rows in servers}
    async with load.session(2) as client, AsyncExitStack() as stack:
        receivers = {rows: await stack.enter_async_context(load.receiving(keeps_bodies=True)) for rows in servers}
        for number in range(REQUESTS + _WARM):
            for rows, server in servers.items():
                before = time.time_ns()
                await _submit(server, client, f"{receivers[rows].url}/")
                times[rows]["submit"].append((time.time_ns() - before) / 1e6)
                await receivers[rows].wait_for(number + 1, 30)
                started = re.search(rb"<StartedNs>(\d+)", receivers[rows].bodies[-1])
                assert started is not None
                times[rows]["claim"].append((int(started[1]) - before) / 1e6)
                before = time.time_ns()
                await _list(server, client)
                times[rows]["list"].append((time.time_ns() - before) / 1e6)
    return {rows: {name: values[_WARM:] for name, values in found.items()} for rows, found in times.items()}


async def _submit(server: Server, client: aiohttp.ClientSession, callback: str) -> None:
    body = load.submission(callback)
    headers = load.signed_headers("POST", "/jobs", body)
    async with client.post(f"{server.url}/jobs", data=body, headers=headers) as answer:
        await answer.read()
        answer.raise_for_status()


async def _list(server: Server, client: aiohttp.ClientSession) -> None:
    query = (("tag", "BenchNoOp"), ("size", "10"))
    headers = load.signed_headers("GET", "/jobs", query=query)
    async with client.get(f"{server.url}/jobs?tag=BenchNoOp&size=10", headers=headers) as answer:
        await answer.read()
        answer.raise_for_status()


def timed(sizes: Sequence[int]) -> dict[int, dict[str, list[float]]]:
    with tempfile.TemporaryDirectory(prefix="bench-million-") as folder, ExitStack() as stack:
        servers = {}
        for rows in sizes:
            data = Path(folder) / str(rows)
            data.mkdir()
            with bench_server(data=data) as server:
                asyncio.run(_first_job(server))
            fill(data / "cloudfinite.db", rows)
            servers[rows] = stack.enter_context(bench_server(data=data, workers=1))
        return asyncio.run(_timed(servers))


def measure(*, rows: int = 1_000_000) -> list[Row]:
    times = timed((SMALL, rows))
    small, large = times[SMALL], times[rows]
    found = []
    for name in small:
        few, many = (load.quantile(times[name], 0.5) for times in (small, large))
        note = f"{few:.2f} ms > {many:.2f} ms"
        found.append(Row(f"{name} over HTTP at {rows:,} jobs ÷ at {SMALL:,}, p50", many / few, "", most=1.3, note=note))
        few, many = (load.quantile(times[name], 0.99) for times in (small, large))
        note = f"{few:.2f} ms > {many:.2f} ms"
        found.append(Row(f"{name} over HTTP at {rows:,} jobs ÷ at {SMALL:,}, p99", many / few, "", most=2, note=note))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    show(measure(rows=parser.parse_args().rows), Path("bench-out/million.json"), "python -m bench.million")


if __name__ == "__main__":
    main()
