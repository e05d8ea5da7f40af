"""A tag that does nothing: what remains is the price of the system around it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cloudfinite.operations import operation
from cloudfinite.wire.nodes import node
from cloudfinite.wire.operation import LocalFile


@dataclass(frozen=True, slots=True)
class Params:
    sleep_ms: int = node("SleepMs", default=0)


@dataclass(frozen=True, slots=True)
class Result:
    started_ns: int = node("StartedNs", default=0)


@operation(
    "BenchNoOp", service="ai", area="Benchmarks", params=("BenchNoOp", Params), result=("BenchResult", Result),
    hands_on=True,
)  # fmt: skip
def run(source: LocalFile, params: Params, engine: Any) -> Result:
    started = time.time_ns()
    if params.sleep_ms:
        time.sleep(params.sleep_ms / 1000)  # the work, as long as the job says
    return Result(started)
