"""How soon a job runs again after what ran it was killed.

python -m bench.recovery
"""

from __future__ import annotations

import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.report import Row, show
from PIL import Image, ImageDraw, ImageFont
from tests.support.api_caller import ApiCaller
from tests.support.postgres import OwnPostgres, fresh_database
from tests.support.waiting import until
from tests.support.wire_client import WireClient

from cloudfinite.testing import Server

ROUNDS = 3
LEASE_S = 10.0  # the default
_LOOK_S = 0.01
_WAIT_S = 60.0
_OPERATIONS = {"ocr_engine": "fixed", "operation_modules": ["tests.support.steady_operations"]}


def _lines(file: Path) -> list[str]:
    return file.read_text().split() if file.exists() else []


def _runs_again(file: Path, kill: Callable[[int], float]) -> float:
    """Seconds until the job that `file` tells of tells again, from the instant that `kill` returns."""
    until(lambda: _lines(file), "the job runs", wait_s=_WAIT_S, poll_s=_LOOK_S)
    started = kill(int(_lines(file)[0]))
    until(lambda: len(_lines(file)) == 2, "it runs again", wait_s=_WAIT_S, poll_s=_LOOK_S)
    spent = time.monotonic() - started
    file.with_name(f"{file.name}.go").touch()
    return max(0.0, spent)


def _submit_held(server: Server, file: Path) -> None:
    client = WireClient(server)
    client.put("a")
    client.submit("Held", file=file)


def child_killed() -> float:
    with Server(workers=1, **_OPERATIONS) as server:
        file = server.data / "held"
        _submit_held(server, file)

        def kill(pid: int) -> float:
            os.kill(pid, signal.SIGKILL)
            return time.monotonic()

        return _runs_again(file, kill)


def server_restarted() -> float:
    """SQLite; from the instant that the new process is ready."""
    with Server(workers=1, **_OPERATIONS) as server:
        file = server.data / "held"
        _submit_held(server, file)

        def restart(_pid: int) -> float:
            server.kill()
            server.start()
            return time.monotonic()

        return _runs_again(file, restart)


def worker_killed(url: str) -> float:
    """PostgreSQL: one of two processes dies, the other one takes its job when the lease has ended."""
    with tempfile.TemporaryDirectory(prefix="bench-recovery-") as folder, fresh_database(url) as database:
        settings = {"data": Path(folder), "database": database, "shared_objects": True, "lease_s": LEASE_S}
        with Server(workers=1, **settings, **_OPERATIONS) as first:
            file = first.data / "held"
            _submit_held(first, file)
            until(lambda: _lines(file), "the job runs", wait_s=_WAIT_S)
            with Server(workers=1, **settings, **_OPERATIONS):

                def kill(_pid: int) -> float:
                    first.kill()
                    return time.monotonic()

                return _runs_again(file, kill)


def ocr_child_killed() -> float:
    """The only child, its engine loaded: a new one must load it again."""
    page = Image.new("RGB", (2400, 3200), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(36)
    for row in range(60):
        draw.text((60, 40 + 52 * row), f"line {row} of a page that takes a while to read", "black", font)
    with Server(workers=1) as server:
        client, api = WireClient(server), ApiCaller(server)
        picture = server.data / "page.png"
        page.save(picture)
        client.call("PUT", "/page.png", picture.read_bytes(), kind="cos")
        job_id = client.submit_ocr("page.png")

        def attempts() -> int:
            job = api.get(f"/jobs/{job_id}")
            return int(job["attempts"]) if job["state"] == "Running" else 0

        until(lambda: attempts() == 1, "the job runs", wait_s=_WAIT_S, poll_s=_LOOK_S)
        assert server.process is not None
        (child,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
        started = time.monotonic()
        os.kill(int(child), signal.SIGKILL)
        until(lambda: attempts() == 2, "it runs again", wait_s=_WAIT_S, poll_s=_LOOK_S)
        return time.monotonic() - started


def measure() -> list[Row]:
    postgres = OwnPostgres()
    try:
        cases: list[tuple[str, Callable[[], float], float]] = [
            ("child killed > its no-op job runs again", child_killed, 1),
            ("OCR child killed > its job runs again", ocr_child_killed, 6),
            ("SQLite server killed and ready again > its job runs", server_restarted, 1),
            ("worker killed > its job runs elsewhere (lease 10 s)", lambda: worker_killed(postgres.url), LEASE_S + 1),
        ]
        return [Row(name, statistics.median(take() for _ in range(ROUNDS)), "s", most=bar) for name, take, bar in cases]
    finally:
        postgres.remove()


if __name__ == "__main__":
    show(measure(), Path("bench-out/recovery.json"), "python -m bench.recovery")
