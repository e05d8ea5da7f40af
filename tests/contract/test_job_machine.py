"""The life of jobs and queues against a small model, in any order of steps, on both databases.

The model knows no SQL: it holds what each job, queue and lease must be, and each step's answer is compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.support.world import World, pick

from cloudfinite.adapters.store_jobs import MAX_ATTEMPTS
from cloudfinite.domain.delivery import DeliveryFilter
from cloudfinite.domain.job import CallbackChoice, JobFilter, JobInput, JobRequest, JobState, Lease, Outcome
from cloudfinite.domain.objects import Bucket
from cloudfinite.domain.queue import Queue, QueueState
from cloudfinite.errors import QueuePaused, QueueSaturated
from cloudfinite.operations import operations
from cloudfinite.service.jobs import Ends, finish_jobs, submit_jobs
from cloudfinite.service.queues import QueueLimits, ensure_queue

T = TypeVar("T")

AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
BUCKETS = ("a-1", "b-1", "c-1")
TAG = "FileHashCode"
RESULT = {"md5": "900150983cd24fb0d6963f7d28e17f72", "size_bytes": 3}
LIMITS = QueueLimits(max_size=6, max_concurrent=3)
LEASE = timedelta(hours=1)
ENDED = timedelta(seconds=-1)
SIZES = [
    pytest.param(20, id="short"),
    pytest.param(200, id="full", marks=[pytest.mark.full, pytest.mark.timeout(400)]),
]
which = st.integers(0, 1_000)  # of what there is, by its remainder


@dataclass
class ModelJob:
    bucket: str
    level: int
    number: int
    has_callback: bool
    state: JobState = JobState.SUBMITTED
    attempts: int = 0
    has_started: bool = False
    lease: Lease | None = None
    owner: str = ""
    is_expired: bool = False


@dataclass
class Model:
    jobs: dict[str, ModelJob] = field(default_factory=dict)
    queues: dict[str, Queue] = field(default_factory=dict)

    def waiting(self, bucket: str) -> list[str]:
        """Those of the bucket's queue in the order in which they run."""
        found = [(job_id, job) for job_id, job in self.jobs.items() if job.bucket == bucket]
        found = [(job_id, job) for job_id, job in found if job.state is JobState.SUBMITTED]
        return [job_id for job_id, _ in sorted(found, key=lambda pair: (-pair[1].level, pair[1].number))]

    def running(self, bucket: str = "") -> list[str]:
        return [
            job_id for job_id, job in self.jobs.items() if job.state is JobState.RUNNING and bucket in ("", job.bucket)
        ]

    def is_paused(self, bucket: str) -> bool:
        return self.queues[bucket].state is QueueState.PAUSED

    def claimable(self, bucket: str) -> int:
        if self.is_paused(bucket):
            return 0
        room = self.queues[bucket].max_concurrent - len(self.running(bucket))
        return max(0, min(room, len(self.waiting(bucket))))

    def shown_state(self, job: ModelJob) -> JobState:
        return JobState.PAUSE if job.state is JobState.SUBMITTED and self.is_paused(job.bucket) else job.state


