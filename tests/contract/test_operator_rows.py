"""What every store promises to operators: cancel what runs, run again, queues over all buckets, keys removed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from cloudfinite.domain.access import EVERYTHING, AccessKey
from cloudfinite.domain.ids import new_job_id, new_queue_id
from cloudfinite.domain.job import CallbackChoice, Job, JobFilter, JobInput, JobState, Lease, Outcome
from cloudfinite.domain.objects import BINDING, Bucket
from cloudfinite.domain.queue import Queue, QueueLoad, QueueState
from cloudfinite.errors import InvalidArgument, JobNotFound, QueuePaused, QueueSaturated, ServiceClosed
from cloudfinite.operations import operations
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.job_control import JobControl
from cloudfinite.service.openings import OpeningService
from cloudfinite.service.queues import QueueLimits, find_queue, select_queues

AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)


def queue_of(bucket: str, service: str = "ai", **changes: object) -> Queue:
    base = Queue(new_queue_id(), bucket, service, f"queue-{service}", AT, AT)
    return replace(base, **changes)  # type: ignore[arg-type]  # keywords of Queue


def job_in(queue: Queue, number: int = 0) -> Job:
    created = AT - timedelta(minutes=1) + timedelta(seconds=number)
    return Job(
        id=new_job_id("a", created),
        bucket=queue.bucket,
        region="ap-chongqing",
        tag="ImageOCR",
        queue_id=queue.id,
        input=JobInput(f"{number}.png"),
        params={"mode": "fast"},
        created_at=created,
        user_data="order=1",
        callback=CallbackChoice("http://receiver.example/"),
    )


def add(tx: Transaction, queues: list[Queue], jobs: list[Job]) -> None:
    for queue in queues:
        tx.buckets.ensure(Bucket(queue.bucket, "ap-chongqing", AT))
        tx.queues.ensure(queue)
    tx.jobs.insert(jobs)


async def claim(store: Store, limit: int) -> list[Lease]:
    leases, _ = await store.run(lambda tx: tx.jobs.claim("worker-1", limit, timedelta(seconds=10), ""))
    return leases


async def fail_all(store: Store, count: int) -> None:
    for lease in await claim(store, count):
        outcome = Outcome(lease, None, "ResourceNotFound", "gone")
        await store.run(lambda tx, outcome=outcome: tx.jobs.finish(outcome))


class Told:
    """What a JobControl tells."""

    def __init__(self, store: Store) -> None:
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.control = JobControl(
            store,
            operations(),
            on_submitted=lambda jobs: self.submitted.extend(job.id for job in jobs),
            on_cancelled=lambda job: self.cancelled.append(job.id),
            on_progress=lambda progress: None,
        )


async def test_cancelled_running_job_is_final_and_its_worker_commits_nothing(store: Store) -> None:
    queue = queue_of("b-1")
    await store.run(add, [queue], [job_in(queue)])
    [lease] = await claim(store, 1)
    told = Told(store)
    job = await told.control.cancel_job(lease.job.id)
    assert (job.state, job.ended_at is not None, told.cancelled) == (JobState.CANCEL, True, [job.id])
    assert await store.run(lambda tx: tx.jobs.finish(Outcome(lease, {"lines": []}))) is None
    await store.run(lambda tx: tx.jobs.release([lease]))
    assert [one.state for one in await store.read(lambda tx: tx.jobs.get([job.id]))] == [JobState.CANCEL]
    assert await claim(store, 1) == []


async def test_cancelled_running_job_leaves_its_place_to_the_next(store: Store) -> None:
    queue = queue_of("b-1", max_concurrent=1)
    await store.run(add, [queue], [job_in(queue, number) for number in range(2)])
    [first] = await claim(store, 5)
    await Told(store).control.cancel_job(first.job.id)
    [second] = await claim(store, 5)
    assert second.job.input.object_key == "1.png"


async def test_cancelled_waiting_job_is_counted_no_more(store: Store) -> None:
    queue = queue_of("b-1")
    job = job_in(queue)
    await store.run(add, [queue], [job])
    await Told(store).control.cancel_job(job.id)
    assert (await store.read(find_queue, queue.id))[1] == QueueLoad(0, 0)


async def test_ended_or_unknown_job_is_not_cancelled(store: Store) -> None:
    queue = queue_of("b-1")
    job = job_in(queue)
    await store.run(add, [queue], [job])
    await fail_all(store, 1)
    told = Told(store)
    with pytest.raises(InvalidArgument, match="is Failed"):
        await told.control.cancel_job(job.id)
    with pytest.raises(JobNotFound):
        await told.control.cancel_job("a1")
    assert told.cancelled == []


async def test_rerun_waits_like_any_other_job(store: Store) -> None:
    queue = queue_of("b-1")
    await store.run(add, [queue], [job_in(queue)])
    await fail_all(store, 1)
    [(old, _)] = await store.read(lambda tx: tx.jobs.select("b-1", JobFilter()))
    told = Told(store)
    rerun = await told.control.rerun_job(old.id)
    [lease] = await claim(store, 5)
    assert told.submitted == [rerun.job.id] == [lease.job.id]
    fresh = replace(old, id=lease.job.id, created_at=lease.job.created_at, state=JobState.RUNNING, code="", message="")
    assert lease.job == replace(fresh, started_at=lease.job.started_at, ended_at=None)


async def test_reruns_of_all_buckets_are_oldest_first_and_each_once(store: Store) -> None:
    queues = [queue_of("b-1"), queue_of("b-2")]
    jobs = [job_in(queues[number % 2], number) for number in range(7)]
    await store.run(add, queues, jobs)
    await fail_all(store, 7)
    told = Told(store)
    wanted = JobFilter(states=frozenset({JobState.FAILED}), size=3)
    found: list[str] = []
    while True:
        page = await told.control.rerun_matching("", wanted)
        found += [rerun.original.id for rerun in page.reruns]
        await fail_all(store, len(page.reruns))  # They fail again, before the next page is asked for.
        if page.after is None:
            break
        wanted = replace(wanted, after=page.after, created_until=page.until)
    assert found == [job.id for job in jobs]


@pytest.mark.parametrize(
    ("change", "error"), [({"state": QueueState.PAUSED}, QueuePaused), ({"max_size": 2}, QueueSaturated)]
)
async def test_queue_without_room_takes_no_part_of_a_rerun(
    store: Store, change: dict[str, object], error: type[Exception]
) -> None:
    queue = queue_of("b-1")
    await store.run(add, [queue], [job_in(queue, number) for number in range(3)])
    await fail_all(store, 3)
    await store.run(lambda tx: tx.queues.replace(replace(queue, **change)))  # type: ignore[arg-type]  # its keywords
    told = Told(store)
    with pytest.raises(error):
        await told.control.rerun_matching("b-1", JobFilter(states=frozenset({JobState.FAILED})))
    assert told.submitted == []
    assert (await store.read(find_queue, queue.id))[1] == QueueLoad(0, 0)


@pytest.mark.parametrize("service", ["ai", BINDING])
async def test_closed_service_takes_no_part_of_a_rerun(store: Store, service: str) -> None:
    queue = queue_of("b-1")
    await store.run(add, [queue], [job_in(queue, number) for number in range(2)])
    await fail_all(store, 2)
    openings = OpeningService(store, QueueLimits())
    if service == BINDING:
        await openings.bind("b-1", is_bound=False)
    else:
        await openings.close_service("b-1", service)
    told = Told(store)
    with pytest.raises(ServiceClosed):
        await told.control.rerun_matching("b-1", JobFilter(states=frozenset({JobState.FAILED})))
    assert told.submitted == []
    await openings.open_service("b-1", "ai")
    page = await told.control.rerun_matching("b-1", JobFilter(states=frozenset({JobState.FAILED})))
    assert len(page.reruns) == len(told.submitted) == 2


async def test_queues_of_all_buckets_are_paged_with_their_load(store: Store) -> None:
    queues = [queue_of(bucket, service) for bucket in ("b-1", "b-2") for service in ("ai", "file")]
    await store.run(add, queues, [job_in(queues[2], number) for number in range(3)])
    await claim(store, 1)
    first = await store.read(select_queues, "", ("", ""), 3)
    last, _ = first[-1]
    rest = await store.read(select_queues, "", (last.bucket, last.service), 3)
    assert [queue.id for queue, _ in first + rest] == [queue.id for queue in queues]
    assert dict((queue.id, load) for queue, load in first)[queues[2].id] == QueueLoad(2, 1)
    assert [queue.id for queue, _ in await store.read(select_queues, "b-1", ("", ""), 9)] == [
        queue.id for queue in queues[:2]
    ]


async def test_removed_key_is_gone(store: Store) -> None:
    await store.run(lambda tx: tx.keys.put(AccessKey("AKID1", EVERYTHING, tx.now), b"sealed"))
    assert await store.run(lambda tx: tx.keys.remove("AKID1")) is True
    assert await store.run(lambda tx: tx.keys.remove("AKID1")) is False
    assert await store.read(lambda tx: tx.keys.all()) == []
