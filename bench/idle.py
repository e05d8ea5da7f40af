"""An idle server without children: memory, CPU, time from start to ready.

python -m bench.idle
"""

from __future__ import annotations

import time
from pathlib import Path

from bench import load
from bench.report import Row, show

from cloudfinite.testing import Server

WATCHED_S = 10.0


def measure() -> list[Row]:
    starts = []
    for _ in range(3):
        server = Server(workers=0, log_level="warning")
        before = time.monotonic()
        with server:
            starts.append(time.monotonic() - before)
    with Server(workers=0, log_level="warning") as server:
        assert server.process is not None
        pid = server.process.pid
        time.sleep(2)  # what the start left to do has ended
        cpu = load.cpu_s(pid)
        time.sleep(WATCHED_S)  # the time that the CPU is counted over
        cpu = load.cpu_s(pid) - cpu
        rss = load.rss_bytes(pid)
    return [
        Row("start > ready, without children (median of 3)", sorted(starts)[1], "s", most=2.5),
        Row("idle RSS without children", rss / 1e6, "MB", most=120),
        Row("idle CPU", cpu / WATCHED_S * 100, "%", most=1),
    ]


if __name__ == "__main__":
    show(measure(), Path("bench-out/idle.json"), "python -m bench.idle")
