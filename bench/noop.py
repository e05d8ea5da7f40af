"""No-op jobs end to end: submit > queue > child > callback received; throughput, CPU and idle latency.

python -m bench.noop [--jobs 10000]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from pathlib import Path

from bench import load
from bench.report import Row, show

from cloudfinite.testing import Server

CONNECTIONS = 32
WARM_UP = 1_000
IDLE_JOBS = 300
IDLE_GAP_S = 0.05


async def throughput(jobs: int) -> list[Row]:
    with bench_server() as server:
        async with load.receiving() as receiver, load.session(CONNECTIONS) as client:
            await load.put_input(server, client)
            await load.submit_many(server, client, WARM_UP, CONNECTIONS, lambda _: f"{receiver.url}/")
            await receiver.wait_for(WARM_UP, 120)
            assert server.process is not None
            pid = server.process.pid
            cpu, started = load.cpu_s(pid), time.monotonic()
            await load.submit_many(server, client, jobs, CONNECTIONS, lambda _: f"{receiver.url}/")
            submitted = time.monotonic() - started
            await receiver.wait_for(WARM_UP + jobs, 600)
            wall = time.monotonic() - started
            cpu = load.cpu_s(pid) - cpu
        disk = load.fdatasync_rate(server.data)
        note = f"submits answered at {jobs / submitted:,.0f}/s; fdatasync {disk:,.0f}/s"
        return [
            Row("no-op jobs, callbacks received", jobs / wall, "/s", least=400,
                note=note),
            Row("server CPU per no-op job", cpu / jobs * 1000, "ms", most=2),
            Row("server RSS after them", load.rss_bytes(pid) / 1e6, "MB"),
        ]  # fmt: skip


async def idle_latency() -> list[Row]:
    """One job at a time on an idle server: submit > operation starts, end > first byte at the receiver."""
    with bench_server() as server:
        async with load.receiving(keeps_bodies=True) as receiver, load.session(2) as client:
            await load.put_input(server, client)
            sent_ns: dict[str, int] = {}
            for number in range(IDLE_JOBS):
                before = time.time_ns()
                body = load.submission(f"{receiver.url}/")
                headers = load.signed_headers("POST", "/jobs", body)
                async with client.post(f"{server.url}/jobs", data=body, headers=headers) as answer:
                    job_id = re.search(rb"<JobId>(\w+)", await answer.read())
                assert job_id is not None
                sent_ns[job_id[1].decode()] = before
                await receiver.wait_for(number + 1, 10)
                await asyncio.sleep(IDLE_GAP_S)
            starts, ends = [], []
            for body, arrived in zip(receiver.bodies, receiver.arrived_ns, strict=True):
                job_id = re.search(rb"<JobId>(\w+)", body)
                started = re.search(rb"<StartedNs>(\d+)", body)
                assert job_id is not None and started is not None
                starts.append((int(started[1]) - sent_ns[job_id[1].decode()]) / 1e6)
                ends.append((arrived - int(started[1])) / 1e6)
    starts, ends = starts[20:], ends[20:]
    return [
        Row("idle: submit sent > operation starts, p50", load.quantile(starts, 0.5), "ms", most=3),
        Row("idle: submit sent > operation starts, p99", load.quantile(starts, 0.99), "ms", most=12),
        Row("idle: operation (a no-op) > callback at the receiver, p50", load.quantile(ends, 0.5), "ms", most=4),
        Row("idle: operation (a no-op) > callback at the receiver, p99", load.quantile(ends, 0.99), "ms", most=15),
    ]


def bench_server(**settings: object) -> Server:
    return Server(ocr_engine="fixed", operation_modules=["bench.noop_operation"], log_level="warning", **settings)


def measure(*, jobs: int = 10_000) -> list[Row]:
    return asyncio.run(throughput(jobs)) + asyncio.run(idle_latency())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    arguments = parser.parse_args()
    show(measure(jobs=arguments.jobs), Path("bench-out/noop.json"), "python -m bench.noop")


if __name__ == "__main__":
    main()
