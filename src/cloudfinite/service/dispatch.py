"""Takes jobs from the store under their queues' limits, runs them in the child processes and sees them to their end.

A lease says until when a running job is ours. A task renews all of ours; a sweep gives back those of workers that
died. Whatever happens, a job's end is one transaction that holds only while the lease's token does.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from cloudfinite.domain.delivery import Delivery
from cloudfinite.domain.job import Job, JobState, Lease, Outcome
from cloudfinite.errors import CloudfiniteError, JobFailed
from cloudfinite.ports import Pool, Store, Task, Transaction
from cloudfinite.service.batching import Batcher
from cloudfinite.service.jobs import finish_jobs
from cloudfinite.service.loops import Loop
from cloudfinite.service.sources import Sources
from cloudfinite.wire.operation import Operation

log = structlog.get_logger()

_SWEEP = 100  # expired leases given back per transaction
_FINISH_TRIES = 6  # at 0.2, 0.4 … s: a store that is away longer lets the lease end, and the job runs again


@dataclass(frozen=True, slots=True)
class DispatchSettings:
    """How long a lease holds, how long a drain waits for running jobs, how often the queue is looked at unasked."""

    lease: timedelta = timedelta(seconds=10)
    drain: timedelta = timedelta(seconds=30)
    poll: timedelta = timedelta(seconds=5)


class DispatchMetrics:
    """What Prometheus shows of running jobs."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.ended = Counter(
            "cloudfinite_jobs_ended", "Jobs that ended, by tag and state", ["tag", "state"], registry=registry
        )
        self.running = Gauge("cloudfinite_jobs_running", "Jobs running in this process", registry=registry)
        self.run_s = Histogram(
            "cloudfinite_job_run_seconds", "Time from a job's claim to its result", ["tag"], registry=registry
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
        operations: Mapping[str, Operation],
        owner: str,
        settings: DispatchSettings,
        on_claimed: Callable[[Sequence[Job]], None],
        on_finished: Callable[[Sequence[Job], Sequence[Delivery]], None],
        registry: CollectorRegistry,
    ) -> None:
        self._store = store
        self._pool = pool
        self._sources = sources
        self._operations = operations
        self._owner = owner
        self._settings = settings
        self._on_claimed = on_claimed
        self._on_finished = on_finished
        self._metrics = DispatchMetrics(registry)
        self._woken = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._leases: dict[str, Lease] = {}
        self._starting = 0  # claimed, but not yet taking a child
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
        jobs, deliveries = await self._store.run(end_running, self._operations)
        self._on_finished(jobs, deliveries)
        return len(jobs)

    # --- claim ------------------------------------------------------------------------------------------------------

    async def _claim_turn(self) -> None:
        await self._pool.wait_idle()
        free = self._pool.idle - self._starting
        self._woken.clear()
        if free <= 0:
            await self._wait_for_wake()
            return
        leases = await self._claim(free)
        for lease in leases:
            self._start(lease)
        self._on_claimed([lease.job for lease in leases])
        if len(leases) < free:
            await self._wait_for_wake()
        else:
            await asyncio.sleep(0)  # let the started ones take their children

    async def _claim(self, limit: int) -> list[Lease]:
        claim = asyncio.ensure_future(
            self._store.run(claim_jobs, self._owner, limit, self._settings.lease, self._last_queue)
        )
        try:
            leases, self._last_queue = await asyncio.shield(claim)
        except asyncio.CancelledError:
            # The store may have committed the claim all the same: give the jobs back before leaving.
            try:
                leases, _ = await claim
            except CloudfiniteError as exc:
                log.warning("dispatch.claim_failed", reason=exc.message)
            else:
                await self._give_back(leases)
            raise
        return leases

    async def _give_back(self, leases: Sequence[Lease]) -> None:
        """Return jobs unrun. A store that is away does it itself when their leases end."""
        if not leases:
            return
        try:
            jobs = await self._store.run(lambda tx: tx.jobs.release(leases))
        except CloudfiniteError as exc:
            log.warning("dispatch.release_failed", jobs=len(leases), reason=exc.message)
        else:
            log.info("dispatch.given_back", jobs=[job.id for job in jobs])
            self._on_finished(jobs, [])

    async def _wait_for_wake(self) -> None:
        # Not `wait_for`: until Python 3.12 it loses a cancellation that comes together with the wake, and a stop would
        # wait for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.poll.total_seconds()):
                await self._woken.wait()

    async def _claim_pause(self) -> None:
        """None: a turn waits for work itself."""

    def _start(self, lease: Lease) -> None:
        job_id = lease.job.id
        if former := self._running.get(job_id):
            former.cancel()  # Its lease was lost, and the job has come back to us: that run is waste.
        self._leases[job_id] = lease
        self._starting += 1
        self._metrics.running.inc()
        self._running[job_id] = asyncio.get_running_loop().create_task(self._run(lease), name=job_id)

    # --- run --------------------------------------------------------------------------------------------------------

    async def _run(self, lease: Lease) -> None:
        job = lease.job
        started = time.monotonic()
        has_started = False

        def leave_starting() -> None:
            nonlocal has_started
            if not has_started:
                has_started = True
                self._starting -= 1

        try:
            outcome = await self._outcome(lease, leave_starting)
            self._metrics.run_s.labels(job.tag).observe(time.monotonic() - started)
            self._finisher.add(outcome)
        finally:
            leave_starting()
            if self._running.get(job.id) is asyncio.current_task():
                del self._running[job.id]
            self._metrics.running.dec()
            self._woken.set()  # a child is free again

    async def _outcome(self, lease: Lease, on_child: Callable[[], None]) -> Outcome:
        """Run the job; every failure of the job becomes its outcome."""
        job = lease.job
        etag = ""
        try:
            async with self._sources.opened(job.bucket, job.input) as source:
                etag = source.etag
                task = Task(
                    tag=job.tag,
                    params=job.params,
                    source=source.path,
                    name=source.name,
                    size_bytes=source.size_bytes,
                    etag=source.etag,
                    last_modified=source.last_modified,
                    label=job.id,
                )
                on_child()
                result = await self._pool.run(task)
            return Outcome(lease, result=result, source_etag=etag)
        except JobFailed as exc:
            log.info("job.failed", job_id=job.id, tag=job.tag, code=exc.code, reason=exc.message)
            return Outcome(lease, None, exc.code, exc.message, exc.retryable, etag)
        except Exception:
            log.exception("job.crashed", job_id=job.id, tag=job.tag)
            return Outcome(
                lease, None, "InternalError", f"an unexpected error; the log tells more of {job.id}", True, etag
            )

    async def _finish(self, outcomes: Sequence[Outcome]) -> None:
        """Commit ends. A store that cannot take them is asked again; then the leases end and the jobs run again."""
        for attempt in range(_FINISH_TRIES):
            try:
                jobs, deliveries = await self._store.run(finish_jobs, outcomes, self._operations)
                break
            except CloudfiniteError as exc:
                log.warning("dispatch.finish_failed", jobs=len(outcomes), attempt=attempt, reason=exc.message)
                await asyncio.sleep(0.2 * 2**attempt)
        else:
            self._forget([outcome.lease for outcome in outcomes])
            return
        self._forget([outcome.lease for outcome in outcomes])
        ended = {job.id for job in jobs}
        for outcome in outcomes:
            if outcome.lease.job.id not in ended:
                self._metrics.lost.inc()
                log.warning("job.lease_lost", job_id=outcome.lease.job.id)
        self._tell(jobs, deliveries)

    def _forget(self, leases: Sequence[Lease]) -> None:
        """Renew these no more."""
        for lease in leases:
            if self._leases.get(lease.job.id) is lease:
                del self._leases[lease.job.id]

    def _tell(self, jobs: Sequence[Job], deliveries: Sequence[Delivery]) -> None:
        for job in jobs:
            if job.state.is_final:
                self._metrics.ended.labels(job.tag, job.state.value).inc()
        if any(job.state is JobState.SUBMITTED for job in jobs):
            self._woken.set()
        self._on_finished(jobs, deliveries)

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
            if self._leases.get(job_id) is lease and job_id in self._running:
                self._metrics.lost.inc()
                log.warning("job.lease_lost", job_id=job_id)
                del self._leases[job_id]
                self._running[job_id].cancel()

    async def _renew_pause(self) -> None:
        pause_s = self._settings.lease.total_seconds() / 3
        self._renew_at = time.monotonic() + pause_s
        await asyncio.sleep(pause_s)

    async def _sweep_turn(self) -> None:
        jobs, deliveries = await self._store.run(end_expired, self._operations)
        if jobs:
            log.warning("dispatch.leases_expired", jobs=[job.id for job in jobs])
        self._tell(jobs, deliveries)

    async def _sweep_pause(self) -> None:
        await asyncio.sleep(self._settings.lease.total_seconds() / 3)


def claim_jobs(tx: Transaction, owner: str, limit: int, lease: timedelta, after_queue: str) -> tuple[list[Lease], str]:
    return tx.jobs.claim(owner, limit, lease, after_queue)


def end_expired(tx: Transaction, operations: Mapping[str, Operation]) -> tuple[list[Job], list[Delivery]]:
    """Give back the jobs of workers that stopped renewing; one that did so to three workers ends Failed."""
    return finish_jobs(tx, [_worker_lost(lease) for lease in tx.jobs.expired(_SWEEP)], operations)


def end_running(tx: Transaction, operations: Mapping[str, Operation]) -> tuple[list[Job], list[Delivery]]:
    """Give back every running job: whoever ran them is known to be dead."""
    jobs: list[Job] = []
    deliveries: list[Delivery] = []
    while leases := tx.jobs.running(_SWEEP):
        some, more = finish_jobs(tx, [_worker_lost(lease) for lease in leases], operations)
        jobs += some
        deliveries += more
    return jobs, deliveries


def _worker_lost(lease: Lease) -> Outcome:
    return Outcome(lease, None, "InternalError", "the worker that ran the job died", retryable=True)
