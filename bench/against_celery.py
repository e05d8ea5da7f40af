"""No-op jobs through cloudfinite and through Starlette + Celery + Redis + aiohttp, in turns on the same machine.

python -m bench.against_celery [--jobs 10000]; needs `redis-server` (Debian: apt-get install redis-server).
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import aiohttp
from bench import load, noop
from bench.report import Row, show, skipped

ROUNDS = 3
CHILDREN = len(os.sched_getaffinity(0))
_READY_S = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def _running(command: Sequence[str], **environment: str) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def celery_stack() -> Iterator[str]:
    """Its URL, once it has run one job."""
    with tempfile.TemporaryDirectory(prefix="bench-redis-") as folder, ExitStack() as stack:
        redis_port, port = free_port(), free_port()
        broker = {"BENCH_REDIS": f"redis://127.0.0.1:{redis_port}/0"}
        redis = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--dir", folder]
        stack.enter_context(_running(redis))
        python = [sys.executable, "-m"]
        worker = ["celery", "-A", "bench.celery_stack", "worker", "--concurrency", str(CHILDREN), "-l", "ERROR"]
        stack.enter_context(_running([*python, *worker], **broker))
        web = ["uvicorn", "bench.celery_stack:web", "--port", str(port), "--log-level", "error", "--no-access-log"]
        stack.enter_context(_running([*python, *web], **broker))
        yield f"http://127.0.0.1:{port}"


async def _theirs(jobs: int) -> float:
    """Callbacks received per second."""
    with celery_stack() as url:
        async with load.receiving() as receiver, load.session(noop.CONNECTIONS) as client:
            target = _Target(url)
            await _wait_for_first(target, client, receiver)
            before = len(receiver.arrived_ns)
            await load.submit_many(target, client, noop.WARM_UP, noop.CONNECTIONS, lambda _: f"{receiver.url}/")
            await receiver.wait_for(before + noop.WARM_UP, 120)
            started = time.monotonic()
            await load.submit_many(target, client, jobs, noop.CONNECTIONS, lambda _: f"{receiver.url}/")
            await receiver.wait_for(before + noop.WARM_UP + jobs, 600)
            return jobs / (time.monotonic() - started)


class _Target:
    """As much of a server as `load.submit_many` needs."""

    def __init__(self, url: str) -> None:
        self.url = url


async def _wait_for_first(target: _Target, client: aiohttp.ClientSession, receiver: load.Receiver) -> None:
    """Submit until the first callback arrives: the parts of the stack start side by side."""
    ends_at = time.monotonic() + _READY_S
    while not receiver.arrived_ns:
        if time.monotonic() > ends_at:
            raise RuntimeError("the Celery stack did not start")
        try:
            await load.submit_many(target, client, 1, 1, lambda _: f"{receiver.url}/")
            await receiver.wait_for(1, 1)
        except (aiohttp.ClientError, RuntimeError, TimeoutError):
            await asyncio.sleep(0.2)
    await asyncio.sleep(1)  # for the callbacks of the other tries


def measure(*, jobs: int = 10_000, rounds: int = ROUNDS) -> list[Row]:
    name = "no-op jobs ÷ Starlette + Celery + Redis + aiohttp"
    if not shutil.which("redis-server"):
        return [skipped(name, "redis-server is not installed")]
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        for is_ours in (True, False) if number % 2 == 0 else (False, True):
            if is_ours:
                ours.append(asyncio.run(noop.throughput(jobs))[0].value)
            else:
                theirs.append(asyncio.run(_theirs(jobs)))
    here, there = statistics.median(ours), statistics.median(theirs)
    note = f"{here:,.0f}/s and {there:,.0f}/s, medians of {rounds} rounds in both orders"
    return [Row(name, here / there, "×", least=1.5, note=note)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    arguments = parser.parse_args()
    show(measure(jobs=arguments.jobs), Path("bench-out/celery.json"), "python -m bench.against_celery")


if __name__ == "__main__":
    main()
