"""Sends what the outbox holds: leases targets, makes attempts under their limits, records each of them.

Whoever holds a target knows its concurrency, rate, breaker and sequence locally. A delivery is numbered and committed
before it is sent, and stays due in the store until its attempt is recorded, so a crash at any point repeats it with the
same id and the same bytes, and never loses it.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from cloudfinite.domain.delivery import AttemptResult, Delivery, DeliveryState, RetrySchedule
from cloudfinite.errors import CloudfiniteError
from cloudfinite.ports import CallbackSender, Clock, Store
from cloudfinite.service.attempts import Ending, follow_up, make_attempt
from cloudfinite.service.batching import Batcher
from cloudfinite.service.delivery_metrics import DelivererMetrics
from cloudfinite.service.loops import Loop
from cloudfinite.service.outbox import BATCH, READY, Found, Wanted, look, record
from cloudfinite.service.signing import Signer
from cloudfinite.service.targets import HeldTarget, TargetLimits

log = structlog.get_logger()

_FRESH = 1_000  # deliveries handed over in memory; more are read from the store
_TRUSTED_SHARE = 4  # a quarter of the sockets is kept for receivers that answered lately
_HELD_PER_SLOT = 2  # targets held at once: enough that slots are never empty for want of a look at the store
_CROWDED_S = 0.1  # between looks when more targets wait than can be held
_FIGURES_S = 1.0
_COUNT_EVERY = 10  # turns of the figures between two counts of all that waits
_RECORD_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class DelivererSettings:
    """`slots` are attempts at once over all targets; a stall of `stall` turns readiness red; `drain` bounds a stop."""

    schedule: RetrySchedule
    limits: TargetLimits = TargetLimits()  # noqa: RUF009 – frozen
    slots: int = 750
    lease: timedelta = timedelta(seconds=10)
    poll: timedelta = timedelta(seconds=5)
    stall: timedelta = timedelta(seconds=3)
    drain: timedelta = timedelta(seconds=20)


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
        self._metrics = DelivererMetrics(registry)
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._on_held_elsewhere = on_held_elsewhere  # told when another process is to send what we were given
        self._held: dict[str, HeldTarget] = {}
        self._fresh: list[Delivery] = []
        self._rings: tuple[dict[str, None], dict[str, None]] = ({}, {})  # URLs that may send: trusted, others
        self._hungry: set[str] = set()
        self._leaving: set[str] = set()
        self._unreleased: set[str] = set()
        self._looks = 0
        self._is_looking = False
        self._timers: list[tuple[float, str]] = []
        self._scan_at = 0.0
        self._owned_until = 0.0
        self._attempts: set[asyncio.Task[None]] = set()
        self._untrusted = 0
        self._is_stopping = False
        self._late = timedelta(0)
        self._turns = 0
        self._woken = asyncio.Event()
        self._recorder: Batcher[tuple[HeldTarget, AttemptResult]] = Batcher(self._record)
        self._loops = [
            Loop("deliver.send", self._turn, self._pause),
            Loop("deliver.renew", self._renew_turn, self._renew_pause),
            Loop("deliver.figures", self._figures_turn, self._figures_pause),
        ]

    # --- for the application ----------------------------------------------------------------------------------------

    @property
    def loops(self) -> list[Loop]:
        return self._loops

    @property
    def is_stalled(self) -> bool:
        """Whether something due has been nobody's for too long."""
        return self._late > self._settings.stall

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
            if held := self._held.get(url):
                held.is_ending = True  # it is leased anew when something is due, with all that changed
                self._arrange(held)
        if urls or not deliveries:
            self._scan_at = 0.0
        self._woken.set()

    async def stop(self) -> None:
        """Start no attempt; let those under way end and be recorded; free the targets."""
        self._is_stopping = True
        send, renew, figures = self._loops
        await send.stop()
        await figures.stop()
        if self._attempts:
            _, late = await asyncio.wait(self._attempts, timeout=self._settings.drain.total_seconds())
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._recorder.drain(), self._settings.drain.total_seconds())
        await renew.stop()
        try:
            await self._store.run(lambda tx: tx.deliveries.release_all(self._owner))
        except CloudfiniteError as exc:
            log.warning("deliver.release_failed", reason=exc.message)  # the leases end by themselves

    # --- the loop ---------------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        self._woken.clear()
        self._fire_timers()
        fresh, self._fresh = self._fresh[:BATCH], self._fresh[BATCH:]
        wanted = self._wanted(fresh)
        if wanted is not None:
            versions = {url: held.version for url, held in self._held.items()}
            self._take_in(await self._look(wanted), fresh, versions)
        self._start_attempts()

    async def _look(self, wanted: Wanted) -> Found:
        self._looks += 1
        self._is_looking = True
        try:
            found = await self._store.run(look, self._owner, self._settings.lease, wanted)
        except CloudfiniteError:
            self._scan_at = 0.0  # what was fresh is found in the store
            self._hungry |= {url for url, _, _ in wanted.fill}
            raise
        finally:
            self._is_looking = False
        self._unreleased -= set(wanted.leave)
        return found

    def _wanted(self, fresh: Sequence[Delivery]) -> Wanted | None:
        now = self._monotonic()
        is_scan = now >= self._scan_at
        most = _HELD_PER_SLOT * self._settings.slots
        if is_scan and len(self._held) >= most:
            self._make_room()
        for url in self._leaving:
            self._let_go(url)
        self._leaving.clear()
        room = max(0, most - len(self._held))
        leave = sorted(self._unreleased)
        fill = [
            (held.url, READY - len(held.ready), held.known)
            for held in map(self._held.get, self._hungry)
            if held is not None
        ]
        self._hungry.clear()
        if not (fresh or is_scan or leave or fill):
            return None
        if is_scan:
            self._scan_at = now + self._settings.poll.total_seconds()
        return Wanted(tuple(delivery.id for delivery in fresh), is_scan, room, fill, leave)

    def _make_room(self) -> None:
        """Give up targets that have no attempt under way: the store hands them out by how long they have waited."""
        for url, held in self._held.items():
            if not held.in_flight:
                held.ready.clear()
                self._leaving.add(url)

    def _let_go(self, url: str) -> None:
        """Forget a held target, and release it soon, unless something happened to it meanwhile."""
        held = self._held.get(url)
        if held is not None and held.is_idle:
            del self._held[url]
            self._set_aside(url)
            self._unreleased.add(url)

    def _set_aside(self, url: str) -> None:
        for ring in self._rings:
            ring.pop(url, None)
        self._hungry.discard(url)

    def _take_in(self, found: Found, fresh: Sequence[Delivery], versions: dict[str, int]) -> None:
        now, wall = self._monotonic(), self._clock()
        for lease in found.leases:
            url = lease.target.url
            if held := self._held.get(url):
                held.adopt(lease)
            else:
                self._held[url] = HeldTarget(lease, self._settings.limits, now, wall)
                versions[url] = 0
        for url, (deliveries, wait) in found.due.items():
            if held := self._held.get(url):
                known = set(held.known)
                held.ready += (delivery for delivery in deliveries if delivery.id not in known)
                is_stale = held.version != versions.get(url)
                held.more_at = 0.0 if is_stale else (None if wait is None else now + wait.total_seconds())
        touched = set(found.due)
        for url in found.admission.urls - found.due.keys():
            if held := self._held.get(url):  # another process made deliveries for a target that we hold
                held.more_in(0.0, now)
                touched.add(url)
        is_elsewhere = False
        for delivery in fresh:
            sequence = found.admission.sequences.get(delivery.id)
            held = self._held.get(delivery.url)
            if sequence is None or held is None:
                is_elsewhere |= sequence is None
                continue  # another process holds the target, or it is woken when it may be sent to
            touched.add(delivery.url)
            if delivery.id in held.known:
                continue
            is_next = held.more_at is None or held.more_at > now
            if is_next and len(held.ready) < READY:
                held.ready.append(replace(delivery, sequence=sequence))
            else:
                held.more_in(0.0, now)
        if is_elsewhere:
            self._on_held_elsewhere()
        for url in touched:
            if held := self._held.get(url):
                self._arrange(held)
        if not found.admission.is_complete:
            self._scan_at = 0.0
        elif found.next_wake is not None:
            is_crowded = len(self._held) >= _HELD_PER_SLOT * self._settings.slots
            wait_s = max(found.next_wake.total_seconds(), _CROWDED_S if is_crowded else 0.0)
            self._scan_at = min(self._scan_at, now + wait_s)

    async def _pause(self) -> None:
        """Sleep until the next thing due, or until woken; the poll is the safety net."""
        if self._hungry or self._leaving or self._fresh:
            await asyncio.sleep(0)
            return
        until = min(self._scan_at, self._timers[0][0]) if self._timers else self._scan_at
        # Not `wait_for`: until Python 3.12 it loses a cancellation that comes together with the wake.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, until - self._monotonic())):
                await self._woken.wait()

    # --- which target may send, and when ----------------------------------------------------------------------------

    def _arrange(self, held: HeldTarget) -> None:
        """Put a target where it belongs after something changed: a ring, the timers, the hungry or the leaving."""
        now, wall = self._monotonic(), self._clock()
        if held.is_closed(wall):
            # The store wakes us, or somebody else, when something may be sent again.
            held.ready.clear()
            self._set_aside(held.url)
            if held.is_idle:
                self._leaving.add(held.url)
                self._woken.set()
            return
        wait = held.wait_s(now, wall)
        if held.ready and wait == 0:
            self._rings[not held.is_trusted][held.url] = None
        elif held.ready and wait:
            self._arm(now + wait, held)
        if held.more_at is None or len(held.ready) >= self._settings.limits.concurrency:
            return
        if held.more_at <= now:
            self._hungry.add(held.url)
            self._woken.set()
        elif held.more_at < now + self._settings.lease.total_seconds():
            self._arm(held.more_at, held)  # later ones: an idle target is released, and the store wakes us

    def _arm(self, at: float, held: HeldTarget) -> None:
        if held.armed_at is not None and held.armed_at <= at:
            return
        held.armed_at = at
        if not self._timers or at < self._timers[0][0]:
            self._woken.set()
        heapq.heappush(self._timers, (at, held.url))

    def _fire_timers(self) -> None:
        now = self._monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, url = heapq.heappop(self._timers)
            if held := self._held.get(url):
                held.armed_at = None
                self._arrange(held)

    def _start_attempts(self) -> None:
        """Give the free slots to targets in turn; those that did not answer lately get a part of them only."""
        if self._is_stopping or self._monotonic() >= self._owned_until:
            return
        slots = self._settings.slots
        trusted, others = self._rings
        while len(self._attempts) < slots and trusted:
            self._start_next(trusted)
        while len(self._attempts) < slots and others and self._untrusted < slots - slots // _TRUSTED_SHARE:
            self._start_next(others)

    def _start_next(self, ring: dict[str, None]) -> None:
        url = next(iter(ring))
        del ring[url]
        held = self._held.get(url)
        if held is None or not held.ready:
            return
        if held.wait_s(self._monotonic(), self._clock()) == 0:
            delivery = held.ready.popleft()
            held.start(delivery.id, self._monotonic())
            is_untrusted = not held.is_trusted
            self._untrusted += is_untrusted
            task = asyncio.get_running_loop().create_task(self._attempt(held, delivery), name=delivery.id)
            self._attempts.add(task)
            self._metrics.in_flight.set(len(self._attempts))
            task.add_done_callback(partial(self._attempt_ended, is_untrusted))
        self._arrange(held)

    def _attempt_ended(self, was_untrusted: bool, task: asyncio.Task[None]) -> None:
        self._untrusted -= was_untrusted
        self._attempts.discard(task)
        self._metrics.in_flight.set(len(self._attempts))
        self._start_attempts()

    # --- one attempt ------------------------------------------------------------------------------------------------

    async def _attempt(self, held: HeldTarget, delivery: Delivery) -> None:
        ending = await make_attempt(delivery, held.target, self._sender, self._signer, self._clock)
        result = follow_up(delivery, ending, self._settings.schedule, self._jitter())
        held.unrecorded.add(delivery.id)
        self._learn(held, delivery, ending)
        self._tell(delivery, ending, result)
        self._recorder.add((held, result))
        self._arrange(held)

    def _learn(self, held: HeldTarget, delivery: Delivery, ending: Ending) -> None:
        now, wall = self._monotonic(), self._clock()
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

    def _tell(self, delivery: Delivery, ending: Ending, result: AttemptResult) -> None:
        attempt = ending.attempt
        self._metrics.attempts.labels(ending.metric).inc()
        self._metrics.attempt_s.observe(attempt.total_s)
        told = {"delivery_id": delivery.id, "job_id": delivery.job_id, "attempt": attempt.number}
        match result.state:
            case DeliveryState.DELIVERED:
                self._metrics.latency_s.observe((self._clock() - delivery.created_at).total_seconds())
                log.debug("delivery.delivered", **told)
            case DeliveryState.WAITING:
                wait_s = round(result.wait.total_seconds(), 1)
                log.info("delivery.failed", **told, outcome=attempt.outcome, reason=attempt.message, next_s=wait_s)
            case _:
                log.warning("delivery.given_up", **told, outcome=attempt.outcome, reason=attempt.message)

    async def _record(self, ended: Sequence[tuple[HeldTarget, AttemptResult]]) -> None:
        """Commit attempts. While the store cannot take them they wait here, and their targets with them."""
        targets = {held.url: held for held, _ in ended}
        results = [result for _, result in ended]
        while True:
            leases = [held.lease for held in targets.values()]
            try:
                lost = await self._store.run(record, results, leases)
                break
            except CloudfiniteError as exc:
                log.warning("deliver.record_failed", attempts=len(results), reason=exc.message)
                await asyncio.sleep(_RECORD_RETRY_S)
        now = self._monotonic()
        for held, result in ended:
            held.unrecorded.discard(result.attempt.delivery_id)
            held.version += 1
            if result.state is DeliveryState.WAITING:
                held.more_in(result.wait.total_seconds(), now)
        for url in lost:
            targets[url].is_ending = True
            log.warning("target.lease_lost", url=url)
        for held in targets.values():
            self._arrange(held)
        self._start_attempts()

    # --- leases, figures --------------------------------------------------------------------------------------------

    async def _renew_turn(self) -> None:
        now = self._monotonic()
        if self._held:
            held_before, looks = set(self._held), self._looks
            ours = await self._store.run(lambda tx: tx.deliveries.renew(self._owner, self._settings.lease))
            for url in held_before - ours.keys():
                if held := self._held.get(url):
                    held.is_ending = True
                    self._arrange(held)
            if looks == self._looks and not self._is_looking:
                # Leased by a transaction whose end we never learnt.
                self._unreleased |= ours.keys() - self._held.keys()
            for url, target in ours.items():
                if held := self._held.get(url):
                    held.know_secrets(target.secrets)
        self._owned_until = now + self._settings.lease.total_seconds()
        for url, held in list(self._held.items()):
            if held.is_idle and now - held.used_at > self._renew_s:
                self._leaving.add(url)
            elif not held.is_ending:
                held.more_in(0.0, now)  # another process may have made something due
                self._arrange(held)
        if self._leaving or self._unreleased:
            self._woken.set()
        self._start_attempts()

    @property
    def _renew_s(self) -> float:
        return self._settings.lease.total_seconds() / 3

    async def _renew_pause(self) -> None:
        await asyncio.sleep(self._renew_s)

    async def _figures_turn(self) -> None:
        is_count = self._turns % _COUNT_EVERY == 0
        self._turns += 1
        self._late = await self._store.read(lambda tx: tx.deliveries.late())
        self._metrics.late_s.set(self._late.total_seconds())
        if is_count:
            waiting, oldest_at = await self._store.read(lambda tx: tx.deliveries.backlog())
            self._metrics.waiting.set(waiting)
            self._metrics.oldest_s.set((self._clock() - oldest_at).total_seconds() if oldest_at else 0)

    async def _figures_pause(self) -> None:
        await asyncio.sleep(_FIGURES_S)
