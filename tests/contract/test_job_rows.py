"""What every store promises of jobs and queues; run on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cloudfinite.domain.ids import new_job_id, new_queue_id
from cloudfinite.domain.job import Job, JobFilter, JobInput, JobState, Lease, Outcome
from cloudfinite.domain.objects import Bucket
from cloudfinite.domain.queue import Queue, QueueState
from cloudfinite.domain.template import Template
from cloudfinite.errors import TemplateNameDuplicate
from cloudfinite.ports import Store, Transaction

AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
LEASE = timedelta(seconds=10)


def queue_of(bucket: str, **changes: object) -> Queue:
    base = Queue(new_queue_id(), bucket, "ai", "queue-ai-process-1", AT, AT)
    return replace(base, **changes)  # type: ignore[arg-type]  # keywords of Queue


def job_in(queue: Queue, number: int = 0, level: int = 0, tag: str = "ImageOCR") -> Job:
    created = AT + timedelta(seconds=number)
    return Job(
        new_job_id("a", created), queue.bucket, "ap-chongqing", tag, queue.id, JobInput(f"{number}.png"),
        {"type": "general"}, created, level=level,
    )  # fmt: skip


def add(tx: Transaction, queues: list[Queue], jobs: list[Job]) -> None:
    for queue in queues:
        tx.buckets.ensure(Bucket(queue.bucket, "ap-chongqing", AT))
        tx.queues.ensure(queue)
    tx.jobs.insert(jobs)


def claim(tx: Transaction, limit: int, after: str = "") -> list[Lease]:
    return tx.jobs.claim("worker-1", limit, LEASE, after)[0]


async def test_submitted_job_reads_back_equal(store: Store) -> None:
    queue = queue_of("b-1")
    job = replace(job_in(queue), user_data="order=1", template_id="t1", template_name="n")
    await store.run(add, [queue], [job])
    assert await store.read(lambda tx: tx.jobs.get([job.id])) == [job]


async def test_a_function_that_raises_leaves_nothing_and_its_neighbours_stay(store: Store) -> None:
    queue = queue_of("b-1")

    def fail(tx: Transaction) -> None:
        tx.jobs.insert([job_in(queue)])
        raise KeyError("half-way")

    await store.run(add, [queue], [])
    with pytest.raises(KeyError):
        await store.run(fail)
    await store.run(add, [], [job_in(queue, 1)])
    assert await store.read(lambda tx: tx.queues.waiting(queue.id)) == 1


async def test_higher_level_runs_first_then_the_oldest(store: Store) -> None:
    queue = queue_of("b-1")
    jobs = [job_in(queue, number, level) for number, level in enumerate([0, 1, 2, 2, 1, 0])]
    await store.run(add, [queue], jobs)
    taken = await store.run(claim, 6)
    assert [lease.job.input.object_key for lease in taken] == ["2.png", "3.png", "1.png", "4.png", "0.png", "5.png"]


async def test_a_long_queue_delays_another_buckets_job_by_no_more_than_one(store: Store) -> None:
    greedy, modest = queue_of("b-1"), queue_of("b-2")
    lone = job_in(modest, 999)
    await store.run(add, [greedy, modest], [*(job_in(greedy, number) for number in range(50)), lone])
    served: list[str] = []
    after = ""
    for _ in range(2):
        leases, after = await store.run(lambda tx, after=after: tx.jobs.claim("w", 1, LEASE, after))
        served += [lease.job.id for lease in leases]
    assert lone.id in served


async def test_one_claim_of_many_shares_the_turn_between_queues(store: Store) -> None:
    queues = [queue_of(f"b-{number}") for number in range(3)]
    jobs = [job_in(queue, number) for queue in queues for number in range(10 if queue is queues[0] else 1)]
    await store.run(add, queues, jobs)
    taken = await store.run(claim, 6)
    per_queue = [sum(lease.job.queue_id == queue.id for lease in taken) for queue in queues]
    assert per_queue == [4, 1, 1]


async def test_paused_queue_gives_no_job_and_shows_its_waiting_jobs_as_pause(store: Store) -> None:
    queue = queue_of("b-1")
    await store.run(add, [queue], [job_in(queue)])
    await store.run(lambda tx: tx.queues.replace(replace(queue, state=QueueState.PAUSED)))
    assert await store.run(claim, 5) == []
    pages = {
        state: len(await store.read(lambda tx, s=state: tx.jobs.select("b-1", JobFilter(states=frozenset({s})))))
        for state in (JobState.PAUSE, JobState.SUBMITTED)
    }
    assert pages == {JobState.PAUSE: 1, JobState.SUBMITTED: 0}


async def test_claim_never_goes_over_the_queues_limit(store: Store) -> None:
    queue = queue_of("b-1", max_concurrent=2)
    await store.run(add, [queue], [job_in(queue, number) for number in range(5)])
    first = await store.run(claim, 5)
    assert len(first) == 2 and await store.run(claim, 5) == []
    await store.run(lambda tx: tx.jobs.finish(Outcome(first[0], {"lines": []})))
    assert len(await store.run(claim, 5)) == 1


async def test_finish_with_a_lost_lease_changes_nothing(store: Store) -> None:
    queue = queue_of("b-1")
    await store.run(add, [queue], [job_in(queue)])
    (lost,) = await store.run(claim, 1)
    await store.run(lambda tx: tx.jobs.release([lost]))
    (current,) = await store.run(claim, 1)
    assert await store.run(lambda tx: tx.jobs.finish(Outcome(lost, {"late": True}))) is None
    ended = await store.run(lambda tx: tx.jobs.finish(Outcome(current, {"late": False})))
    assert ended is not None and (ended.state, ended.result) == (JobState.SUCCESS, {"late": False})


async def test_a_job_whose_worker_dies_runs_again_and_is_given_up_after_three_attempts(store: Store) -> None:
    queue = queue_of("b-1")
    await store.run(add, [queue], [job_in(queue)])
    states = []
    for _ in range(3):
        (lease,) = await store.run(claim, 1)
        died = Outcome(lease, None, "InternalError", "the process died", retryable=True)
        job = await store.run(lambda tx, died=died: tx.jobs.finish(died))
        assert job is not None
        states.append((job.state, job.started_at is None))
    assert states == [(JobState.SUBMITTED, True), (JobState.SUBMITTED, True), (JobState.FAILED, False)]
    assert "given up after 3 attempts" in job.message


async def test_a_drained_job_has_spent_no_attempt(store: Store) -> None:
    queue = queue_of("b-1")
    await store.run(add, [queue], [job_in(queue)])
    for _ in range(5):
        leases = await store.run(claim, 1)
        await store.run(lambda tx, leases=leases: tx.jobs.release(leases))
    (lease,) = await store.run(claim, 1)
    assert lease.job.attempts == 1


async def test_a_claim_waits_for_the_only_queue_while_another_claims_from_it(postgres_store: Store) -> None:
    """To come back with nothing would leave a free child idle until something wakes it."""
    queue = queue_of("b-1")
    await postgres_store.run(add, [queue], [job_in(queue, 0), job_in(queue, 1)])
    has_claimed, may_commit = threading.Event(), threading.Event()

    def claim_slowly(tx: Transaction) -> list[Lease]:
        leases = claim(tx, 1)
        has_claimed.set()
        assert may_commit.wait(10)
        return leases

    first = asyncio.ensure_future(postgres_store.run(claim_slowly))
    await asyncio.to_thread(has_claimed.wait, 10)
    second = asyncio.ensure_future(postgres_store.run(claim, 1))
    await asyncio.wait([second], timeout=0.05)  # time enough to come back with nothing
    may_commit.set()
    keys = [lease.job.input.object_key for lease in [*await first, *await second]]
    assert keys == ["0.png", "1.png"]


async def test_an_expired_lease_is_found_and_a_renewed_one_is_not(sqlite_store: Store, clock: object) -> None:
    queue = queue_of("b-1")
    await sqlite_store.run(add, [queue], [job_in(queue)])
    (lease,) = await sqlite_store.run(claim, 1)
    clock.advance(9)  # type: ignore[attr-defined]  # FixedClock
    assert await sqlite_store.run(lambda tx: tx.jobs.renew("worker-1", LEASE, [lease])) == {lease.job.id}
    clock.advance(9)  # type: ignore[attr-defined]
    assert await sqlite_store.run(lambda tx: tx.jobs.expired(10)) == []
    clock.advance(2)  # type: ignore[attr-defined]
    assert [one.job.id for one in await sqlite_store.run(lambda tx: tx.jobs.expired(10))] == [lease.job.id]


async def test_a_waiting_job_is_cancelled_at_once_and_never_claimed(store: Store) -> None:
    queue = queue_of("b-1")
    job = job_in(queue)
    await store.run(add, [queue], [job])
    assert await store.run(lambda tx: tx.jobs.cancel(job.id))
    assert await store.run(claim, 1) == []
    (read,) = await store.read(lambda tx: tx.jobs.get([job.id]))
    assert read.state is JobState.CANCEL and await store.read(lambda tx: tx.queues.waiting(queue.id)) == 0


async def test_a_running_job_is_not_cancelled(store: Store) -> None:
    queue = queue_of("b-1")
    job = job_in(queue)
    await store.run(add, [queue], [job])
    await store.run(claim, 1)
    assert not await store.run(lambda tx: tx.jobs.cancel(job.id))


async def test_pages_neither_repeat_nor_miss_while_new_jobs_arrive(store: Store) -> None:
    queue = queue_of("b-1")
    await store.run(add, [queue], [job_in(queue, number // 3) for number in range(25)])
    await store.run(claim, 5)
    seen: list[int] = []
    after = None
    for _ in range(4):
        wanted = JobFilter(tag="ImageOCR", size=8, after=after)
        page = await store.read(lambda tx, wanted=wanted: tx.jobs.select("b-1", wanted))
        seen += [seq for _, seq in page]
        if page:
            after = page[-1][0].created_at, page[-1][1]
        await store.run(add, [], [job_in(queue, 1000)])
    assert len(seen) == len(set(seen)) == 25
    assert seen == sorted(seen, reverse=True)


async def test_template_names_are_unique_in_their_bucket(store: Store) -> None:
    template = Template("t1a", "b-1", "ImageOCR", "scan", {"type": "fast"}, AT, AT)
    await store.run(lambda tx: tx.templates.insert(template))
    with pytest.raises(TemplateNameDuplicate):
        await store.run(lambda tx: tx.templates.insert(replace(template, id="t1b")))
    await store.run(lambda tx: tx.templates.insert(replace(template, id="t1c", bucket="b-2")))
    assert await store.read(lambda tx: tx.templates.get("b-1", "t1a")) == template


async def test_a_bucket_has_one_queue_per_service_however_often_asked(store: Store) -> None:
    first = await store.run(lambda tx: tx.queues.ensure(queue_of("b-1")))
    second = await store.run(lambda tx: tx.queues.ensure(queue_of("b-1")))
    assert first == second
