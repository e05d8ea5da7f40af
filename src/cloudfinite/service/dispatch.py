"""Takes jobs from the store under their queues' limits, runs them in the child processes and sees them to their end.

A lease says until when a running job is ours. A task renews all of ours; a sweep gives back those of workers that
died. Whatever happens, a job's end is one transaction that holds only while the lease's token does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cloudfinite.domain.job import Job, JobState, Lease, Outcome
from cloudfinite.errors import CloudfiniteError
from cloudfinite.ports import Pool, Store, Transaction
from cloudfinite.service.batching import Batcher
from cloudfinite.service.job_runner import Claimed, JobRunner, claim_jobs
from cloudfinite.service.jobs import Ends, finish_jobs, release_jobs
from cloudfinite.service.loops import Loop
from cloudfinite.service.object_files import in_time
from cloudfinite.service.outputs import Outputs
from cloudfinite.service.pace import Pace
from cloudfinite.service.sources import Sources
from cloudfinite.wire.operation import Operation

log = structlog.get_logger()

_SWEEP = 100  # expired leases given back per transaction
_FINISH_TRIES = 6  # at 0.2, 0.4 … s: a store that is away longer lets the lease end, and the job runs again


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """How long a lease holds, how long a drain waits for running jobs, how often the queue is looked at unasked.

    patience: how long a job may be ours and wait for a child that is busy.
    """

    lease: timedelta = timedelta(seconds=10)
    drain: timedelta = timedelta(seconds=30)
    poll: timedelta = timedelta(seconds=5)
    patience: timedelta = timedelta(milliseconds=200)


class DispatchMetrics:
    """What Prometheus shows of running jobs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ended = Counter(
            "cloudfinite_jobs_ended", "Jobs that ended, by tag and state", ["tag", "state"], registry=registry
        )
        self.running = Gauge("cloudfinite_jobs_running", "Jobs running in this process", registry=registry)
        self.run_s = Histogram(
            "cloudfinite_job_run_seconds", "Time from a job's start to its result", ["tag"], registry=registry
        )
        self.renew_late_s = Gauge(
            "cloudfinite_lease_renewal_late_seconds", "How late the last lease renewal was", registry=registry
        )
        self.lost = Counter("cloudfinite_leases_lost", "Leases that ended while their job ran here", registry=registry)


