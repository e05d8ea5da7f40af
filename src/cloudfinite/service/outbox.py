"""What the deliverer asks of the store as whole transactions: a look at what to send, a record of what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cloudfinite.domain.delivery import Admission, AttemptResult, Delivery, SigningSecret, TargetLease
from cloudfinite.ports import Transaction

BATCH = 256  # deliveries admitted per transaction
READY = 16  # due deliveries in memory per target at least, bodies and all


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one look at the store is for."""

    fresh: tuple[str, ...]
    is_scan: bool
    room: int
    fill: Sequence[tuple[str, int, list[str]]]  # (url, how many, known ids)
    leave: Sequence[str]


@dataclass(frozen=True, slots=True)
class Found:
    admission: Admission
    leases: Sequence[TargetLease]
    due: dict[str, tuple[list[Delivery], timedelta | None]]
    next_wake: timedelta | None
    bucket_secrets: Mapping[str, tuple[SigningSecret, ...]] | None
    """What a scan finds; None: not looked at."""


def look(tx: Transaction, owner: str, lease: timedelta, wanted: Wanted) -> Found:
    """Let go, admit, lease and take, in one transaction."""
    rows = tx.deliveries
    admission = Admission([], {})
    if wanted.is_scan:
        admission = rows.admit(owner, lease, wanted.room, BATCH, leave=wanted.leave)  # the fresh ones are among them
    elif wanted.fresh or wanted.leave:
        admission = rows.admit(owner, lease, wanted.room, 0, wanted.fresh, wanted.leave)
    leases: list[TargetLease] = []
    next_wake: timedelta | None = None
    if wanted.is_scan:
        room = wanted.room - len(admission.leases)
        if room > 0:
            leases = rows.lease_due(owner, lease, room)
        next_wake = rows.next_wake()
    leases = [*admission.leases, *leases]
    due = {url: rows.take_due(url, limit, known) for url, limit, known in wanted.fill}
    for one in leases:
        due[one.target.url] = rows.take_due(one.target.url, READY, wanted.fresh)
    secrets = rows.all_bucket_secrets() if wanted.is_scan else None
    return Found(admission, leases, due, next_wake, secrets)


def record(
    tx: Transaction, results: Sequence[AttemptResult], leases: Sequence[TargetLease], as_of: datetime
) -> set[str]:
    return tx.deliveries.record(results, leases, as_of)
