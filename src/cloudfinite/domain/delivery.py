"""Deliveries: the notification of one job's end to one URL, its attempts, and the target they go to."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"  # the schedule is used up, or the receiver answered 410
    REFUSED = "refused"  # our own policy forbids the address


class TargetState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One notification. `body` never changes; `id` is the receiver's `webhook-id` in every attempt and replay.

    attempts counts POSTs of the running schedule; next_at is when the next is due; sequence is the gap-free number
    per target, 0 until first taken.
    """

    id: str
    job_id: str
    bucket: str
    url: str
    content_type: str
    body: bytes
    created_at: datetime
    next_at: datetime
    request_id: str = ""
    event: str = "TaskFinish"
    state: DeliveryState = DeliveryState.WAITING
    attempts: int = 0
    sequence: int = 0
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One POST. `outcome` is `delivered`, `http_<status>`, or a DeliveryFailed reason; times in seconds."""

    delivery_id: str
    number: int
    started_at: datetime
    outcome: str
    status: int = 0
    connect_s: float = 0.0
    total_s: float = 0.0
    response_head: str = ""
    response_body: bytes = b""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that deliveries go to, with what its holder learnt of it."""

    url: str
    state: TargetState = TargetState.ACTIVE
    paused_reason: str = ""
    failures_in_row: int = 0
    open_until: datetime | None = None
    last_success_at: datetime | None = None
    failing_since: datetime | None = None
    next_sequence: int = 1


@dataclass(frozen=True, slots=True)
class TargetLease:
    target: Target
    owner: str
    token: int


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """What a list of deliveries selects; empty means all. `before` pages backwards by creation."""

    job_id: str = ""
    url: str = ""
    states: frozenset[DeliveryState] = frozenset()
    created_from: datetime | None = None
    before: datetime | None = None
    size: int = 50


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Delays before each attempt. Jitter is only ever added: up to a fifth of the delay, at most 15 minutes."""

    delays: tuple[timedelta, ...] = field(
        default=tuple(
            timedelta(seconds=seconds)
            for seconds in (0, 5, 60, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
        )
    )

    def delay(self, attempts: int, jitter: float) -> timedelta | None:
        """How long to wait after `attempts` POSTs; None when the schedule is used up. `jitter` is in [0, 1)."""
        if attempts >= len(self.delays):
            return None
        base = self.delays[attempts]
        return base + min(base * 0.2, timedelta(minutes=15)) * jitter
