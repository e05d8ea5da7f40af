"""Sends what the outbox holds: leases targets, makes attempts under their limits, records each of them.

Whoever holds a target knows its concurrency, rate, breaker and sequence locally. A delivery is numbered and committed
before it is sent, and stays due in the store until its attempt is recorded, so a crash at any point repeats it with the
same id and the same bytes, and never loses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from prometheus_client import CollectorRegistry

from cloudfinite.domain.delivery import (
    UNKNOWN_OUTCOME,
    Admission,
    AttemptResult,
    Delivery,
    DeliveryState,
    RetrySchedule,
)
from cloudfinite.errors import CloudfiniteError
from cloudfinite.ports import CallbackSender, Clock, Store
from cloudfinite.service.attempts import Ending, follow_up, make_attempt
from cloudfinite.service.delivery_metrics import DelivererMetrics
from cloudfinite.service.delivery_watch import STALL
from cloudfinite.service.holdings import Holdings
from cloudfinite.service.loops import Loop
from cloudfinite.service.outbox import BATCH, READY, Found, Wanted, leave, look
from cloudfinite.service.recorder import Recorder
from cloudfinite.service.signing import Signer
from cloudfinite.service.targets import HeldTarget, TargetLimits

log = structlog.get_logger()

_FRESH = 2_000  # deliveries handed over in memory, and as many that are due; more are read from the store
_MOST_READY = 128  # per target
_TRUSTED_SHARE = 4  # a quarter of the sockets is kept for receivers that answered lately
_HELD_PER_SLOT = 2  # targets held at once: enough that slots are never empty for want of a look at the store
_CROWDED_S = 0.1  # between looks when more targets wait than can be held
_RENEWALS = 5  # in the time of one lease: a holder that misses two of them is seen to be frozen
_IDLE_RENEWALS = 2  # without anything to do, then a target is let go


@dataclass(frozen=True, slots=True)
class DelivererSettings:
    """`slots` are attempts at once over all targets; `drain` bounds a stop."""

    schedule: RetrySchedule
    limits: TargetLimits = TargetLimits()  # noqa: RUF009 – frozen
    slots: int = 750
    lease: timedelta = timedelta(seconds=10)
    poll: timedelta = timedelta(seconds=5)
    drain: timedelta = timedelta(seconds=20)

    @property
    def renew(self) -> timedelta:
        """Between two renewals of the leases."""
        return self.lease / _RENEWALS


class Deliverer:
    """One per process that delivers. `owner` must be new for each start of a process."""

    def __init__(
        self,
        store: Store,
        sender: CallbackSender,
        signer: Signer,
        owner: str,
        settings: DelivererSettings,
        registry: CollectorRegistry,
        *,
        clock: Clock,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
        on_held_elsewhere: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._sender = sender
        self._signer = signer
        self._owner = owner
        self._settings = settings
        self._log = log.bind()  # looked up once, not for each delivery
        self._metrics = DelivererMetrics(registry, lambda: len(self._attempts))
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._on_held_elsewhere = on_held_elsewhere  # told when another process is to send what we were given
        self._fresh: list[Delivery] = []
        self._unreleased: set[str] = set()
        self._looks = 0
        self._looking_since: float | None = None
        self._scan_at = 0.0
        self._owned_until = 0.0
        self._attempts: dict[str, asyncio.Task[None]] = {}  # by delivery id
        self._untrusted = 0
        self._is_stopping = False
        self._woken = asyncio.Event()
        self._holdings = Holdings(
            settings.limits.concurrency,
            settings.lease.total_seconds(),
            monotonic=monotonic,
            wake=self._woken.set,
        )
        self._recorder = Recorder(store, self._recorded, clock=clock, monotonic=monotonic)
        self._loops = [
            Loop("deliver.send", self._turn, self._pause),
            Loop("deliver.renew", self._renew_turn, self._renew_pause),
        ]

    # --- for the application ----------------------------------------------------------------------------------------

    @property
    def loops(self) -> list[Loop]:
        return self._loops

    @property
    def is_stalled(self) -> bool:
        """Whether the store has been silent for too long when asked what to send, or told what was sent."""
        looking_s = 0.0 if self._looking_since is None else self._monotonic() - self._looking_since
        return max(looking_s, self._recorder.busy_s) > STALL.total_seconds()

    async def recover(self) -> None:
        """Free the targets that dead processes held; for SQLite's start only, where one process owns the database."""
        await self._store.run(lambda tx: tx.deliveries.release_all())

    def start(self) -> None:
        self._owned_until = self._monotonic() + self._settings.lease.total_seconds()
        for loop in self._loops:
            loop.start()

    def wake(self, deliveries: Sequence[Delivery] = (), urls: Sequence[str] = ()) -> None:
        """Send deliveries just committed; note that targets were changed in the store; without either, look at all.

        From the event loop's thread only.
        """
        if len(self._fresh) + len(deliveries) <= _FRESH:
            self._fresh += deliveries
        else:
            self._scan_at = 0.0
        for url in urls:
            if held := self._holdings.get(url):
                held.is_ending = True  # it is leased anew when something is due, with all that changed
                self._holdings.arrange(held)
        if urls or not deliveries:
            self._scan_at = 0.0
        self._woken.set()

    async def stop(self) -> None:
        """Start no attempt; let those under way end and be recorded; free the targets."""
        self._is_stopping = True
        log.info("deliver.draining", attempts=len(self._attempts))
        send, renew = self._loops
        await send.stop()
        if self._attempts:
            _, late = await asyncio.wait(self._attempts.values(), timeout=self._settings.drain.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._recorder.drain(self._settings.drain)
        await renew.stop()
        self._holdings.put_all_back()
        try:
            await self._store.run(leave, self._owner, sorted(self._holdings.unsent))
        except CloudfiniteError as exc:
            log.warning("deliver.release_failed", reason=exc.message)  # the leases end by themselves

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        self._woken.clear()
        self._holdings.fire_timers()
        fresh, self._fresh = self._fresh[:BATCH], self._fresh[BATCH:]
        wanted = self._wanted(fresh)
        if wanted is not None:
            versions = {held.url: held.version for held in self._holdings}
            self._take_in(await self._look(wanted), fresh, wanted.keep, versions)
        self._start_attempts()

    async def _look(self, wanted: Wanted) -> Found:
        self._looks += 1
        self._looking_since = self._monotonic()
        try:
            found = await self._store.run(look, self._owner, self._settings.lease, wanted)
        except CloudfiniteError:
            self._scan_at = 0.0  # what was fresh is found in the store
            self._holdings.starve({url for url, _, _ in wanted.fill})
            self._holdings.unsent |= {*wanted.unsent}
            raise
        finally:
            self._looking_since = None
        self._unreleased -= set(wanted.leave)
        if found.bucket_secrets is not None:
            self._signer.know_buckets(found.bucket_secrets)
        return found

    def _wanted(self, fresh: Sequence[Delivery]) -> Wanted | None:
        now = self._monotonic()
        is_scan = now >= self._scan_at
        most = _HELD_PER_SLOT * self._settings.slots
        if is_scan and len(self._holdings) >= most:
            self._holdings.make_room()
        self._unreleased |= self._holdings.let_go()
        room = max(0, most - len(self._holdings))
        leave = sorted(self._unreleased)
        most_ready = self._most_ready
        fill = [(held.url, most_ready - len(held.ready), held.known) for held in self._holdings.take_hungry()]
        if not (fresh or is_scan or leave or fill):
            return None
        if is_scan:
            self._scan_at = now + self._settings.poll.total_seconds()
        unsent, self._holdings.unsent = sorted(self._holdings.unsent), set()
        return Wanted(tuple([one.id for one in fresh]), is_scan, room, fill, leave, self._room_for(fresh, now), unsent)

    def _room_for(self, fresh: Sequence[Delivery], now: float) -> frozenset[str]:
        """The new ones that may stay in memory, where they come next in their targets' turns."""
        room: dict[str, int] = {}
        kept: list[str] = []
        for delivery in fresh:
            url = delivery.url
            if url not in room:
                held = self._holdings.get(url)
                ready = len(held.ready) if held else 0
                room[url] = self._most_ready - ready if held is None or held.takes_more(now) else 0
            room[url] -= 1
            if room[url] >= 0:
                kept.append(delivery.id)
        return frozenset(kept)

    @property
    def _most_ready(self) -> int:
        """Due deliveries in memory per target: a backlog of few targets need not be read from the store in bits."""
        return max(READY, min(_MOST_READY, _FRESH // max(1, len(self._holdings))))

    def _take_in(self, found: Found, fresh: Sequence[Delivery], keep: frozenset[str], versions: dict[str, int]) -> None:
        now, wall = self._monotonic(), self._clock()
        adopted: set[str] = set()
        for lease in found.leases:
            url = lease.target.url
            if held := self._holdings.get(url):
                held.adopt(lease, now, wall)
                adopted.add(url)
            else:
                self._holdings.add(HeldTarget(lease, self._settings.limits, now, wall, more_at=None))
        for url, (deliveries, wait, unknown) in found.due.items():
            if unknown:
                self._metrics.attempts(UNKNOWN_OUTCOME).inc(unknown)
                log.warning("deliver.outcome_unknown", url=url, deliveries=unknown)
            if held := self._holdings.get(url):
                # Under a lease taken anew even what was under way is read as due, and may have ended since.
                if url in adopted and held.version != versions.get(url):
                    held.more_in(0.0, now)
                    continue
                held.ready.update((one.id, one) for one in deliveries if not held.knows(one.id))
                if wait is not None:
                    held.more_in(wait.total_seconds(), now)
        touched = set(found.due)
        for url in found.admission.urls - found.due.keys():
            if held := self._holdings.get(url):  # another process made deliveries for a target that we hold
                held.more_in(0.0, now)
                touched.add(url)
        touched |= self._take_fresh(found.admission, fresh, keep, now)
        for url in touched:
            if held := self._holdings.get(url):
                self._holdings.arrange(held)
        if not found.admission.is_complete:
            self._scan_at = 0.0
        elif found.next_wake is not None:
            is_crowded = len(self._holdings) >= _HELD_PER_SLOT * self._settings.slots
            wait_s = max(found.next_wake.total_seconds(), _CROWDED_S if is_crowded else 0.0)
            self._scan_at = min(self._scan_at, now + wait_s)

    def _take_fresh(
        self, admission: Admission, fresh: Sequence[Delivery], keep: frozenset[str], now: float
    ) -> set[str]:
        """Keep in memory what was handed over, where it is next in its target's turn; returns the targets' URLs."""
        touched: set[str] = set()
        is_elsewhere = False
        for delivery in fresh:
            sequence = admission.sequences.get(delivery.id)
            held = self._holdings.get(delivery.url)
            if sequence is None or held is None:
                is_elsewhere |= sequence is None and admission.is_complete
                continue  # another process holds the target, or it is woken when it may be sent to
            touched.add(delivery.url)
            if held.knows(delivery.id):
                continue
            if delivery.id in keep and held.takes_more(now):
                held.ready[delivery.id] = delivery.numbered(sequence)
                continue
            held.more_in(0.0, now)
            if delivery.id in keep:
                self._holdings.unsent.add(delivery.id)
        if is_elsewhere:
            self._on_held_elsewhere()
        return touched

    async def _pause(self) -> None:
        """Sleep until the next thing due, or until woken; the poll is the safety net."""
        if self._holdings.is_restless or self._fresh:
            await asyncio.sleep(0)
            return
        timer_at = self._holdings.next_timer_at
        until = self._scan_at if timer_at is None else min(self._scan_at, timer_at)
        # Not `wait_for`: until Python 3.12 it loses a cancellation that comes together with the wake.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - self._monotonic())):
                await self._woken.wait()

    def _start_attempts(self) -> None:
        """Give the free slots to targets in turn; those that did not answer lately get a part of them only."""
        if self._is_stopping or self._monotonic() >= self._owned_until:
            return
        slots, held = self._settings.slots, self._holdings
        while len(self._attempts) < slots and (target := held.next_trusted()):
            self._start_attempt(target)
        most = slots - slots // _TRUSTED_SHARE
        while len(self._attempts) < slots and self._untrusted < most and (target := held.next_other()):
            self._start_attempt(target)

    def _start_attempt(self, held: HeldTarget) -> None:
        _, delivery = held.ready.popitem(last=False)
        held.start(delivery.id, self._monotonic())
        is_untrusted = not held.is_trusted
        self._untrusted += is_untrusted
        attempt = self._attempt(held, delivery, is_untrusted=is_untrusted)
        self._attempts[delivery.id] = asyncio.get_running_loop().create_task(attempt, name=delivery.id)
        self._holdings.arrange(held)

    # --- one attempt ------------------------------------------------------------------------------------------------

    async def _attempt(self, held: HeldTarget, delivery: Delivery, *, is_untrusted: bool) -> None:
        try:
            ending = await make_attempt(delivery, held.target, self._sender, self._signer, self._clock)
            result = follow_up(delivery, ending, self._settings.schedule, self._jitter())
            wall = self._clock()
            self._learn(held, delivery, ending, wall)
            self._tell(delivery, ending, result, wall)
            self._recorder.add(held, result)
            self._holdings.arrange(held)
        finally:
            del self._attempts[delivery.id]
            self._untrusted -= is_untrusted
            self._start_attempts()

    def _learn(self, held: HeldTarget, delivery: Delivery, ending: Ending, wall: datetime) -> None:
        now = self._monotonic()
        if ending.is_success:
            held.succeed(delivery.id, now, wall)
        elif ending.is_refused or ending.reason == "internal":
            held.neutral(delivery.id, now)
        else:
            is_paused = held.fail(delivery.id, now, wall, status=ending.attempt.status, hold=ending.hold)
            if ending.is_gone and not is_paused:
                held.pause("the receiver answered 410 Gone")
                is_paused = True
            if is_paused:
                self._metrics.paused.inc()
                log.error("target.paused", url=held.url, reason=held.target.paused_reason)

    def _tell(self, delivery: Delivery, ending: Ending, result: AttemptResult, wall: datetime) -> None:
        attempt = ending.attempt
        self._metrics.attempts(ending.metric).inc()
        self._metrics.attempt_s.observe(attempt.total_s)
        told = {"delivery_id": delivery.id, "job_id": delivery.job_id, "attempt": attempt.number}
        if result.state is DeliveryState.DELIVERED:
            self._metrics.latency_s.observe((wall - delivery.created_at).total_seconds())
            self._log.debug("delivery.delivered", **told)
            return
        told |= {"outcome": attempt.outcome, "reason": attempt.message}
        if result.state is DeliveryState.WAITING:
            self._log.info("delivery.failed", **told, next_s=round(result.wait.total_seconds(), 1))
        else:
            self._log.warning("delivery.given_up", **told)

    def _recorded(self, targets: Iterable[HeldTarget]) -> None:
        for held in targets:
            self._holdings.arrange(held)
        self._start_attempts()

    # --- leases -----------------------------------------------------------------------------------------------------

    async def _renew_turn(self) -> None:
        now = self._monotonic()
        if len(self._holdings):
            held_before, looks = {held.url for held in self._holdings}, self._looks
            ours = await self._store.run(lambda tx: tx.deliveries.renew(self._owner, self._settings.lease))
            for url in held_before - ours.keys():
                if held := self._holdings.get(url):
                    held.is_ending = True
                    self._holdings.arrange(held)
            if looks == self._looks and self._looking_since is None:
                # Leased by a transaction whose end we never learnt.
                self._unreleased |= {url for url in ours if self._holdings.get(url) is None}
            for url, target in ours.items():
                if held := self._holdings.get(url):
                    held.know(target)
        self._owned_until = now + self._settings.lease.total_seconds()
        for held in self._holdings:
            if held.is_idle and now - held.used_at > _IDLE_RENEWALS * self._settings.renew.total_seconds():
                self._holdings.retire(held)
            elif not held.is_ending:
                held.more_in(0.0, now)  # another process may have made something due
                self._holdings.arrange(held)
        if self._holdings.is_restless or self._unreleased:
            self._woken.set()
        self._start_attempts()

    async def _renew_pause(self) -> None:
        await asyncio.sleep(self._settings.renew.total_seconds())
