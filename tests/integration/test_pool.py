"""The pool with real child processes: what one task does to its process costs no other task."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvloop

from cloudfinite.adapters.pool import ChildLimits, ChildPool
from cloudfinite.errors import ChildDied, EngineFailed, InputMissing, OperationTimedOut, UnreadableInput
from cloudfinite.ports import EngineSpec, Task

OPERATIONS = "tests.integration.pool_operations"


def task(tag: str, source: Path = Path("/nowhere"), **params: Any) -> Task:
    return Task(tag, {"text": "", "number": 0, **params}, source, label="j1")


@asynccontextmanager
async def started(size: int = 1, engine: EngineSpec | None = None, **limits: Any) -> AsyncIterator[ChildPool]:
    pool = ChildPool(size, engine, modules=[OPERATIONS], limits=ChildLimits(**limits))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


async def until(condition: Callable[[], bool]) -> None:
    """Give the loop and the children time; the test's own limit ends a wait in vain."""
    while not condition():
        await asyncio.sleep(0.005)


async def pid_of(pool: ChildPool) -> int:
    return int((await pool.run(task("NoOp")))["pid"])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_result_comes_back() -> None:
    async with started() as pool:
        assert (await pool.run(task("NoOp", text="漢\ud800")))["text"] == "漢\ud800"


async def test_operations_own_error_comes_back() -> None:
    async with started() as pool:
        with pytest.raises(UnreadableInput, match="no good: x"):
            await pool.run(task("Refuse", text="x"))
        assert pool.idle == 1


async def test_unexpected_error_tells_nothing_of_the_inside() -> None:
    async with started() as pool:
        with structlog.testing.capture_logs() as logs, pytest.raises(EngineFailed) as caught:
            await pool.run(task("Crash"))
    assert "secret" not in caught.value.message
    (entry,) = [entry for entry in logs if entry["event"] == "pool.operation_crashed"]
    assert entry["label"] == "j1" and "secret inside" in entry["trace"]


async def test_vanished_source_is_a_missing_input() -> None:
    async with started() as pool:
        with pytest.raises(InputMissing):
            await pool.run(task("Open"))


async def test_operation_without_an_engine_is_refused_where_it_needs_one() -> None:
    async with started() as pool:
        with pytest.raises(EngineFailed, match="ImageOCR needs one"):
            await pool.run(Task("ImageOCR", {}, Path("/nowhere")))


async def test_dead_child_costs_its_own_task_only(tmp_path: Path) -> None:
    async with started(2) as pool:
        await until(lambda: pool.idle == 2)
        neighbour = asyncio.create_task(pool.run(task("Hang", tmp_path / "pid")))
        await until((tmp_path / "pid").exists)
        began = time.monotonic()
        with pytest.raises(ChildDied, match="SIGKILL"):
            await pool.run(task("Die"))
        assert time.monotonic() - began < 0.5
        assert (await pool.run(task("NoOp", text="again")))["text"] == "again"
        assert not neighbour.done()
        neighbour.cancel()


async def test_death_is_logged_with_the_last_lines() -> None:
    with structlog.testing.capture_logs() as logs:
        async with started() as pool:
            with pytest.raises(ChildDied):
                await pool.run(task("Die"))
            await pool.wait_idle()
    (entry,) = [entry for entry in logs if entry["event"] == "pool.child_died"]
    assert entry["exit"] == "SIGKILL" and entry["last_lines"] == "about to die"


async def test_hanging_task_ends_at_the_wall_limit(tmp_path: Path) -> None:
    async with started(wall_s=0.5) as pool:
        await pool.wait_idle()
        with pytest.raises(OperationTimedOut, match=r"longer than 0\.5 s"):
            await pool.run(task("Hang", tmp_path / "pid"))
        assert await pid_of(pool) != int((tmp_path / "pid").read_text())


