"""An operation for workflows under test: which steps fail is settled beforehand, so that a model knows it too."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from cloudfinite.errors import UnreadableInput
from cloudfinite.operations import operation
from cloudfinite.wire.nodes import node
from cloudfinite.wire.operation import LocalFile

MODULE = __name__


@dataclass(frozen=True, slots=True)
class Params:
    """`step`: the name of the step that it is; `ms`: how long it takes."""

    step: str = node("Step", default="")
    ms: int = node("Ms", default=0)


@dataclass(frozen=True, slots=True)
class Result:
    step: str = node("Step", default="")


def is_fated_to_fail(key: str, step: str) -> bool:
    """One step in eight."""
    return crc32(f"{key} {step}".encode()) % 8 == 0


@operation("Fated", service="file", area="Tests", params=("Params", Params), result=("Result", Result), hands_on=True)
def meet_fate(source: LocalFile, params: Params, engine: Any) -> Result:
    time.sleep(params.ms / 1000)
    if is_fated_to_fail(source.name, params.step):
        raise UnreadableInput("it was not to be")
    return Result(params.step)
