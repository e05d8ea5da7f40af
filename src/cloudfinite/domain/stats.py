"""Counters of jobs per minute, bucket, queue and tag."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class StatKey:
    """What is counted together; `minute_at` is the start of the minute, UTC."""

    minute_at: datetime
    bucket: str
    queue_id: str
    tag: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of one minute; `waited_ms` and `ran_ms` are sums over the jobs that ended in it."""

    submitted: int = 0
    succeeded: int = 0
    failed: int = 0
    waited_ms: int = 0
    ran_ms: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.submitted + other.submitted,
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.waited_ms + other.waited_ms,
            self.ran_ms + other.ran_ms,
        )