async def test_busy_loop_ends_at_the_cpu_limit_of_its_own_task() -> None:
    async with started(cpu_s=1) as pool:
        await pool.wait_idle()
        with pytest.raises(OperationTimedOut, match="1 s of CPU"):
            await pool.run(task("Burn"))


async def test_large_allocation_fails_and_the_child_is_replaced() -> None:
    async with started(data_bytes=512 * 1024**2) as pool:
        before = await pid_of(pool)
        with pytest.raises(EngineFailed, match="more memory"):
            await pool.run(task("Grow", number=1024**3))
        assert await pid_of(pool) != before


async def test_task_is_run_again_where_earlier_ones_had_used_the_memory_up() -> None:
    async with started(data_bytes=1024**3) as pool:
        before = (await pool.run(task("Keep", number=500 * 1024**2)))["pid"]
        answer = await pool.run(task("Grow", number=700 * 1024**2))
        assert answer["text"] == str(700 * 1024**2) and answer["pid"] != before


async def test_result_of_a_child_near_its_memory_limit_is_not_trusted_unless_the_task_itself_needs_so_much() -> None:
    async with started(data_bytes=1024**3) as pool:
        worn = await pid_of(pool)
        fresh = (await pool.run(task("Keep", number=900 * 1024**2)))["pid"]
        assert fresh != worn and await pid_of(pool) not in (worn, fresh)


async def test_child_is_replaced_after_its_number_of_tasks() -> None:
    async with started(tasks=2) as pool:
        pids = [await pid_of(pool) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


async def test_child_that_grew_is_replaced() -> None:
    async with started(rss_bytes=1) as pool:
        assert await pid_of(pool) != await pid_of(pool)


async def test_much_output_does_not_hang_the_child() -> None:
    async with started() as pool:
        pid = (await pool.run(task("Chat", number=1_000_000)))["pid"]
        assert await pid_of(pool) == pid


async def test_too_large_result_fails_its_task_only() -> None:
    async with started() as pool:
        with pytest.raises(EngineFailed, match="at most 33554432 are allowed"):
            await pool.run(task("Flood", number=33_554_433))
        assert (await pool.run(task("Flood", number=4_000_000)))["text"] == "x" * 4_000_000


async def test_cancelled_caller_kills_the_child(tmp_path: Path) -> None:
    async with started() as pool:
        running = asyncio.create_task(pool.run(task("Hang", tmp_path / "pid")))
        await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
        pid = int((tmp_path / "pid").read_text())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await pid_of(pool) != pid
        assert not is_alive(pid)


async def test_cancelled_waiter_gives_its_turn_to_the_next(tmp_path: Path) -> None:
    async with started() as pool:
        first = asyncio.create_task(pool.run(task("NoOp")))
        waiters = [asyncio.create_task(pool.run(task("NoOp", text=str(number)))) for number in range(3)]
        await asyncio.sleep(0)
        waiters[1].cancel()
        done = await asyncio.gather(first, *waiters, return_exceptions=True)
        assert [answer["text"] for answer in done if isinstance(answer, Mapping)] == ["", "0", "2"]
        assert pool.idle == 1


async def test_idle_child_that_dies_is_noticed_and_replaced() -> None:
    async with started() as pool:
        pid = await pid_of(pool)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.idle == 0)
        await pool.wait_idle()
        assert await pid_of(pool) != pid


async def test_child_holds_no_descriptor_but_its_socket_and_its_pipe() -> None:
    async with started() as pool:
        held = (await pool.run(task("Descriptors")))["text"]
    assert held == "/dev/null pipe pipe socket"


async def test_children_have_a_core_each() -> None:
    cores = sorted(os.sched_getaffinity(0))
    async with started(len(cores)) as pool:
        await until(lambda: pool.idle == len(cores))
        pids = {await pid_of(pool) for _ in range(len(cores))}
        assert sorted(core for pid in pids for core in os.sched_getaffinity(pid)) == cores


