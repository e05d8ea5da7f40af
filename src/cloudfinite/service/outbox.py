"""What the deliverer asks of the store as whole transactions: a look at what to send, a record of what was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cloudfinite.domain.delivery import Admission, AttemptResult, Due, SigningSecret, TargetLease
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
    keep: frozenset[str] = frozenset()
    """Of the fresh ones, those that there is room for in memory."""
    unsent: Sequence[str] = ()
    """What was handed out, and is not to be sent now."""


@dataclass(frozen=True, slots=True)
class Found:
    admission: Admission
    leases: Sequence[TargetLease]
    due: dict[str, Due]
    next_wake: timedelta | None
    bucket_secrets: Mapping[str, tuple[SigningSecret, ...]] | None
    """What a scan finds; None: not looked at."""


def look(tx: Transaction, owner: str, lease: timedelta, wanted: Wanted) -> Found:
    """Let go, admit, lease and take, in one transaction."""
    rows = tx.deliveries
    rows.put_back(owner, wanted.unsent)
    admission = Admission([], {})
    if wanted.is_scan:
        # The fresh ones are among them.
        admission = rows.admit(owner, lease, wanted.room, BATCH, leave=wanted.leave, keep=wanted.keep)
    elif wanted.fresh or wanted.leave:
        admission = rows.admit(owner, lease, wanted.room, 0, wanted.fresh, wanted.leave, wanted.keep)
    leases: list[TargetLease] = []
    next_wake: timedelta | None = None
    if wanted.is_scan:
        room = wanted.room - len(admission.leases)
        if room > 0:
            leases = rows.lease_due(owner, lease, room)
        next_wake = rows.next_wake()
    leases = [*admission.leases, *leases]
    due = {url: rows.take_due(url, owner, limit, known) for url, limit, known in wanted.fill}
    for one in leases:
        due[one.target.url] = rows.take_due(one.target.url, owner, READY, wanted.fresh)
    secrets = rows.all_bucket_secrets() if wanted.is_scan else None
    return Found(admission, leases, due, next_wake, secrets)


def record(
    tx: Transaction, results: Sequence[AttemptResult], leases: Sequence[TargetLease], as_of: datetime
) -> set[str]:
    return tx.deliveries.record(results, leases, as_of)


def leave(tx: Transaction, owner: str, unsent: Sequence[str]) -> None:
    """The end of a deliverer that has told all it sent."""
    tx.deliveries.put_back(owner, unsent)
    tx.deliveries.release_all(owner)