class Dispatcher:
    """One per process that runs jobs. `owner` must be new for each start of a process."""

    def __init__(
        self,
        store: Store,
        pool: Pool,
        sources: Sources,
        outputs: Outputs,
        operations: Mapping[str, Operation],
        owner: str,
        settings: DispatchSettings,
        on_claimed: Callable[[Sequence[Job]], None],
        on_finished: Callable[[Ends], None],
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._pool = pool
        self._runner = JobRunner(pool, sources, outputs, operations)
        self._locate = sources.locate
        self._outputs = outputs
        self._operations = operations
        self._owner = owner
        self._settings = settings
        self._on_claimed = on_claimed
        self._on_finished = on_finished
        self._metrics = DispatchMetrics(registry)
        self._woken = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._leases: dict[str, Lease] = {}
        self._ahead: deque[Claimed] = deque()  # claimed, and first in turn for a child
        self._pace = Pace()
        self._starting = 0  # given to a child that is not busy with it yet
        self._last_queue = ""
        self._renew_at = time.monotonic()  # when the next renewal is to be done
        self._finisher: Batcher[Outcome] = Batcher(self._finish)
        self._loops = [
            Loop("dispatch.claim", self._claim_turn, self._claim_pause),
            Loop("dispatch.renew", self._renew_turn, self._renew_pause),
            Loop("dispatch.sweep", self._sweep_turn, self._sweep_pause),
        ]

    @property
    def loops(self) -> list[Loop]:
        return self._loops

    def start(self) -> None:
        for loop in self._loops:
            loop.start()

    def wake(self) -> None:
        """Look at the queue now."""
        self._woken.set()

    def stop_job(self, job_id: str) -> None:
        """Kill the run of a job that was cancelled, if it is here; in other processes the next lease renewal does."""
        self._leases.pop(job_id, None)
        task = self._running.get(job_id)
        if task is not None:
            log.info("job.stopped", job_id=job_id)
            task.cancel()

    async def stop(self) -> None:
        """Drain: take no more jobs, let running ones end, give the rest back without counting an attempt."""
        claim, *others = self._loops
        await claim.stop()
        await self._give_back_ahead()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=self._settings.drain.total_seconds())
        left = [self._leases[job_id] for job_id in self._running if job_id in self._leases]
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._finisher.drain()
        await self._give_back(left)
        for loop in others:
            await loop.stop()

    async def recover(self) -> int:
        """Put back what a process that owned the whole database left running; for SQLite's start only."""
        ends = await self._store.run(end_running, self._operations)
        self._on_finished(ends)
        return len(ends.jobs)

    # --- claim ------------------------------------------------------------------------------------------------------

    async def _claim_turn(self) -> None:
        if not await self._has_child():
            await self._give_back_ahead()
            return
        free = self._pool.idle - self._starting
        self._woken.clear()
        if free <= 0:
            await self._wait_for_wake()
            return
        is_empty = False
        if not self._ahead:
            wanted = free + self._pace.ahead(self._pool.size)
            claimed = await self._claim(wanted)
            is_empty = len(claimed) < wanted
            self._ahead += claimed
            self._leases |= {one.lease.job.id: one.lease for one in claimed}
            self._on_claimed([one.lease.job for one in claimed])
        for _ in range(min(free, len(self._ahead))):
            self._start(self._ahead.popleft())
        if is_empty and not self._ahead:
            await self._wait_for_wake()
        else:
            await asyncio.sleep(0)  # let the started ones take their children

    async def _has_child(self) -> bool:
        """Wait for an idle child; False when jobs that are ours have waited for one too long."""
        if not self._ahead:
            await self._pool.wait_idle()
            return True
        try:
            async with asyncio.timeout(self._settings.patience.total_seconds()):
                await self._pool.wait_idle()
        except TimeoutError:
            return False
        return True

    async def _give_back_ahead(self) -> None:
        """Let others have what is ours and waits, without counting an attempt."""
        leases = [one.lease for one in self._ahead if self._is_ours(one.lease)]
        self._ahead.clear()
        self._forget(leases)
        await self._give_back(leases)

    async def _claim(self, limit: int) -> list[Claimed]:
        claim = asyncio.ensure_future(
            self._store.run(claim_jobs, self._owner, limit, self._settings.lease, self._last_queue, self._locate)
        )
        try:
            claimed, self._last_queue = await asyncio.shield(claim)
        except asyncio.CancelledError:
            # The store may have committed the claim all the same: give the jobs back before leaving.
            try:
                claimed, _ = await claim
            except CloudfiniteError as exc:
                log.warning("dispatch.claim_failed", reason=exc.message)
            else:
                await self._give_back([one.lease for one in claimed])
            raise
        return claimed

    async def _give_back(self, leases: Sequence[Lease]) -> None:
        """Return jobs unrun. A store that is away does it itself when their leases end."""
        if not leases:
            return
        try:
            jobs = await self._store.run(release_jobs, leases, self._operations)
        except CloudfiniteError as exc:
            log.warning("dispatch.release_failed", jobs=len(leases), reason=exc.message)
        else:
            log.info("dispatch.given_back", jobs=[job.id for job in jobs])
            self._on_finished(Ends(jobs))

    async def _wait_for_wake(self) -> None:
        # Not `wait_for`: until Python 3.12 it loses a cancellation that comes together with the wake, and a stop would
        # wait for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll.total_seconds()):
                await self._woken.wait()

    async def _claim_pause(self) -> None:
        """None: a turn waits for work itself."""

    def _start(self, claimed: Claimed) -> None:
        job_id = claimed.lease.job.id
        if not self._is_ours(claimed.lease):
            return  # cancelled, or lost, while it waited for a child
        if former := self._running.get(job_id):
            former.cancel()  # Its lease was lost, and the job has come back to us: that run is waste.
        self._starting += 1
        self._metrics.running.inc()
        self._running[job_id] = asyncio.get_running_loop().create_task(self._run(claimed), name=job_id)

    # --- run --------------------------------------------------------------------------------------------------------

    async def _run(self, claimed: Claimed) -> None:
        job = claimed.lease.job
        started = time.monotonic()
        has_started = False

        def leave_starting() -> None:
            nonlocal has_started
            if not has_started:
                has_started = True
                self._starting -= 1

        try:
            outcome = await self._runner.run(claimed, leave_starting)
            run_s = time.monotonic() - started
            self._pace.note_run(run_s)
            self._metrics.run_s.labels(job.tag).observe(run_s)
            self._finisher.add(outcome)
        finally:
            leave_starting()
            if self._running.get(job.id) is asyncio.current_task():
                del self._running[job.id]
            self._metrics.running.dec()
            self._woken.set()  # a child is free again

    async def _finish(self, outcomes: Sequence[Outcome]) -> None:
        """Commit ends. A store that cannot take them is asked again; then the leases end and the jobs run again."""
        finish = in_time(finish_jobs)
        for attempt in range(_FINISH_TRIES):
            try:
                ends = await self._store.run(finish, outcomes, self._operations)
                break
            except CloudfiniteError as exc:
                log.warning("dispatch.finish_failed", jobs=len(outcomes), attempt=attempt, reason=exc.message)
                await asyncio.sleep(0.2 * 2**attempt)
        else:
            self._forget([outcome.lease for outcome in outcomes])
            return
        self._forget([outcome.lease for outcome in outcomes])
        ended = {job.id: job.state for job in ends.jobs}
        for outcome in outcomes:
            if outcome.lease.job.id not in ended:
                self._metrics.lost.inc()
                log.warning("job.lease_lost", job_id=outcome.lease.job.id)
        self._tell(ends)
        made = {outcome.lease.job.id: outcome.made for outcome in outcomes if outcome.made}
        if made:
            self._outputs.tell_made()
            waste = [item for job_id, item in made.items() if ended.get(job_id) is not JobState.SUCCESS]
            await self._outputs.discard(waste)

    def _is_ours(self, lease: Lease) -> bool:
        return self._leases.get(lease.job.id) is lease

    def _forget(self, leases: Sequence[Lease]) -> None:
        """Renew these no more."""
        for lease in leases:
            if self._is_ours(lease):
                del self._leases[lease.job.id]

    def _tell(self, ends: Ends) -> None:
        for job in ends.jobs:
            if job.state.is_final:
                self._metrics.ended.labels(job.tag, job.state.value).inc()
        if any(job.state is JobState.SUBMITTED for job in ends.jobs):
            self._woken.set()
        self._on_finished(ends)

    # --- leases -----------------------------------------------------------------------------------------------------

    async def _renew_turn(self) -> None:
        # Only what we know of: a claim whose commit we never heard of must run out, and its jobs go to somebody.
        leases = list(self._leases.values())
        if leases:
            kept = await self._store.run(lambda tx: tx.jobs.renew(self._owner, self._settings.lease, leases))
            self._stop_lost([lease for lease in leases if lease.job.id not in kept])
        self._metrics.renew_late_s.set(max(0.0, time.monotonic() - self._renew_at))

    def _stop_lost(self, leases: Sequence[Lease]) -> None:
        """Stop the runs of jobs that somebody else has now: their ends would change nothing."""
        for lease in leases:
            job_id = lease.job.id
            if self._is_ours(lease):
                self._metrics.lost.inc()
                log.warning("job.lease_lost", job_id=job_id)
                del self._leases[job_id]
                if task := self._running.get(job_id):
                    task.cancel()

    async def _renew_pause(self) -> None:
        pause_s = self._settings.lease.total_seconds() / 3
        self._renew_at = time.monotonic() + pause_s
        await asyncio.sleep(pause_s)

    async def _sweep_turn(self) -> None:
        ends = await self._store.run(end_expired, self._operations)
        if ends.jobs:
            log.warning("dispatch.leases_expired", jobs=[job.id for job in ends.jobs])
        self._tell(ends)

    async def _sweep_pause(self) -> None:
        await asyncio.sleep(self._settings.lease.total_seconds() / 3)


def end_expired(tx: Transaction, operations: Mapping[str, Operation]) -> Ends:
    """Give back the jobs of workers that stopped renewing; one that did so to three workers ends Failed."""
    return finish_jobs(tx, [_worker_lost(lease) for lease in tx.jobs.expired(_SWEEP)], operations)


def end_running(tx: Transaction, operations: Mapping[str, Operation]) -> Ends:
    """Give back every running job: whoever ran them is known to be dead."""
    ends = Ends()
    while leases := tx.jobs.running(_SWEEP):
        some = finish_jobs(tx, [_worker_lost(lease) for lease in leases], operations)
        ends.jobs.extend(some.jobs)
        ends.deliveries.extend(some.deliveries)
        ends.started.extend(some.started)
    return ends


def _worker_lost(lease: Lease) -> Outcome:
    return Outcome(lease, None, "InternalError", "the worker that ran the job died", retryable=True)
