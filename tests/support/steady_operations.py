"""Operations for tests of whole servers: they take as long as told, wait for the test, count themselves, or kill."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudfinite.operations import operation
from cloudfinite.wire.nodes import node
from cloudfinite.wire.operation import LocalFile

MODULE = __name__


@dataclass(frozen=True, slots=True)
class Params:
    """`file`: what the test and the operation talk through; `ms`: how long it takes."""

    file: str = node("File", default="")
    ms: int = node("Ms", default=0)


@dataclass(frozen=True, slots=True)
class Result:
    pid: int = node("Pid", default=0)


PLACE: dict[str, Any] = {
    "service": "file",
    "area": "Tests",
    "params": ("Params", Params),
    "result": ("Result", Result),
}


@operation("Brief", **PLACE)
def be_brief(source: LocalFile, params: Params, engine: Any) -> Result:
    time.sleep(params.ms / 1000)
    return Result()


@operation("Held", **PLACE)
def be_held(source: LocalFile, params: Params, engine: Any) -> Result:
    """Add our process id to the file, then wait until the test makes `<file>.go`, or `<file>.<process id>.go`."""
    add_line(params.file)
    while not (Path(f"{params.file}.go").exists() or Path(f"{params.file}.{os.getpid()}.go").exists()):
        time.sleep(0.01)
    return Result(os.getpid())


@operation("KillChild", **PLACE)
def kill_child(source: LocalFile, params: Params, engine: Any) -> Result:
    add_line(params.file)
    os.kill(os.getpid(), signal.SIGKILL)
    return Result()


@operation("KillWorker", **PLACE)
def kill_worker(source: LocalFile, params: Params, engine: Any) -> Result:
    add_line(params.file)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)  # the kernel ends this process with its parent
    return Result()


@operation("Counted", **PLACE)
def be_counted(source: LocalFile, params: Params, engine: Any) -> Result:
    """Keep in the file how many run now, and the most that ever did."""
    _change(params.file, lambda now, most, ended: (now + 1, max(most, now + 1), ended))
    time.sleep(params.ms / 1000)
    _change(params.file, lambda now, most, ended: (now - 1, most, ended + 1))
    return Result()


def add_line(file: str) -> None:
    with Path(file).open("a") as out:
        out.write(f"{os.getpid()}\n")


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def _change(file: str, change: Callable[[int, int, int], tuple[int, int, int]]) -> None:
    with Path(file).open("r+") as shared:
        fcntl.flock(shared, fcntl.LOCK_EX)
        counts = change(*json.load(shared))
        shared.seek(0)
        shared.write(json.dumps(counts))
        shared.truncate()
