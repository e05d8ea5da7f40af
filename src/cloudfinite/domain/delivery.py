"""Deliveries: the notification of one job's end to one URL, its attempts, and the target they go to.

What is made anew for each POST is a named tuple: a frozen dataclass of as many fields takes three times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

MAX_URL_CHARS = 2_048


class DeliveryState(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"  # the schedule is used up, or the receiver answered 410
    REFUSED = "refused"  # our own policy forbids the address
    CANCELLED = "cancelled"  # its target was removed while it waited


class TargetState(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"


class Delivery(NamedTuple):
    """One notification. `body` never changes; `id` is the receiver's `webhook-id` in every attempt and replay.

    job_id: of the job, or of the workflow's run, that it tells of. attempts counts all POSTs, and replayed_after those
    that the running schedule does not count; next_at is when the next is due; sequence is the gap-free number per
    target, 0 until it is admitted. Lists leave `body` empty.
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
    replayed_after: int = 0
    ended_at: datetime | None = None
    sequence: int = 0

    def numbered(self, sequence: int) -> Delivery:
        return Delivery(*self[:-1], sequence)


UNKNOWN_OUTCOME = "unknown"


class Attempt(NamedTuple):
    """One try. `outcome` is `delivered`, `http_<status>`, or a DeliveryFailed reason; times in seconds.

    `unknown` stands for what a process may have sent, and ended without telling.
    """

    delivery_id: str
    number: int
    started_at: datetime
    outcome: str
    status: int = 0
    dns_s: float = 0.0
    connect_s: float = 0.0
    total_s: float = 0.0
    response_head: str = ""
    response_body: bytes = b""
    message: str = ""


class AttemptResult(NamedTuple):
    """An attempt and what follows for its delivery; `wait` is until the next one while it stays waiting."""

    attempt: Attempt
    state: DeliveryState
    wait: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class SigningSecret:
    """A sealed signing secret of a target or a bucket; one that was replaced signs too, until then.

    Without sealed bytes it stands for whatever would sign if there were none here: a target's bucket, the installation.
    """

    sealed: bytes = b""
    until: datetime | None = None

    def is_valid(self, at: datetime) -> bool:
        return self.until is None or self.until > at


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that deliveries go to, with what its holder learnt of it. No attempt is made before `open_until`.

    rate_per_s is the operator's limit of POSTs started per second, 0 for none.
    """

    url: str
    state: TargetState = TargetState.ACTIVE
    paused_reason: str = ""
    failures_in_row: int = 0
    open_until: datetime | None = None
    last_success_at: datetime | None = None
    failing_since: datetime | None = None
    next_sequence: int = 1
    secrets: tuple[SigningSecret, ...] = ()
    rate_per_s: float = 0.0


@dataclass(frozen=True, slots=True)
class TargetLease:
    """The claim of one deliverer on a target: nobody else sends to it, or changes what is known of it."""

    target: Target
    owner: str
    token: int


@dataclass(frozen=True, slots=True)
class Admission:
    """What one admission did: targets newly leased, and the sequence number of each delivery by its id.

    is_complete: no more new deliveries were found. urls: the targets of those that nobody had named.
    """

    leases: list[TargetLease]
    sequences: dict[str, int]
    is_complete: bool = True
    urls: frozenset[str] = frozenset()


class Due(NamedTuple):
    """Deliveries of one target that were handed out, oldest first, and how long until more are due (None: never).

    unknown counts those among them that another deliverer had, and ended without telling whether it sent them.
    """

    deliveries: list[Delivery]
    wait: timedelta | None
    unknown: int = 0


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """What a list of deliveries selects; empty means all. `before` is the key of the last page's last delivery."""

    job_id: str = ""
    url: str = ""
    states: frozenset[DeliveryState] = frozenset()
    created_from: datetime | None = None
    before: int | None = None
    size: int = 50


# --- the schedule --------------------------------------------------------------------------------------------------

_LADDER_S = (0, 5, 60, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
_JITTER = 0.2
_MAX_JITTER = timedelta(minutes=15)  # with it, the default schedule still outlasts an outage of 72 hours


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """Delays before each attempt. Jitter is only ever added: up to a fifth of the delay, at most 15 minutes."""

    delays: tuple[timedelta, ...]

    @classmethod
    def of(cls, seconds: Sequence[float]) -> RetrySchedule:
        return cls(tuple(timedelta(seconds=delay) for delay in seconds))

    @classmethod
    def default(cls, *, is_strict: bool) -> RetrySchedule:
        """0, 5 s, 1 m … 24 h; in development a retry after 1 s comes first."""
        return cls.of(_LADDER_S if is_strict else (_LADDER_S[0], 1, *_LADDER_S[1:]))

    def delay(self, attempts: int, jitter: float) -> timedelta | None:
        """How long to wait after `attempts` POSTs; None when the schedule is used up. `jitter` is in [0, 1)."""
        if attempts >= len(self.delays):
            return None
        base = self.delays[attempts]
        return base + min(base * _JITTER, _MAX_JITTER) * jitter
