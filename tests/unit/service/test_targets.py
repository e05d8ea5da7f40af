"""A held target's decisions with clocks that the test moves: breaker, pacing, slowing down, giving up."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from cloudfinite.domain.delivery import RetrySchedule, Target, TargetLease, TargetState
from cloudfinite.service.targets import HeldTarget, TargetLimits

WALL = datetime(2026, 1, 5, tzinfo=UTC)


class Receiver:
    """A target and the time; `say` lets one attempt end."""

    def __init__(self, limits: TargetLimits = TargetLimits(), target: Target | None = None) -> None:  # noqa: B008
        self.now = 1_000.0
        self.held = HeldTarget(TargetLease(target or Target("http://x/"), "me", 1), limits, self.now, self.wall)

    @property
    def wall(self) -> datetime:
        return WALL + timedelta(seconds=self.now - 1_000)

    @property
    def wait_s(self) -> float | None:
        return self.held.wait_s(self.now)

    def say(self, status: int, hold_s: float | None = None) -> bool:
        self.held.start("d", self.now)
        if 200 <= status < 300:
            self.held.succeed("d", self.now, self.wall)
            return False
        hold = None if hold_s is None else timedelta(seconds=hold_s)
        return self.held.fail("d", self.now, self.wall, status=status, hold=hold)


def test_breaker_opens_after_five_failures_in_a_row_and_a_probe_closes_it() -> None:
    receiver = Receiver()
    for _ in range(4):
        receiver.say(500)
    assert receiver.wait_s == 0
    receiver.say(500)
    assert receiver.held.is_closed(receiver.now)
    receiver.now += 30.1
    assert receiver.wait_s == 0
    receiver.held.start("probe", receiver.now)
    assert receiver.wait_s is None  # one probe only
    receiver.held.succeed("probe", receiver.now, receiver.wall)
    assert receiver.wait_s == 0 and not receiver.held.is_half_open


def test_failed_probe_keeps_the_breaker_open_for_another_interval() -> None:
    receiver = Receiver()
    probes = 0
    for _ in range(5):
        receiver.say(500)
    for _ in range(3_600):
        receiver.now += 1
        if receiver.wait_s == 0:
            receiver.say(503)
            probes += 1
    assert 110 <= probes <= 120  # at most one each 30 s for an hour


def test_flapping_receiver_keeps_most_of_its_traffic() -> None:
    for rate_per_s in (1, 10, 200):
        receiver, flip, sent = Receiver(), random.Random(7), 0
        for _ in range(5_000):
            receiver.now += 1 / rate_per_s
            if receiver.wait_s == 0:
                receiver.say(500 if flip.random() < 0.5 else 200)
                sent += 1
        assert sent >= 0.8 * 5_000


def test_mostly_failing_receiver_opens_the_breaker_by_its_share() -> None:
    receiver = Receiver()
    for n in range(14):
        receiver.now += 15
        receiver.say(200 if n % 4 == 0 else 500)
    assert receiver.held.is_closed(receiver.now)


def test_receivers_wish_holds_all_deliveries_back() -> None:
    receiver = Receiver()
    receiver.say(429, hold_s=120)
    receiver.now += 119
    assert receiver.wait_s is None
    receiver.now += 2
    assert receiver.wait_s == 0


def test_overloaded_receiver_gets_fewer_attempts_at_once_until_it_recovers() -> None:
    receiver = Receiver(replace(TargetLimits(), failures_in_row=100))
    receiver.say(502)
    receiver.say(504)
    receiver.held.start("a", receiver.now)
    assert receiver.wait_s is None
    receiver.held.succeed("a", receiver.now, receiver.wall)
    for _ in range(6):
        receiver.say(200)
    for name in "abc":
        receiver.held.start(name, receiver.now)
        assert receiver.wait_s == 0


def test_target_is_paused_after_five_days_without_success() -> None:
    receiver = Receiver()
    assert receiver.say(500) is False
    receiver.now += 5 * 86_400 - 60
    assert receiver.say(500) is False
    receiver.now += 120
    assert receiver.say(500) is True
    assert receiver.held.target.state is TargetState.PAUSED
    assert "no success since 2026-01-05" in receiver.held.target.paused_reason


def test_a_success_starts_the_five_days_anew() -> None:
    receiver = Receiver()
    receiver.say(500)
    receiver.now += 4 * 86_400
    receiver.say(200)
    receiver.now += 2 * 86_400
    assert receiver.say(500) is False


def test_new_lease_of_a_resumed_target_closes_its_breaker() -> None:
    receiver = Receiver()
    for _ in range(5):
        receiver.say(500)
    assert receiver.held.is_closed(receiver.now)
    receiver.held.adopt(TargetLease(Target("http://x/"), "me", 2), receiver.now, receiver.wall)
    assert receiver.wait_s == 0 and not receiver.held.is_half_open


def test_breaker_is_told_by_the_walls_clock_as_it_is_now() -> None:
    receiver = Receiver()
    for _ in range(5):
        receiver.say(500)
    receiver.now += 10
    set_back = receiver.wall - timedelta(hours=1)
    assert receiver.held.lease_as_of(receiver.now, set_back).target.open_until == set_back + timedelta(seconds=20)


def test_failures_are_told_to_the_store_at_once_and_more_successes_once_a_second() -> None:
    receiver = Receiver()

    def told() -> bool:
        news = receiver.held.has_news(receiver.now)
        if news:
            receiver.held.lease_as_of(receiver.now, receiver.wall)
        return news

    receiver.say(200)
    assert told()
    receiver.say(200)
    assert not told()
    receiver.say(500)
    assert told()
    receiver.say(200)  # the first after a failure
    assert told()
    receiver.say(200)
    receiver.now += 1
    assert told()
    assert receiver.held.target.last_success_at == receiver.wall - timedelta(seconds=1)


def test_rate_of_the_target_beats_the_general_one_from_the_next_start_on() -> None:
    receiver = Receiver(TargetLimits(rate_per_s=100))
    receiver.now += 1
    receiver.held.know(Target("http://x/", rate_per_s=2))
    receiver.held.start("a", receiver.now)
    receiver.held.neutral("a", receiver.now)
    assert receiver.wait_s is not None and receiver.wait_s >= 0.25
    receiver.held.know(Target("http://x/"))
    receiver.now += 0.5
    receiver.held.start("b", receiver.now)
    assert receiver.wait_s is not None and receiver.wait_s <= 0.01


def test_pacing_never_exceeds_the_rate_in_any_second_and_uses_it() -> None:
    for rate in (1, 10, 100):
        receiver, late = Receiver(TargetLimits(rate_per_s=rate)), random.Random(3)
        started: list[float] = []
        while len(started) < 10 * rate:
            receiver.now += receiver.wait_s or 0
            receiver.now += late.random() * 0.6 / rate  # the loop wakes late
            if receiver.wait_s == 0:
                receiver.held.start(str(len(started)), receiver.now)
                receiver.held.neutral(str(len(started)), receiver.now)
                started.append(receiver.now)
        busiest = max(sum(at <= other < at + 1 for other in started) for at in started)
        assert busiest <= rate + 1
        assert (len(started) - 1) / (started[-1] - started[0]) >= 0.9 * rate


def test_new_holder_of_a_paced_target_does_not_start_at_once() -> None:
    assert Receiver(TargetLimits(rate_per_s=1)).wait_s == 1


def test_default_schedule_outlasts_an_outage_of_72_hours() -> None:
    schedule = RetrySchedule.default(is_strict=True)
    delays = [schedule.delay(attempts, 0.0) for attempts in range(12)]
    assert delays[-1] is None and len([delay for delay in delays if delay is not None]) == 11
    assert sum((delay for delay in delays if delay), timedelta()) >= timedelta(hours=72)


def test_development_retries_after_one_second_first() -> None:
    schedule = RetrySchedule.default(is_strict=False)
    assert [schedule.delay(n, 0.0) for n in (0, 1, 2)] == [timedelta(seconds=n) for n in (0, 1, 5)]


def test_jitter_is_only_added_and_spreads_a_burst() -> None:
    schedule, source = RetrySchedule.default(is_strict=True), random.Random(5)
    base = schedule.delays[4]
    waits = [schedule.delay(4, source.random()) or timedelta() for _ in range(10_000)]
    assert min(waits) >= base and max(waits) <= base + min(base * 0.2, timedelta(minutes=15))
    per_second: dict[int, int] = {}
    for wait in waits:
        per_second[int(wait.total_seconds())] = per_second.get(int(wait.total_seconds()), 0) + 1
    assert max(per_second.values()) <= 2 * 10_000 / (base.total_seconds() * 0.2)


def test_jitter_of_long_delays_is_bounded() -> None:
    schedule = RetrySchedule.default(is_strict=True)
    assert (schedule.delay(10, 0.999) or timedelta()) - schedule.delays[10] <= timedelta(minutes=15)