def machine_on(world: World) -> type[RuleBasedStateMachine]:
    class JobMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.model = Model()
            self.leases: list[Lease] = []  # all that ever were given: most are stale
            self.after_queue = ""

        @initialize()
        def make_queues(self) -> None:
            world.clear()
            for name in BUCKETS:
                world.do(lambda tx, name=name: tx.buckets.ensure(Bucket(name, "ap-chongqing", AT)))
                self.model.queues[name] = world.do(ensure_queue, name, "file", LIMITS)

        # --- submit, cancel -----------------------------------------------------------------------------------------

        @rule(
            bucket=st.sampled_from(BUCKETS),
            levels=st.lists(st.integers(0, 2), min_size=1, max_size=3),
            told=st.booleans(),
        )
        def submit(self, bucket: str, levels: list[int], told: bool) -> None:
            callback = CallbackChoice("http://127.0.0.1:9/told" if told else None)
            wanted = [
                JobRequest(TAG, JobInput("k"), {"type": "MD5"}, level=level, callback=callback) for level in levels
            ]
            queue = self.model.queues[bucket]
            try:
                jobs = world.do(submit_jobs, bucket, wanted, operations(), LIMITS)
            except QueuePaused:
                assert queue.state is QueueState.PAUSED
            except QueueSaturated:
                assert len(self.model.waiting(bucket)) + len(levels) > queue.max_size
            else:
                assert queue.state is QueueState.ACTIVE
                assert len(self.model.waiting(bucket)) + len(levels) <= queue.max_size
                for job in jobs:
                    self.model.jobs[job.id] = ModelJob(bucket, job.level, len(self.model.jobs), told)

        @precondition(lambda self: self.model.jobs)
        @rule(number=which)
        def cancel_waiting(self, number: int) -> None:
            job_id, job = pick(list(self.model.jobs.items()), number)
            is_waiting = job.state is JobState.SUBMITTED
            assert world.do(lambda tx: tx.jobs.cancel(job_id)) == is_waiting
            if is_waiting:
                job.state = JobState.CANCEL

        @precondition(lambda self: self.model.jobs)
        @rule(number=which)
        def cancel_running(self, number: int) -> None:
            job_id, job = pick(list(self.model.jobs.items()), number)
            is_running = job.state is JobState.RUNNING
            assert world.do(lambda tx: tx.jobs.cancel_running(job_id)) == is_running
            if is_running:
                job.state, job.lease = JobState.CANCEL, None

        # --- claim --------------------------------------------------------------------------------------------------

        @rule(owner=st.sampled_from(["w1", "w2"]), limit=st.integers(1, 5))
        def claim(self, owner: str, limit: int) -> None:
            available = {name: self.model.claimable(name) for name in BUCKETS}
            expected = {name: self.model.waiting(name) for name in BUCKETS}
            leases, last = world.do(lambda tx: tx.jobs.claim(owner, limit, LEASE, self.after_queue))
            taken = {name: [one.job.id for one in leases if one.job.bucket == name] for name in BUCKETS}
            assert len(leases) == min(limit, sum(available.values()))
            for name, ids in taken.items():
                assert ids == expected[name][: len(ids)] and len(ids) <= available[name]
            for name in self._ring(available)[:limit]:
                assert taken[name], f"{name} had its turn and got nothing"
            self.after_queue = last
            for lease in leases:
                self._note_claim(lease, owner)

        def _ring(self, available: dict[str, int]) -> list[str]:
            """The queues with jobs to give, from the one behind the last served on."""
            ids = {self.model.queues[name].id: name for name, count in available.items() if count}
            ordered = sorted(ids, key=lambda queue_id: (queue_id <= self.after_queue, queue_id))
            return [ids[queue_id] for queue_id in ordered]

        def _note_claim(self, lease: Lease, owner: str) -> None:
            job = self.model.jobs[lease.job.id]
            job.state, job.attempts = JobState.RUNNING, job.attempts + 1
            job.lease, job.owner, job.is_expired, job.has_started = lease, owner, False, True
            assert (lease.job.state, lease.job.attempts) == (JobState.RUNNING, job.attempts)
            self.leases.append(lease)

        # --- the end of a run: of one that holds its lease, or of one that lost it ------------------------------------

        @precondition(lambda self: self.leases)
        @rule(number=which, ending=st.sampled_from(["ok", "failed", "retryable"]))
        def finish(self, number: int, ending: str) -> None:
            lease = pick(self.leases, number)
            outcome = {
                "ok": Outcome(lease, RESULT),
                "failed": Outcome(lease, None, "UnreadableInput", "no good"),
                "retryable": Outcome(lease, None, "InternalError", "died", retryable=True),
            }[ending]
            self._finish(outcome)

        def _finish(self, outcome: Outcome) -> None:
            job = self.model.jobs[outcome.lease.job.id]
            ends = world.do(finish_jobs, [outcome], operations())
            if job.lease is not outcome.lease:
                assert ends == Ends()
                return
            job.lease = None
            if outcome.result is not None:
                job.state = JobState.SUCCESS
            elif outcome.retryable and job.attempts < MAX_ATTEMPTS:
                job.state, job.has_started = JobState.SUBMITTED, False
            else:
                job.state = JobState.FAILED
            assert [one.state for one in ends.jobs] == [job.state]
            assert len(ends.deliveries) == (job.has_callback and job.state.is_final)

        @precondition(lambda self: self.leases)
        @rule(number=which)
        def drain(self, number: int) -> None:
            lease = pick(self.leases, number)
            job = self.model.jobs[lease.job.id]
            world.do(lambda tx: tx.jobs.release([lease]))
            if job.lease is lease:
                job.state, job.lease, job.attempts, job.has_started = JobState.SUBMITTED, None, job.attempts - 1, False

        # --- leases -------------------------------------------------------------------------------------------------

        @precondition(lambda self: self.leases)
        @rule(numbers=st.lists(which, min_size=1, max_size=4), owner=st.sampled_from(["w1", "w2"]), ends=st.booleans())
        def renew(self, numbers: list[int], owner: str, ends: bool) -> None:
            """With a time that has passed already, the leases end as if nobody had renewed them."""
            asked = {lease.job.id: lease for lease in (pick(self.leases, number) for number in numbers)}
            kept = world.do(lambda tx: tx.jobs.renew(owner, ENDED if ends else LEASE, list(asked.values())))
            jobs = self.model.jobs
            assert kept == {i for i, lease in asked.items() if jobs[i].lease is lease and jobs[i].owner == owner}
            for job_id in asked:
                if jobs[job_id].lease is not None and jobs[job_id].owner == owner:
                    jobs[job_id].is_expired = ends

        @rule()
        def sweep(self) -> None:
            """What another process does for workers that died."""
            found = world.do(lambda tx: tx.jobs.expired(100))
            expected = {i for i in self.model.running() if self.model.jobs[i].is_expired}
            assert {lease.job.id for lease in found} == expected
            for lease in found:
                job = self.model.jobs[lease.job.id]
                assert job.lease is not None and job.lease.token == lease.token
                self._finish(Outcome(job.lease, None, "InternalError", "the worker died", retryable=True))

        # --- queues -------------------------------------------------------------------------------------------------

        @rule(bucket=st.sampled_from(BUCKETS), state=st.sampled_from(QueueState))
        def pause_or_resume(self, bucket: str, state: QueueState) -> None:
            self._replace(replace(self.model.queues[bucket], state=state))

        @rule(bucket=st.sampled_from(BUCKETS), limit=st.integers(1, 4))
        def set_limit(self, bucket: str, limit: int) -> None:
            self._replace(replace(self.model.queues[bucket], max_concurrent=limit))

        def _replace(self, queue: Queue) -> None:
            world.do(lambda tx: tx.queues.replace(queue))
            self.model.queues[queue.bucket] = queue

        # --- what must hold after each step -------------------------------------------------------------------------

        @rule(bucket=st.sampled_from(BUCKETS), states=st.sets(st.sampled_from(JobState)), newest_first=st.booleans())
        def list_jobs(self, bucket: str, states: set[JobState], newest_first: bool) -> None:
            wanted = JobFilter(tag=TAG, states=frozenset(states), newest_first=newest_first, size=3)
            found: list[str] = []
            while page := world.do(lambda tx, wanted=wanted: tx.jobs.select(bucket, wanted)):
                found += [job.id for job, _ in page]
                wanted = replace(wanted, after=(page[-1][0].created_at, page[-1][1]))
            jobs = {i: job for i, job in self.model.jobs.items() if job.bucket == bucket}
            expected = {i for i, job in jobs.items() if not states or self.model.shown_state(job) in states}
            assert len(found) == len(set(found)) and set(found) == expected

        @invariant()
        def jobs_read_as_the_model_has_them(self) -> None:
            read = world.do(lambda tx: tx.jobs.get(list(self.model.jobs)))
            assert [(job.state, job.attempts, job.started_at is not None) for job in read] == [
                (self.model.shown_state(job), job.attempts, job.has_started) for job in self.model.jobs.values()
            ]

        @invariant()
        def counters_tell_the_truth(self) -> None:
            for name, queue in self.model.queues.items():
                assert world.do(lambda tx, queue=queue: tx.queues.waiting(queue.id)) == len(self.model.waiting(name))
            running = world.do(lambda tx: tx.jobs.running(100))
            assert {lease.job.id for lease in running} == set(self.model.running())

        def teardown(self) -> None:
            """Each end has its one delivery, a cancelled or unfinished job has none."""
            if not self.model.queues:
                return
            for job_id, job in self.model.jobs.items():
                wanted = DeliveryFilter(job_id=job_id)
                made = world.do(lambda tx, wanted=wanted: tx.deliveries.select(wanted))
                has_ended = job.state in (JobState.SUCCESS, JobState.FAILED)
                assert len(made) == (job.has_callback and has_ended), job

    return JobMachine


@pytest.mark.parametrize("examples", SIZES)
def test_jobs_and_queues_do_what_the_model_says(world: World, examples: int) -> None:
    run_state_machine_as_test(
        machine_on(world),
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
