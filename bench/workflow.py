"""Workflows of no-op steps: runs per second of a five-step graph, and how long after one step the next one starts.

python -m bench.workflow [--runs 1000]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiohttp
from bench import load
from bench.noop import bench_server
from bench.report import Row, show

from cloudfinite.testing import Server

CONNECTIONS = 32
WARM_UP = 100
IDLE_RUNS = 60
IDLE_GAP_S = 0.05
DIAMOND = {"Start": ["BenchNoOp_1"], "BenchNoOp_1": ["BenchNoOp_2", "BenchNoOp_3", "BenchNoOp_4"]} | {
    f"BenchNoOp_{number}": ["BenchNoOp_5"] for number in (2, 3, 4)
}
CHAIN = {"Start": ["BenchNoOp_1"]} | {f"BenchNoOp_{number}": [f"BenchNoOp_{number + 1}"] for number in range(1, 5)}


def workflow(links: Mapping[str, Sequence[str]], hook: str, event: str) -> bytes:
    """A workflow that no upload starts, of five steps; the last ends it."""
    dependencies = "".join(f"<{name}>{','.join(names)}</{name}>" for name, names in links.items())
    steps = "".join(
        f"<BenchNoOp_{number}><Type>BenchNoOp</Type><Operation><BenchNoOp><SleepMs>0</SleepMs></BenchNoOp></Operation>"
        f"</BenchNoOp_{number}>"
        for number in range(1, 6)
    )
    return (
        "<Request><MediaWorkflow><Name>bench</Name><State>Paused</State><Topology><Dependencies>"
        f"{dependencies}<BenchNoOp_5>End</BenchNoOp_5></Dependencies><Nodes><Start><Type>Start</Type><Input>"
        f"<ObjectPrefix>none/</ObjectPrefix><NotifyConfig><State>On</State><Url>{hook}</Url><Event>{event}</Event>"
        f"</NotifyConfig></Input></Start>{steps}</Nodes></Topology></MediaWorkflow></Request>"
    ).encode()


class Runner:
    """Starts runs of one workflow on the benchmark's object."""

    def __init__(self, server: Server, client: aiohttp.ClientSession) -> None:
        self._server = server
        self._client = client
        self._id = ""

    async def create(self, body: bytes) -> None:
        await load.put_input(self._server, self._client)
        answer = await self._post("/workflow", body)
        self._id = re.findall(r"<WorkflowId>(\w+)", answer)[0]

    async def start(self) -> None:
        await self._post("/triggerworkflow", b"", (("workflowId", self._id), ("object", "bench.bin")))

    async def start_many(self, count: int) -> None:
        numbers = iter(range(count))

        async def worker() -> None:
            for _ in numbers:
                await self.start()

        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))

    async def _post(self, path: str, body: bytes, query: tuple[tuple[str, str], ...] = ()) -> str:
        headers = load.signed_headers("POST", path, body, query=query)
        url = f"{self._server.url}{path}?{'&'.join(f'{name}={value}' for name, value in query)}"
        async with self._client.post(url, data=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status != 200:
                raise RuntimeError(f"{answer.status}: {text[:300]}")
            return text


async def throughput(runs: int) -> list[Row]:
    with bench_server() as server:
        async with load.receiving() as receiver, load.session(CONNECTIONS) as client:
            runner = Runner(server, client)
            await runner.create(workflow(DIAMOND, f"{receiver.url}/", "WorkflowFinish"))
            await runner.start_many(WARM_UP)
            await receiver.wait_for(WARM_UP, 60)
            assert server.process is not None
            cpu, started = load.cpu_s(server.process.pid), time.monotonic()
            await runner.start_many(runs)
            await receiver.wait_for(WARM_UP + runs, 600)
            wall = time.monotonic() - started
            cpu = load.cpu_s(server.process.pid) - cpu
        disk = load.fdatasync_rate(server.data)
    note = f"{5 * runs / wall:,.0f} jobs/s; fdatasync {disk:,.0f}/s"
    return [
        Row("runs of a five-step no-op graph, ends received", runs / wall, "/s", note=note),
        Row("server CPU per run of five steps", cpu / runs * 1000, "ms"),
    ]


async def step_latency() -> list[Row]:
    """One run of a chain at a time: from a step's start (it does nothing) to the start of the step behind it."""
    with bench_server() as server:
        async with load.receiving(keeps_bodies=True) as receiver, load.session(2) as client:
            runner = Runner(server, client)
            await runner.create(workflow(CHAIN, f"{receiver.url}/", "TaskFinish"))
            for number in range(IDLE_RUNS):
                await runner.start()
                await receiver.wait_for(5 * (number + 1), 30)
                await asyncio.sleep(IDLE_GAP_S)
            starts: defaultdict[bytes, list[int]] = defaultdict(list)
            for body in receiver.bodies:
                run_id, started = re.search(rb"<RunId>(\w+)", body), re.search(rb"<StartedNs>(\d+)", body)
                assert run_id is not None and started is not None
                starts[run_id[1]].append(int(started[1]))
    gaps = [
        (later - earlier) / 1e6
        for times in list(starts.values())[5:]
        for earlier, later in itertools.pairwise(sorted(times))
    ]
    return [
        Row("idle: latency that a step adds, p50", load.quantile(gaps, 0.5), "ms", most=10),
        Row("idle: latency that a step adds, p99", load.quantile(gaps, 0.99), "ms"),
    ]


def measure(*, runs: int = 1_000) -> list[Row]:
    return asyncio.run(throughput(runs)) + asyncio.run(step_latency())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000)
    arguments = parser.parse_args()
    show(measure(runs=arguments.runs), Path("bench-out/workflow.json"), "python -m bench.workflow")


if __name__ == "__main__":
    main()
