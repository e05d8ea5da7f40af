"""Supervises the child processes: one task in flight each, time and memory limits, restart, recycling.

One socketpair per child and one process each, started from the event loop's own thread (the kernel's parent-death
signal follows the thread that started the child). A dead or hanging child costs its own task and no other.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, cast

import structlog

from cloudfinite import errors
from cloudfinite.adapters.frames import HEADER, FrameError, body_size, pack_frame, read_body
from cloudfinite.errors import ChildDied, EngineFailed, JobFailed, OperationTimedOut
from cloudfinite.ports import EngineSpec, Task

log = structlog.get_logger()

GIB = 1024**3
_LOG_TAIL_BYTES = 8_192
_FIRST_RETRY_S, _LAST_RETRY_S = 0.5, 30.0


@dataclass(frozen=True, slots=True)
class ChildLimits:
    """What a child may use. Zero means no limit for data_bytes and cpu_s.

    wall_s, cpu_s: per task. data_bytes: a larger allocation fails inside the child (loading the engine takes about
    1 GiB, pages of many sizes 2.1). rss_bytes, tasks: beyond them the child is replaced after its task. start_s: until
    the engine is loaded and warm. grace_s: for ending when the pool closes.
    """

    wall_s: float = 60.0
    cpu_s: int = 60
    data_bytes: int = 3 * GIB
    rss_bytes: int = 2 * GIB
    tasks: int = 10_000
    start_s: float = 60.0
    grace_s: float = 2.0


_CRASHES = frozenset({signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE})


class ChildPool:
    """`size` children with `engine` (None: only for operations without one) and the operations of `modules`.

    Implements `ports.Pool`. A size of 0 is a process that runs no operations.
    """

    def __init__(
        self,
        size: int,
        engine: EngineSpec | None,
        *,
        modules: Sequence[str] = (),
        limits: ChildLimits | None = None,
        is_pinned: bool = True,
    ) -> None:
        """is_pinned: give each child its own core when there are enough."""
        self._size = size
        self._engine = engine
        self._modules = list(modules)
        self._limits = limits or ChildLimits()
        self._cores = usable_cores() if is_pinned else []
        self._children: set[_Child] = set()
        self._idle: deque[_Child] = deque()
        self._has_idle = asyncio.Event()
        self._waiters: deque[asyncio.Future[_Child]] = deque()
        self._supervisors: list[asyncio.Task[None]] = []
        self._trouble: dict[int, str] = {}
        self._closing = asyncio.Event()

    # --- what others see -------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return self._size

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def ready(self) -> int:
        """Children that are warm, busy or not."""
        return sum(child.is_ready for child in self._children)

    @property
    def trouble(self) -> str:
        """Why children do not become ready, in words for the operator; empty when all is well."""
        return "; ".join(dict.fromkeys(self._trouble.values()))

    async def start(self) -> None:
        """Start the children; returns at once, they become idle when they are warm."""
        self._supervisors = [
            asyncio.create_task(self._supervise(number), name=f"child-{number}") for number in range(self._size)
        ]

    async def wait_idle(self) -> None:
        await self._has_idle.wait()

    async def run(self, task: Task) -> Mapping[str, Any]:
        """Run the task in an idle child, waiting for one; see `ports.Pool`."""
        frame = pack_frame({**task_data(task)})
        answer = await self._ask_child(frame, task)
        if (name := answer.get("failed")) is None:
            return dict(answer["result"])
        if trace := answer.get("trace"):
            log.error("pool.operation_crashed", label=task.label, tag=task.tag, trace=trace)
        raise failure(name, answer["message"])

    async def _ask_child(self, frame: bytes, task: Task) -> Mapping[str, Any]:
        """The answer of a child that was not short of memory because of earlier tasks."""
        while True:
            child = await self._take()
            is_fresh = not child.tasks
            try:
                async with asyncio.timeout(self._limits.wall_s):
                    answer = await child.ask(frame)
            except TimeoutError as exc:
                child.kill()
                raise OperationTimedOut(f"the operation ran longer than {self._limits.wall_s:g} s") from exc
            except (ConnectionError, FrameError) as exc:
                raise await self._describe_death(child, task) from exc
            except asyncio.CancelledError:
                child.kill()
                raise
            self._give_back(child, answer)
            if is_fresh or not answer.get("is_spent"):
                return answer
            # It is retired now; each round takes one more such child away, so a fresh one comes at last.
            log.info("pool.task_repeated", label=task.label, tag=task.tag, child=child.number)

    async def close(self) -> None:
        """End all children: at once those that are idle, the others after `grace_s`. Waiting callers get ChildDied."""
        self._closing.set()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(ChildDied("the process is stopping"))
        for child in self._children:
            child.retire()
        if not self._supervisors:
            return
        _, late = await asyncio.wait(self._supervisors, timeout=self._limits.grace_s)
        for supervisor in late:
            supervisor.cancel()
        await asyncio.gather(*self._supervisors, return_exceptions=True)

    # --- who has which child ---------------------------------------------------------------------------------------

    async def _take(self) -> _Child:
        if self._idle:
            child = self._idle.popleft()
            self._note_idle()
            return child
        if not self._size or self._closing.is_set():
            raise ChildDied("no process here runs operations")
        waiter: asyncio.Future[_Child] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and not waiter.exception():
                self._offer(waiter.result())  # It was handed over in the same turn of the loop.
            raise

    def _offer(self, child: _Child) -> None:
        if child.is_lost or child.is_retired:
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(child)
                return
        self._idle.append(child)
        self._note_idle()

    def _withdraw(self, child: _Child) -> None:
        with suppress(ValueError):
            self._idle.remove(child)
        self._note_idle()

    def _note_idle(self) -> None:
        if self._idle:
            self._has_idle.set()
        else:
            self._has_idle.clear()

    def _give_back(self, child: _Child, answer: Mapping[str, Any]) -> None:
        child.tasks += 1
        rss_bytes = answer["rss_bytes"]
        is_large = rss_bytes > self._limits.rss_bytes
        if is_large or child.tasks >= self._limits.tasks or answer.get("is_spent"):
            log.info("pool.child_recycled", child=child.number, tasks=child.tasks, rss_bytes=rss_bytes)
            child.retire()
        self._offer(child)

    async def _describe_death(self, child: _Child, task: Task) -> JobFailed:
        child.kill()  # It may have closed its socket and live on.
        code = await child.exited()
        log.warning("pool.task_lost", label=task.label, tag=task.tag, child=child.number, exit=exit_text(code))
        if -code in _CRASHES:
            # Native code gave up on this input: the same bytes would do the same again.
            return EngineFailed(f"the engine crashed on this input ({exit_text(code)})")
        if code == -signal.SIGXCPU:
            return OperationTimedOut(f"the operation used more than {self._limits.cpu_s} s of CPU time")
        return ChildDied(f"the process that ran the operation died ({exit_text(code)})")

    # --- keeping one place filled ----------------------------------------------------------------------------------

    async def _supervise(self, number: int) -> None:
        retry_s = _FIRST_RETRY_S
        while not self._closing.is_set():
            try:
                child = await self._start_child(number)
            except _NotReadyError as exc:
                if self._closing.is_set():
                    return  # it was we who ended it
                self._trouble[number] = str(exc)
                log.error("pool.child_not_ready", child=number, reason=str(exc), retry_s=retry_s)
                with suppress(TimeoutError):
                    async with asyncio.timeout(retry_s):
                        await self._closing.wait()
                retry_s = min(2 * retry_s, _LAST_RETRY_S)
                continue
            retry_s = _FIRST_RETRY_S
            self._trouble.pop(number, None)
            await self._attend(child)

    async def _attend(self, child: _Child) -> None:
        """Offer a ready child until it ends."""
        try:
            if self._closing.is_set():
                child.retire()
            self._offer(child)
            code = await child.exited()
        except asyncio.CancelledError:
            child.kill()
            await child.exited()
            raise
        finally:
            self._children.discard(child)
            self._withdraw(child)
        if not child.is_retired:
            log.warning("pool.child_died", child=child.number, exit=exit_text(code), last_lines=child.last_lines)

    async def _start_child(self, number: int) -> _Child:
        """Raises _NotReadyError saying why the child could not start or its engine did not warm up."""
        child = await _Child.spawn(number, self._withdraw)
        self._children.add(child)
        try:
            async with asyncio.timeout(self._limits.start_s):
                answer = await child.ask(pack_frame(self._setup(number)))
            if not answer.get("ready"):
                raise _NotReadyError(str(answer.get("broken")))
        except (TimeoutError, ConnectionError, FrameError, _NotReadyError, asyncio.CancelledError) as exc:
            child.kill()
            code = await child.exited()
            self._children.discard(child)
            if isinstance(exc, _NotReadyError | asyncio.CancelledError):
                raise
            why = f"not ready after {self._limits.start_s:g} s" if isinstance(exc, TimeoutError) else exit_text(code)
            raise _NotReadyError(f"the child process ended while starting ({why}): {child.last_lines}") from exc
        child.is_ready = True
        return child

    def _setup(self, number: int) -> dict[str, Any]:
        has_cores = self._size <= len(self._cores)
        return {
            "engine": asdict(self._engine) if self._engine else None,
            "modules": self._modules,
            "path": sys.path,
            "core": self._cores[number] if has_cores else None,
            "data_bytes": self._limits.data_bytes,
            "cpu_s": self._limits.cpu_s,
        }


class _NotReadyError(Exception):
    """The child cannot take tasks; the text says why."""


class _Link(asyncio.Protocol):
    """The parent's end of the socket: one question, one answer, and the news that the other end is gone."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._answer: asyncio.Future[Mapping[str, Any]] | None = None
        self._transport: asyncio.Transport | None = None
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it.

    async def ask(self, frame: bytes) -> Mapping[str, Any]:
        """Send one frame and wait for the answer. Raises ConnectionError when the child is gone, FrameError."""
        if self.is_lost or self._transport is None:
            raise ConnectionResetError("the child process is gone")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(frame)
        try:
            return await self._answer
        finally:
            self._answer = None

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            if len(self._buffer) < HEADER.size:
                return
            end = HEADER.size + body_size(self._buffer)
            if len(self._buffer) < end:
                return
            answer = read_body(self._buffer[HEADER.size : end])
            del self._buffer[:end]
        except FrameError as exc:
            self._fail(exc)
            self.close()
            return
        if self._answer and not self._answer.done():
            self._answer.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._fail(ConnectionResetError("the child process is gone"))
        self._on_lost()

    def _fail(self, exc: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(exc)

    def close(self) -> None:
        if self._transport:
            self._transport.close()


class _Child:
    """One child process, from its start to its exit."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, link: _Link) -> None:
        self.number = number
        self.tasks = 0
        self.is_ready = False
        self.is_retired = False
        self._process = process
        self._link = link
        self._tail = b""
        self._drain = asyncio.create_task(self._drain_output(), name=f"child-{number}-output")

    @classmethod
    async def spawn(cls, number: int, on_lost: Callable[[_Child], None]) -> _Child:
        """Start the process and connect to it."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                # -P: the folder the server happens to run in is no place to import from.
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "cloudfinite.child", str(theirs.fileno()), str(os.getpid()),
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                    pass_fds=(theirs.fileno(),), start_new_session=True,
                )  # fmt: skip
        except OSError as exc:
            ours.close()
            raise _NotReadyError(f"the child process cannot be started: {exc}") from exc
        link = _Link(lambda: on_lost(child))
        child = cls(number, process, link)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
        return child

    @property
    def is_lost(self) -> bool:
        return self._link.is_lost

    @property
    def last_lines(self) -> str:
        """The end of what it printed."""
        return self._tail.decode(errors="replace").strip()

    async def ask(self, frame: bytes) -> Mapping[str, Any]:
        return await self._link.ask(frame)

    def retire(self) -> None:
        """Close its socket: it ends when it has nothing to do. Calling twice is harmless."""
        self.is_retired = True
        self._link.close()

    def kill(self) -> None:
        """Kill it and whatever it started (its session is its own). Harmless when it is gone."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def exited(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        code = await self._process.wait()
        await asyncio.wait([self._drain])
        self._link.close()
        return code

    async def _drain_output(self) -> None:
        """Read all it prints, so that it never waits for us; keep the end."""
        output = self._process.stdout
        assert output is not None
        while chunk := await output.read(65_536):
            self._tail = (self._tail + chunk)[-_LOG_TAIL_BYTES:]


def task_data(task: Task) -> dict[str, Any]:
    """The task as JSON data (by hand: `asdict` copies the parameters deeply, which takes longer than the rest)."""
    return {
        "tag": task.tag,
        "params": dict(task.params),
        "source": str(task.source),
        "name": task.name,
        "size_bytes": task.size_bytes,
        "etag": task.etag,
        "last_modified": task.last_modified,
        "output": task.output and {**asdict(task.output), "path": str(task.output.path)},
    }


def failure(name: str, message: str) -> JobFailed:
    """The error that a child named, built in or of an outside module; unknown ones are EngineFailed."""
    cls = getattr(errors, name, None) or next((cls for cls in _subclasses(JobFailed) if cls.__name__ == name), None)
    if isinstance(cls, type) and issubclass(cls, JobFailed):
        return cls(message)
    return EngineFailed(message)


def _subclasses(cls: type[JobFailed]) -> list[type[JobFailed]]:
    return [found for direct in cls.__subclasses__() for found in (direct, *_subclasses(direct))]


def exit_text(code: int) -> str:
    """`SIGKILL`, or `exit code 1`."""
    if code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
    return f"exit code {code}"


def usable_cores() -> list[int]:
    """The cores this process may run on; none where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