async def test_engine_that_does_not_warm_up_is_trouble_with_its_reason() -> None:
    spec = EngineSpec(f"{OPERATIONS}:DumbEngine", {"reason": "no weights"})
    with structlog.testing.capture_logs() as logs:
        async with started(2, spec) as pool:
            await until(lambda: bool(pool.trouble))
            assert pool.trouble == "RuntimeError: no weights"
            assert pool.ready == pool.idle == 0
    assert logs[0]["event"] == "pool.child_not_ready" and logs[0]["retry_s"] == 0.5


async def test_module_that_cannot_be_imported_is_trouble() -> None:
    pool = ChildPool(1, None, modules=["no_such_module"])
    await pool.start()
    await until(lambda: bool(pool.trouble))
    await pool.close()
    assert "no_such_module" in pool.trouble


async def test_fixed_engine_runs_in_the_child() -> None:
    spec = EngineSpec("fixed", {"lines": [{"text": "Hi", "box": [10, 5, 31, 20]}], "angle_deg": 90})
    async with started(1, spec) as pool:
        found = await pool.run(Task("ImageOCR", {}, Path("/nowhere")))
    assert found["angle"] == "90" and found["lines"][0]["text"] == "Hi"


async def test_pool_without_children_refuses() -> None:
    async with started(0) as pool:
        assert (pool.size, pool.idle, pool.trouble) == (0, 0, "")
        with pytest.raises(ChildDied):
            await pool.run(task("NoOp"))


async def test_closing_ends_idle_and_busy_children_and_waiting_callers(tmp_path: Path) -> None:
    async with started(grace_s=0.2) as pool:
        idle_pid = await pid_of(pool)
        busy = asyncio.create_task(pool.run(task("Hang", tmp_path / "pid")))
        await until((tmp_path / "pid").exists)
        waiting = asyncio.create_task(pool.run(task("NoOp")))
        await asyncio.sleep(0)
        await pool.close()
        ended = await asyncio.gather(busy, waiting, return_exceptions=True)
    assert [type(error) for error in ended] == [ChildDied, ChildDied]
    assert not is_alive(idle_pid)


async def _scenario(folder: Path) -> list[str]:
    async with started(1, wall_s=1.0) as pool:
        texts = [(await pool.run(task("NoOp", text="a")))["text"]]
        for bad in (task("Die"), task("Hang", folder / "pid")):
            with pytest.raises((ChildDied, OperationTimedOut)) as caught:
                await pool.run(bad)
            texts.append(caught.value.code)
        return [*texts, (await pool.run(task("NoOp", text="b")))["text"]]


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_both_event_loops_start_kill_and_replace_children(run: Callable[..., list[str]], tmp_path: Path) -> None:
    assert run(_scenario(tmp_path)) == ["a", "InternalError", "OperationTimeout", "b"]


PARENT = f"""
import asyncio, sys
from pathlib import Path
from cloudfinite.adapters.pool import ChildPool
from cloudfinite.ports import Task
async def main():
    pool = ChildPool(1, None, modules=[{OPERATIONS!r}])
    await pool.start()
    await pool.run(Task("Hang", {{}}, Path(sys.argv[1])))
asyncio.run(main())
"""


@pytest.mark.crash
async def test_busy_child_dies_with_its_killed_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path / "pid")], cwd=Path(__file__).parents[2])
    await until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text() != "")
    child = int((tmp_path / "pid").read_text())
    assert is_alive(child)
    parent.kill()
    parent.wait()
    await until(lambda: not is_alive(child))


async def test_round_trip_is_short() -> None:
    """A guard against a slow protocol, far above what is measured (0.1–0.2 ms)."""
    async with started() as pool:
        await pool.run(task("NoOp"))
        began = time.perf_counter()
        for _ in range(200):
            await pool.run(task("NoOp"))
        assert (time.perf_counter() - began) / 200 < 0.01
