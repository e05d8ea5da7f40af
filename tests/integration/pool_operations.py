"""Operations that only tests have: they do nothing, or what no operation should do to its process."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloudfinite.errors import UnreadableInput
from cloudfinite.operations import operation
from cloudfinite.wire.nodes import node
from cloudfinite.wire.operation import LocalFile


@dataclass(frozen=True, slots=True)
class Params:
    text: str = node("Text", default="")
    number: int = node("Number", default=0)


@dataclass(frozen=True, slots=True)
class Result:
    text: str = node("Text", default="")
    pid: int = node("Pid", default=0)


PLACE: dict[str, Any] = {
    "service": "file",
    "area": "Tests",
    "params": ("Params", Params),
    "result": ("Result", Result),
}


@operation("NoOp", **PLACE)
def do_nothing(source: LocalFile, params: Params, engine: Any) -> Result:
    return Result(params.text, os.getpid())


@operation("Refuse", **PLACE)
def refuse(source: LocalFile, params: Params, engine: Any) -> Result:
    raise UnreadableInput(f"no good: {params.text}")


@operation("Crash", **PLACE)
def crash(source: LocalFile, params: Params, engine: Any) -> Result:
    raise RuntimeError("secret inside")


@operation("Open", **PLACE)
def open_source(source: LocalFile, params: Params, engine: Any) -> Result:
    return Result(source.path.read_text())


@operation("Die", **PLACE)
def die(source: LocalFile, params: Params, engine: Any) -> Result:
    print("about to die", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return Result()


@operation("Hang", **PLACE)
def hang(source: LocalFile, params: Params, engine: Any) -> Result:
    """Writes its process id to the source first, so that a test knows it has begun."""
    source.path.write_text(str(os.getpid()))
    signal.pause()
    return Result()


@operation("Burn", **PLACE)
def burn(source: LocalFile, params: Params, engine: Any) -> Result:
    while True:
        time.process_time()


@operation("Grow", **PLACE)
def grow(source: LocalFile, params: Params, engine: Any) -> Result:
    return Result(str(len(bytearray(params.number))), os.getpid())


_kept: list[bytearray] = []


@operation("Keep", **PLACE)
def keep(source: LocalFile, params: Params, engine: Any) -> Result:
    """Leaves less memory for the tasks that follow."""
    _kept.append(bytearray(params.number))
    return Result("", os.getpid())


@operation("Chat", **PLACE)
def chat(source: LocalFile, params: Params, engine: Any) -> Result:
    sys.stdout.write("x" * params.number)
    sys.stderr.write("y" * params.number)
    return Result(pid=os.getpid())


@operation("Flood", **PLACE)
def flood(source: LocalFile, params: Params, engine: Any) -> Result:
    return Result("x" * params.number, os.getpid())


@operation("Descriptors", **PLACE)
def list_descriptors(source: LocalFile, params: Params, engine: Any) -> Result:
    held = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            held.append(str(link.readlink()).partition(":")[0])
        except FileNotFoundError:
            continue  # The listing's own descriptor.
    return Result(" ".join(sorted(held)))


class DumbEngine:
    """An engine that never gets warm."""

    def __init__(self, limits: object, *, reason: str) -> None:
        self.reason = reason

    def warm_up(self) -> None:
        raise RuntimeError(self.reason)
