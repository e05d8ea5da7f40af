"""A child process: builds the engine it is told to, then runs one operation at a time for its parent.

Started as `python -m cloudfinite.child <socket's descriptor> <parent's process id>` by `adapters/pool.py`. It ends when
the parent closes the socket, and is killed by the kernel when the parent dies. What it prints is its log.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import resource
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudfinite.domain.ocr import PictureLimits
    from cloudfinite.ports import PictureEditor

_PR_SET_PDEATHSIG = 1
_TRACE_CHARACTERS = 8_000
_NEAR_LIMIT = 0.85  # Of the memory limit; docs/ocr.md says how much of it reading takes.


def main() -> None:
    descriptor, parent = int(sys.argv[1]), int(sys.argv[2])
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which drains.
    faulthandler.enable()  # A crash in native code leaves its stack in the log.
    serve(Channel(socket.socket(fileno=descriptor)))


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process with its parent, however busy it is then; elsewhere than on Linux no-op."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # It died before the line above.
        sys.exit("the parent is gone")


class Channel:
    """The socket to the parent, one frame at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def receive(self) -> Mapping[str, Any] | None:
        """The next frame; None when the parent has closed."""
        from cloudfinite.adapters.frames import HEADER, body_size, read_body

        header = self._exactly(HEADER.size)
        body = self._exactly(body_size(header)) if header else None
        return read_body(body) if body else None

    def _exactly(self, size: int) -> bytearray | None:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            count = self._connection.recv_into(view)
            if not count:
                return None
            view = view[count:]
        return data

    def send(self, data: Mapping[str, Any]) -> None:
        from cloudfinite.adapters.frames import FrameError, pack_frame

        try:
            frame = pack_frame(data)
        except FrameError as exc:
            frame = pack_frame({"failed": "EngineFailed", "message": str(exc), "rss_bytes": rss_bytes()})
        self._connection.sendall(frame)


def serve(channel: Channel) -> None:
    """Set up as the first frame says, then answer each task until the parent closes."""
    setup = channel.receive()
    if setup is None:
        return
    # Nothing of the package was imported until here: first the limits, then what could need them.
    bound_process(setup)
    try:
        engines = build(setup)
    except Exception as exc:
        traceback.print_exc()
        channel.send({"broken": f"{type(exc).__name__}: {exc}"})
        return
    channel.send({"ready": True})
    while (task := channel.receive()) is not None:
        allow_cpu(int(setup["cpu_s"]))
        answer = run_task(task, engines)
        if is_short_of_memory(int(setup["data_bytes"])):
            answer["is_spent"] = True
        channel.send({**answer, "rss_bytes": rss_bytes()})


def bound_process(setup: Mapping[str, Any]) -> None:
    """Memory limit, no core dumps, the core to run on, and the parent's module path."""
    sys.path[:] = setup["path"]
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if data_bytes := setup["data_bytes"]:
        resource.setrlimit(resource.RLIMIT_DATA, (data_bytes, data_bytes))
    if setup["core"] is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {setup["core"]})


def build(setup: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """Import the operations; what gives the engines, by their names in operations. The OCR engine is built and warm."""
    from cloudfinite.domain.ocr import PictureLimits
    from cloudfinite.operations import load, operations

    load(setup["modules"])
    operations()
    spec = setup["engine"]
    if spec is None:
        return {"pictures": lambda: picture_editor(PictureLimits())}
    from cloudfinite.adapters.ocr import build_engine
    from cloudfinite.ports import EngineSpec

    limits = PictureLimits(**spec["limits"])
    engine = build_engine(EngineSpec(spec["name"], spec["options"], limits))
    engine.warm_up()
    return {"ocr": lambda: engine, "pictures": lambda: picture_editor(limits)}


def picture_editor(limits: PictureLimits) -> PictureEditor:
    # Imported when first used: few children ever edit pictures.
    from cloudfinite.adapters.picture_editing import PillowEditor

    return PillowEditor(limits)


def allow_cpu(budget_s: int) -> None:
    """Give the next task this much CPU time. The limit counts over the process's life, hence the sum.

    The soft limit ends the process by SIGXCPU, which tells the parent why; the hard one would be a silent SIGKILL.
    """
    if budget_s:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + budget_s, hard))


def rss_bytes() -> int:
    """Memory in use now (on Linux; elsewhere the most that ever was)."""
    try:
        resident_pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(resident_pages) * resource.getpagesize()


def is_short_of_memory(limit_bytes: int) -> bool:
    """Whether the limit is near: native code that gets no memory may misread without a word. Linux only."""
    try:
        data_pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:
        return False
    return bool(limit_bytes) and data_pages * resource.getpagesize() > _NEAR_LIMIT * limit_bytes


def run_task(task: Mapping[str, Any], engines: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """Run one operation; every failure becomes an answer. `is_spent` asks the parent for a fresh process."""
    from cloudfinite.errors import EngineFailed, InputMissing, JobFailed
    from cloudfinite.operations import operations
    from cloudfinite.wire.operation import LocalFile, OutputFile

    try:
        operation = operations()[task["tag"]]
        if operation.engine and operation.engine not in engines:
            raise EngineFailed(f"this process has no engine; {task['tag']} needs one")
        engine = engines[operation.engine]() if operation.engine else None
        place = task["output"]
        output = OutputFile(Path(place["path"]), place["bucket"], place["region"], place["key"]) if place else None
        source = LocalFile(
            Path(task["source"]), task["name"], task["size_bytes"], task["etag"], task["last_modified"], output
        )
        value = operation.run(source, operation.params_value(task["params"]), engine)
        return {"result": operation.result_data(value)}
    except JobFailed as exc:
        return {"failed": type(exc).__name__, "message": exc.message}
    except FileNotFoundError as exc:
        if exc.filename != task["source"]:
            return _crashed(exc)
        return {"failed": InputMissing.__name__, "message": InputMissing().message}
    except Exception as exc:
        return _crashed(exc)


def _crashed(exc: Exception) -> dict[str, Any]:
    """The message tells nothing of the inside; the trace is for the parent's log."""
    is_memory = isinstance(exc, MemoryError) or "bad_alloc" in str(exc) or "Insufficient memory" in str(exc)
    message = "the operation needs more memory than it may have" if is_memory else "the engine met an unexpected error"
    trace = "".join(traceback.format_exception(exc))[-_TRACE_CHARACTERS:]
    return {"failed": "EngineFailed", "message": message, "trace": trace, "is_spent": is_memory}


if __name__ == "__main__":
    main()
