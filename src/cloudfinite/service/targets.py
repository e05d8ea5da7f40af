"""One held target: what its holder knows of a receiver, and whether the next POST may go there now.

Pure decisions by the monotonic clock, which nobody sets; the wall's clock only stamps what is shown.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from cloudfinite.domain.delivery import Delivery, Target, TargetLease, TargetState


@dataclass(frozen=True, slots=True)
class TargetLimits:
    """How a target is treated.

    concurrency: POSTs at once. rate_per_s: POSTs started per second where the target has no rate of its own, 0 for no
    limit. The breaker opens after `failures_in_row`, or a share of `failure_share` in at least `window_attempts`
    attempts of the last `window_s`, but only when the last success is `quiet_s` old: a flapping receiver keeps its
    traffic. Then one probe every `probe_s`. A target is paused after `give_up` without success.
    """

    concurrency: int = 4
    rate_per_s: float = 0.0
    failures_in_row: int = 5
    failure_share: float = 0.7
    window_attempts: int = 10
    window_s: float = 300.0
    quiet_s: float = 10.0
    probe_s: float = 30.0
    give_up: timedelta = timedelta(days=5)


_SLOWED_BY = frozenset({429, 502, 503, 504})  # answers of a receiver that has too much to do
_WINDOW_GROWTH = 0.5
_NEWS_S = 1.0
_REMEMBERED = 1_000  # outcomes


@dataclass(slots=True)
class HeldTarget:
    """`ready` are due deliveries in memory, the next one first. `target` is what is known now, `lease` as it was taken.

    more_at is when the store has more of them (0: now, None: it has none).

    unrecorded are those whose attempt has ended but is not yet in the store, which still shows them as due. version
    changes with each attempt that is recorded. is_ending: no more attempts, to be let go of.
    """

    lease: TargetLease
    limits: TargetLimits
    now: float
    wall: datetime
    target: Target = field(init=False)
    url: str = field(init=False)
    is_trusted: bool = field(init=False)
    """Whether the receiver answered lately; the others share a part of the sockets."""
    is_half_open: bool = field(init=False)
    """Whether the breaker was open: one probe decides."""
    ready: OrderedDict[str, Delivery] = field(default_factory=OrderedDict)
    in_flight: set[str] = field(default_factory=set)
    unrecorded: set[str] = field(default_factory=set)
    more_at: float | None = 0.0
    version: int = 0
    used_at: float = 0.0
    armed_at: float | None = None
    is_ending: bool = False
    _is_paused: bool = False
    _interval_s: float = 0.0  # between two starts, 0 when the rate is not limited
    _window: float = 0.0  # POSTs at once that the receiver seems to bear
    _at_once: int = 1
    _next_start: float = 0.0
    _closed_until: float = float("-inf")
    _last_success: float = float("-inf")
    _succeeded_at: datetime | None = None  # not yet in the lease
    _is_told: bool = False
    _told_at: float = float("-inf")
    _failing_since: float | None = None
    _outcomes: deque[tuple[float, bool]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    def __post_init__(self) -> None:
        self.url = self.lease.target.url
        self._window = self.limits.concurrency
        self._set_target(self.lease.target)
        self.used_at = self.now
        self._read_stamps(self.now, self.wall)
        if self._interval_s:
            self._next_start = self.now + self._interval_s  # the holder before us may have sent just now

    def _set_target(self, target: Target) -> None:
        """Note what is known of the receiver, with what each POST asks for told apart."""
        self.target = target
        self.is_trusted = target.last_success_at is not None and target.failing_since is None
        self.is_half_open = target.open_until is not None
        self._is_paused = target.state is TargetState.PAUSED
        rate = target.rate_per_s or self.limits.rate_per_s
        self._interval_s = 1 / rate if rate else 0.0
        self._set_window(self._window)

    def _set_window(self, window: float) -> None:
        self._window = window
        self._at_once = 1 if self.is_half_open else max(1, int(window))

    @property
    def is_idle(self) -> bool:
        return not self.ready and not self.in_flight and not self.unrecorded

    @property
    def known(self) -> list[str]:
        """The deliveries that need not be asked for."""
        return [*self.in_flight, *self.unrecorded, *self.ready]

    def knows(self, delivery_id: str) -> bool:
        return delivery_id in self.in_flight or delivery_id in self.unrecorded or delivery_id in self.ready

    def is_closed(self, now: float) -> bool:
        """Whether nothing may be sent for long."""
        return self.is_ending or self._is_paused or self._closed_until > now

    def takes_more(self, now: float) -> bool:
        """Whether what is new comes next: nothing that was due before waits in the store."""
        return (self.more_at is None or self.more_at > now) and not self.is_closed(now)

    def wait_s(self, now: float) -> float | None:
        """0 when a POST may start now, else how long until that may change; None when only an answer changes it."""
        if self.is_closed(now) or len(self.in_flight) >= self._at_once:
            return None
        wait = self._next_start - now
        return wait if wait > 0 else 0.0

    def start(self, delivery_id: str, now: float) -> None:
        self.in_flight.add(delivery_id)
        self.used_at = now
        if self._interval_s:
            # A late start lets the next one catch up by half an interval at most: so no second sees more than the rate
            # and one, even when what is between us and the receiver adds as much again.
            self._next_start = max(self._next_start + self._interval_s, now + self._interval_s / 2)

    def succeed(self, delivery_id: str, now: float, wall: datetime) -> None:
        self._end(delivery_id, now, is_success=True)
        self._last_success = now
        self._failing_since = None
        self._closed_until = float("-inf")
        if self._window < self.limits.concurrency:
            self._set_window(min(self.limits.concurrency, self._window + _WINDOW_GROWTH))
        self._succeeded_at = wall
        if not self.is_trusted or self.target.failures_in_row or self.is_half_open:
            self._learn(failures_in_row=0, failing_since=None, open_until=None)

    def fail(self, delivery_id: str, now: float, wall: datetime, *, status: int, hold: timedelta | None) -> bool:
        """Note a failed attempt; `hold` is the receiver's own wish (Retry-After). Says whether the target was paused.

        Time during which the breaker is open costs its deliveries no attempt.
        """
        was_probe = self.is_half_open
        self._end(delivery_id, now, is_success=False)
        if status in _SLOWED_BY:
            self._set_window(max(1.0, self._window / 2))
        if self._failing_since is None:
            self._failing_since = now
        failing_since = self.target.failing_since or wall
        self._learn(failures_in_row=self.target.failures_in_row + 1, failing_since=failing_since)
        if was_probe or self._is_tripped(now):
            hold = max(hold or timedelta(0), timedelta(seconds=self.limits.probe_s))
        if hold:
            self._closed_until = max(self._closed_until, now + hold.total_seconds())
            self._learn(open_until=wall + hold)
        if now - self._failing_since < self.limits.give_up.total_seconds():
            return False
        self.pause(f"no success since {failing_since:%Y-%m-%d %H:%M} UTC")
        return True

    def more_in(self, wait_s: float, now: float) -> None:
        """Note that the store will have something due then."""
        self.more_at = now + wait_s if self.more_at is None else min(self.more_at, now + wait_s)

    def neutral(self, delivery_id: str, now: float) -> None:
        """Note an end that says nothing about the receiver."""
        self.in_flight.discard(delivery_id)
        self.used_at = now

    def has_news(self, now: float) -> bool:
        """Whether the store is to be told what was learnt: a success more is news once a second."""
        return not self._is_told or now - self._told_at >= _NEWS_S

    def lease_as_of(self, now: float, wall: datetime) -> TargetLease:
        """The lease with what was learnt under it, to be told. `open_until` is by the wall's clock as it is now."""
        if self.target.open_until is not None:
            self._learn(open_until=wall + timedelta(seconds=max(0.0, self._closed_until - now)))
        self._learn()
        self._is_told, self._told_at = True, now
        return replace(self.lease, target=self.target)

    def adopt(self, lease: TargetLease, now: float, wall: datetime) -> None:
        """Go on under a new lease: ours had run out, or was given up, and nobody else took it."""
        self.lease = lease
        self._set_target(lease.target)
        self.is_ending = False
        self._read_stamps(now, wall)

    def _read_stamps(self, now: float, wall: datetime) -> None:
        """Take over what the store knows. Whoever leases a target may send: its `open_until` has passed."""
        target = self.target
        self._closed_until = float("-inf")
        self._failing_since = None
        if target.last_success_at is not None:
            self._last_success = now - (wall - target.last_success_at).total_seconds()
        if target.failing_since is not None:
            self._failing_since = now - (wall - target.failing_since).total_seconds()

    def know(self, target: Target) -> None:
        """Take over what an operator set in the store."""
        if (target.secrets, target.rate_per_s) != (self.target.secrets, self.target.rate_per_s):
            self._learn(secrets=target.secrets, rate_per_s=target.rate_per_s)

    def pause(self, reason: str) -> None:
        self._learn(state=TargetState.PAUSED, paused_reason=reason)

    def _learn(self, **changes: Any) -> None:
        self._is_told &= not changes
        if self._succeeded_at is not None:
            changes["last_success_at"], self._succeeded_at = self._succeeded_at, None
        if not changes:
            return
        self._set_target(replace(self.target, **changes))

    def _end(self, delivery_id: str, now: float, *, is_success: bool) -> None:
        self.in_flight.discard(delivery_id)
        self.used_at = now
        self._outcomes.append((now, is_success))

    def _is_tripped(self, now: float) -> bool:
        if now - self._last_success < self.limits.quiet_s:
            return False
        if self.target.failures_in_row >= self.limits.failures_in_row:
            return True
        while self._outcomes[0][0] < now - self.limits.window_s:
            self._outcomes.popleft()
        failures = sum(not is_success for _, is_success in self._outcomes)
        count = len(self._outcomes)
        return count >= self.limits.window_attempts and failures >= self.limits.failure_share * count
