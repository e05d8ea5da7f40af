"""One held target: what its holder knows of a receiver, and whether the next POST may go there now.

Pure decisions; times are the monotonic clock's unless they end in `_at`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cloudfinite.domain.delivery import Delivery, Target, TargetLease, TargetSecret, TargetState


@dataclass(frozen=True, slots=True)
class TargetLimits:
    """How a target is treated.

    concurrency: POSTs at once. rate_per_s: POSTs started per second, 0 for no limit. The breaker opens after
    `failures_in_row`, or a share of `failure_share` in at least `window_attempts` attempts of the last `window_s`, but
    only when the last success is `quiet_s` old: a flapping receiver keeps its traffic. Then one probe every `probe_s`.
    A target is paused after `give_up` without success.
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


@dataclass(slots=True)
class HeldTarget:
    """`ready` are due deliveries in memory; `more_at` is when the store has more (0: now, None: it has none).

    unrecorded are those whose attempt has ended but is not yet in the store, which still shows them as due. version
    changes with each thing that may make `more_at` stale. is_ending: no more attempts, to be let go of.
    """

    lease: TargetLease
    limits: TargetLimits
    now: float
    wall: datetime
    ready: deque[Delivery] = field(default_factory=deque)
    in_flight: set[str] = field(default_factory=set)
    unrecorded: set[str] = field(default_factory=set)
    more_at: float | None = 0.0
    version: int = 0
    used_at: float = 0.0
    armed_at: float | None = None
    is_ending: bool = False
    _window: float = 0.0
    _next_start: float = 0.0
    _last_success: float = float("-inf")
    _outcomes: deque[tuple[float, bool]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._window = self.limits.concurrency
        self.used_at = self.now
        if self.target.last_success_at is not None:
            self._last_success = self.now - (self.wall - self.target.last_success_at).total_seconds()
        if self.limits.rate_per_s:
            # The holder before us may have sent just now.
            self._next_start = self.now + 1 / self.limits.rate_per_s

    @property
    def url(self) -> str:
        return self.lease.target.url

    @property
    def target(self) -> Target:
        return self.lease.target

    @property
    def is_idle(self) -> bool:
        return not self.ready and not self.in_flight and not self.unrecorded

    @property
    def known(self) -> list[str]:
        """The deliveries that need not be asked for."""
        return [*self.in_flight, *self.unrecorded, *(delivery.id for delivery in self.ready)]

    @property
    def is_trusted(self) -> bool:
        """Whether the receiver answered lately; the others share a part of the sockets."""
        return self.target.last_success_at is not None and self.target.failing_since is None

    @property
    def is_half_open(self) -> bool:
        """Whether the breaker was open: one probe decides."""
        return self.target.open_until is not None

    def is_closed(self, wall: datetime) -> bool:
        """Whether nothing may be sent for long."""
        target = self.target
        is_open = target.open_until is not None and target.open_until > wall
        return self.is_ending or target.state is TargetState.PAUSED or is_open

    def wait_s(self, now: float, wall: datetime) -> float | None:
        """0 when a POST may start now, else how long until that may change; None when only an answer changes it."""
        if self.is_closed(wall):
            return None
        if len(self.in_flight) >= (1 if self.is_half_open else max(1, int(self._window))):
            return None
        return max(0.0, self._next_start - now)

    def start(self, delivery_id: str, now: float) -> None:
        self.in_flight.add(delivery_id)
        self.used_at = now
        if self.limits.rate_per_s:
            # Paced; a start that came late lets the next one catch up by one interval at most, so that no second
            # sees more than the rate and one.
            self._next_start = max(self._next_start + 1 / self.limits.rate_per_s, now)

    def succeed(self, delivery_id: str, now: float, wall: datetime) -> None:
        self._end(delivery_id, now, is_success=True)
        self._last_success = now
        self._window = min(self.limits.concurrency, self._window + _WINDOW_GROWTH)
        self._learn(failures_in_row=0, failing_since=None, open_until=None, last_success_at=wall)

    def fail(self, delivery_id: str, now: float, wall: datetime, *, status: int, hold: timedelta | None) -> bool:
        """Note a failed attempt; `hold` is the receiver's own wish (Retry-After). Says whether the target was paused.

        Time during which the breaker is open costs its deliveries no attempt.
        """
        was_probe = self.is_half_open
        self._end(delivery_id, now, is_success=False)
        if status in _SLOWED_BY:
            self._window = max(1.0, self._window / 2)
        failing_since = self.target.failing_since or wall
        self._learn(failures_in_row=self.target.failures_in_row + 1, failing_since=failing_since)
        if was_probe or self._is_tripped(now):
            hold = max(hold or timedelta(0), timedelta(seconds=self.limits.probe_s))
        if hold:
            self._learn(open_until=max(wall + hold, self.target.open_until or wall))
        if wall - failing_since < self.limits.give_up:
            return False
        self.pause(f"no success since {failing_since:%Y-%m-%d %H:%M} UTC")
        return True

    def more_in(self, wait_s: float, now: float) -> None:
        """Note that the store will have something due then."""
        self.version += 1
        self.more_at = now + wait_s if self.more_at is None else min(self.more_at, now + wait_s)

    def neutral(self, delivery_id: str, now: float) -> None:
        """Note an end that says nothing about the receiver."""
        self.in_flight.discard(delivery_id)
        self.used_at = now

    def adopt(self, lease: TargetLease) -> None:
        """Go on under a new lease: ours had run out, or was given up, and nobody else took it."""
        self.lease = lease
        self.is_ending = False

    def know_secrets(self, secrets: tuple[TargetSecret, ...]) -> None:
        if secrets != self.target.secrets:
            self._learn(secrets=secrets)

    def pause(self, reason: str) -> None:
        self._learn(state=TargetState.PAUSED, paused_reason=reason)
        self.ready.clear()

    def _learn(self, **changes: object) -> None:
        self.lease = replace(self.lease, target=replace(self.lease.target, **changes))  # type: ignore[arg-type]

    def _end(self, delivery_id: str, now: float, *, is_success: bool) -> None:
        self.in_flight.discard(delivery_id)
        self.used_at = now
        self._outcomes.append((now, is_success))
        while len(self._outcomes) > 1_000 or self._outcomes[0][0] < now - self.limits.window_s:
            self._outcomes.popleft()

    def _is_tripped(self, now: float) -> bool:
        if now - self._last_success < self.limits.quiet_s:
            return False
        if self.target.failures_in_row >= self.limits.failures_in_row:
            return True
        failures = sum(not is_success for _, is_success in self._outcomes)
        count = len(self._outcomes)
        return count >= self.limits.window_attempts and failures >= self.limits.failure_share * count
