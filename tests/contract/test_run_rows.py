"""How runs of workflows go on, on SQLite and on PostgreSQL: triggered once, step behind step, ended and told once."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.support.flows import (
    AT,
    BUCKET,
    EVERY_END,
    LIMITS,
    URL,
    arrival,
    claim,
    claimed_steps,
    finish,
    flow,
    insert_flow,
    start,
)

from cloudfinite.adapters.store import PostgresStore
from cloudfinite.domain.delivery import Delivery, DeliveryFilter
from cloudfinite.domain.execution import Execution, ExecutionFilter, ExecutionState
from cloudfinite.domain.job import CallbackFormat, JobFilter, JobOutput, JobState, Lease, Outcome
from cloudfinite.domain.objects import StoredObject, Switch
from cloudfinite.domain.queue import Notify, QueueState
from cloudfinite.domain.workflow import Workflow, WorkflowFilter, WorkflowState
from cloudfinite.operations import operations
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.job_control import cancel_job as operator_cancel
from cloudfinite.service.jobs import cancel_job, finish_jobs, release_jobs
from cloudfinite.service.runs import cancel_run
from cloudfinite.service.triggers import trigger_events

CHAIN = {"A": [], "B": ["A"], "C": ["B"]}
DIAMOND = {"A": [], "B": ["A"], "C": ["A"], "D": ["B", "C"]}


async def begin(store: Store, workflow: Workflow) -> Execution:
    await store.run(insert_flow, workflow)
    return (await store.run(start, workflow))[0]


async def steps_now(store: Store, failed: tuple[str, ...] = ()) -> list[str]:
    """Claim all that waits and end it; the names of those steps."""
    leases = await store.run(claim)
    await store.run(finish, leases, failed)
    return claimed_steps(leases)


async def shown(store: Store, run_id: str) -> Execution:
    found = await store.read(lambda tx: tx.executions.get(run_id))
    assert found is not None
    return found


async def deliveries(store: Store, event: str) -> list[Delivery]:
    rows = await store.read(lambda tx: tx.deliveries.select(DeliveryFilter(size=1000)))
    whole = [await store.read(lambda tx, one=one: tx.deliveries.get(one.id)) for one, _ in reversed(rows)]
    return [one for one in whole if one is not None and one.event == event]


# --- rows ----------------------------------------------------------------------------------------------------------


async def test_workflow_is_read_back_as_inserted_and_listed(store: Store) -> None:
    one, other = flow(DIAMOND, prefix="in/"), flow(CHAIN, id="w2", state=WorkflowState.PAUSED)
    await store.run(insert_flow, one)
    await store.run(insert_flow, other)
    assert await store.read(lambda tx: tx.workflows.get(BUCKET, "w1")) == one
    assert await store.read(lambda tx: tx.workflows.get("c-1", "w1")) is None
    assert await store.read(lambda tx: tx.workflows.active(BUCKET)) == [one]
    wanted = WorkflowFilter(name="w2")
    assert await store.read(lambda tx: tx.workflows.select(BUCKET, wanted, 0, 10)) == (1, [other])
    assert await store.read(lambda tx: tx.workflows.select(BUCKET, WorkflowFilter(), 1, 10)) == (2, [one])


async def test_execution_is_read_back_as_started_and_listed_by_each_filter(store: Store) -> None:
    execution = await begin(store, flow(CHAIN))
    other = (await store.run(start, flow(CHAIN), "in/b.png"))[0]
    assert await shown(store, execution.id) == execution
    base = ExecutionFilter("w1")

    async def listed(wanted: ExecutionFilter) -> list[str]:
        return [run.id for run, _ in await store.read(lambda tx: tx.executions.select(BUCKET, wanted))]

    assert await listed(base) == [other.id, execution.id]
    assert await listed(replace(base, newest_first=False, size=1)) == [execution.id]
    assert await listed(replace(base, object_key="in/b.png")) == [other.id]
    assert await listed(replace(base, states=frozenset({ExecutionState.SUCCESS}))) == []
    assert await listed(replace(base, batch_id="b1")) == []
    (last, position), *_ = await store.read(lambda tx: tx.executions.select(BUCKET, replace(base, size=1)))
    assert await listed(replace(base, after=(last.created_at, position))) == [execution.id]


async def test_ended_runs_are_purged_with_their_steps_and_running_ones_stay(store: Store) -> None:
    ended, running = await begin(store, flow({"A": []})), (await store.run(start, flow(CHAIN)))[0]
    leases = await store.run(claim)
    await store.run(finish, [one for one in leases if one.job.step_of and one.job.step_of.run_id == ended.id])
    assert await store.run(lambda tx: tx.executions.purge(tx.now + timedelta(days=1), 10)) == 1
    assert await store.read(lambda tx: tx.executions.get(ended.id)) is None
    assert await store.read(lambda tx: tx.executions.steps(ended.id)) == []
    assert len(await store.read(lambda tx: tx.executions.steps(running.id))) == 1


# --- triggers ------------------------------------------------------------------------------------------------------


async def triggered(store: Store, *events: object) -> list[str]:
    """The workflows that a look at these events starts."""
    await store.run(lambda tx: [tx.events.insert(event) for event in events])  # type: ignore[arg-type]
    done = await store.run(trigger_events, 10, operations(), LIMITS)
    runs = {job.step_of.run_id for job in done.progress.jobs if job.step_of}
    found = [await shown(store, run_id) for run_id in runs]
    return sorted(run.workflow_id for run in found)


async def test_an_event_starts_each_workflow_that_takes_it_once(store: Store) -> None:
    for workflow in (flow(CHAIN), flow(CHAIN, id="w2", prefix="/in/"), flow(CHAIN, id="w3", prefix="out/")):
        await store.run(insert_flow, workflow)
    assert await triggered(store, arrival(1)) == ["w1", "w2"]
    assert await triggered(store, arrival(1)) == []
    assert await triggered(store) == []


async def test_an_event_told_again_after_its_row_is_gone_starts_nothing(store: Store) -> None:
    await store.run(insert_flow, flow(CHAIN))
    assert await triggered(store, arrival(1)) == ["w1"]
    await store.run(lambda tx: tx.events.purge(tx.now + timedelta(days=1), 10))
    assert await triggered(store, arrival(1)) == []


async def test_paused_workflow_is_started_by_nothing_and_its_events_are_done_with(store: Store) -> None:
    await store.run(insert_flow, flow(CHAIN, state=WorkflowState.PAUSED))
    assert await triggered(store, arrival(1)) == []
    assert await store.run(lambda tx: tx.events.take(10)) == []


async def test_what_a_run_makes_starts_no_workflow_that_led_to_it(store: Store) -> None:
    for workflow in (flow(CHAIN), flow(CHAIN, id="w2")):
        await store.run(insert_flow, workflow)
    assert await triggered(store, arrival(1, lineage=("w1",))) == ["w2"]
    assert await triggered(store, arrival(2, lineage=("w1", "w2"))) == []


async def test_a_workflow_that_cannot_run_now_leaves_the_others_their_event(store: Store) -> None:
    lost = flow({"A": []}, id="w2")
    steps = (replace(lost.steps[0], params=None, template_id="t1gone"),)
    await store.run(insert_flow, replace(lost, steps=steps))
    await store.run(insert_flow, flow(CHAIN))
    assert await triggered(store, arrival(1)) == ["w1"]


async def test_closed_service_starts_no_run(store: Store) -> None:
    await store.run(insert_flow, flow(CHAIN))

    def close(tx: Transaction) -> None:
        bucket = tx.buckets.get(BUCKET)
        assert bucket is not None
        tx.buckets.replace(replace(bucket, switches={"file": Switch(False, AT)}))

    await store.run(close)
    assert await triggered(store, arrival(1)) == []


async def test_two_processes_start_one_run_of_one_event(postgres_store: PostgresStore) -> None:
    await postgres_store.run(insert_flow, flow(CHAIN))
    await postgres_store.run(lambda tx: [tx.events.insert(arrival(number)) for number in range(20)])
    looks = [postgres_store.run(trigger_events, 5, operations(), LIMITS) for _ in range(8)]
    done = await asyncio.gather(*looks)
    left = await postgres_store.run(trigger_events, 50, operations(), LIMITS)
    assert sum(len(one.progress.jobs) for one in (*done, left)) == 20


# --- step behind step ----------------------------------------------------------------------------------------------


async def test_a_step_starts_when_all_that_it_follows_have_succeeded(store: Store) -> None:
    execution = await begin(store, flow(DIAMOND))
    assert await steps_now(store) == ["A"]
    assert await steps_now(store) == ["B", "C"]
    assert (await shown(store, execution.id)).state is ExecutionState.RUNNING
    assert await steps_now(store) == ["D"]
    assert (await shown(store, execution.id)).state is ExecutionState.SUCCESS
    assert await steps_now(store) == []


async def test_a_failed_step_fails_the_run_and_only_what_is_behind_it_does_not_run(store: Store) -> None:
    execution = await begin(store, flow({"A": [], "B": ["A"], "C": ["A"], "D": ["B"], "E": ["C"]}))
    assert await steps_now(store) == ["A"]
    assert await steps_now(store, failed=("B",)) == ["B", "C"]
    assert (await shown(store, execution.id)).state is ExecutionState.RUNNING
    assert await steps_now(store) == ["E"]
    ended = await shown(store, execution.id)
    assert ended.state is ExecutionState.FAILED and ended.ended_at is not None


async def test_a_step_put_back_is_neither_ended_nor_started_twice(store: Store) -> None:
    await begin(store, flow(CHAIN))
    (lease,) = await store.run(claim)
    died = Outcome(lease, None, "InternalError", "died", retryable=True)
    assert (await store.run(finish_jobs, [died], operations())).started == []
    assert await steps_now(store) == ["A"]
    assert await steps_now(store) == ["B"]


async def test_an_end_whose_lease_was_lost_moves_nothing(store: Store) -> None:
    await begin(store, flow(CHAIN))
    (lease,) = await store.run(claim)
    await store.run(finish, [lease])
    ends = await store.run(finish, [lease])
    assert (ends.jobs, ends.deliveries, ends.started) == ([], [], [])
    assert await steps_now(store) == ["B"]


async def test_branches_that_end_in_one_instant_end_the_run_once(postgres_store: PostgresStore) -> None:
    await begin(postgres_store, flow({"A": [], "B": [], "C": [], "D": []}))
    leases = await postgres_store.run(claim)
    all_at_once = threading.Barrier(4, timeout=10)

    def end(tx: Transaction, lease: Lease) -> None:
        all_at_once.wait()
        finish(tx, [lease])

    await asyncio.gather(*(postgres_store.run(end, lease) for lease in leases))
    assert len(await deliveries(postgres_store, "WorkflowFinish")) == 1


async def test_transactions_that_end_steps_of_the_same_runs_do_not_lock_each_other_out(
    postgres_store: PostgresStore,
) -> None:
    workflow = flow({"A": [], "B": []})
    await postgres_store.run(insert_flow, workflow)
    for _ in range(20):
        await postgres_store.run(start, workflow)
    leases = await postgres_store.run(claim)
    firsts = [lease for lease in leases if lease.job.step_of and lease.job.step_of.step == "A"]
    seconds = [lease for lease in leases if lease not in firsts]
    await asyncio.gather(postgres_store.run(finish, firsts), postgres_store.run(finish, seconds[::-1]))
    assert len(await deliveries(postgres_store, "WorkflowFinish")) == 20


async def test_paused_and_full_queue_holds_steps_back_and_fails_none(store: Store) -> None:
    execution = await begin(store, flow({"A": [], "B": ["A"]}))
    (lease,) = await store.run(claim)

    def narrow(tx: Transaction, state: QueueState) -> None:
        queue = tx.queues.get(lease.job.queue_id)
        assert queue is not None
        tx.queues.replace(replace(queue, state=state, max_size=0))

    await store.run(narrow, QueueState.PAUSED)
    await store.run(finish, [lease])
    assert await steps_now(store) == []
    waiting = await store.read(lambda tx: tx.jobs.select(BUCKET, JobFilter(states=frozenset({JobState.PAUSE}))))
    assert [job.step_of.step for job, _ in waiting if job.step_of] == ["B"]
    await store.run(narrow, QueueState.ACTIVE)
    assert await steps_now(store) == ["B"]
    assert (await shown(store, execution.id)).state is ExecutionState.SUCCESS


async def test_a_step_works_on_what_the_step_before_it_made(store: Store) -> None:
    made = JobOutput(BUCKET, "ap-chongqing", "out/${InputName}-${RunId}.${Ext}")
    workflow = flow({"A": [], "B": ["A"], "C": ["B"], "D": []})
    steps = (replace(workflow.steps[0], output=made), *workflow.steps[1:])
    execution = await begin(store, replace(workflow, steps=steps))
    leases = await store.run(claim)
    assert {lease.job.input.object_key for lease in leases} == {"in/a.png"}
    await store.run(finish, leases)
    for _ in ("B", "C"):
        (lease,) = await store.run(claim)
        assert lease.job.input.object_key == f"out/a-{execution.id}.png"
        await store.run(finish, [lease])


async def test_object_that_a_step_makes_carries_the_workflows_that_led_to_it(store: Store) -> None:
    await store.run(insert_flow, flow(CHAIN))
    await triggered(store, arrival(1, lineage=("w0",)))
    (lease,) = await store.run(claim)
    made = StoredObject(BUCKET, "out/x", "f1", 1, '"e"', 1, AT)
    result = {"md5": "900150983cd24fb0d6963f7d28e17f72", "size_bytes": 3}
    await store.run(finish_jobs, [Outcome(lease, result, made=made)], operations())
    (event,) = await store.run(lambda tx: tx.events.take(10))
    assert (event.key, event.lineage) == ("out/x", ("w0", "w1"))


# --- cancel --------------------------------------------------------------------------------------------------------


async def test_cancelled_run_ends_its_waiting_steps_lets_running_ones_end_and_tells_nobody(store: Store) -> None:
    execution = await begin(store, flow({"A": [], "B": [], "C": ["A"], "D": ["B"]}))
    running = await store.run(claim, 1)

    def cancel(tx: Transaction) -> list[JobState]:
        return [job.state for job in cancel_run(tx, tx.executions.lock([execution.id])[0])]

    assert await store.run(cancel) == [JobState.CANCEL]
    ends = await store.run(finish, running)
    assert ([job.state for job in ends.jobs], ends.started) == ([JobState.SUCCESS], [])
    assert (await shown(store, execution.id)).state is ExecutionState.CANCEL
    assert await steps_now(store) == [] and await deliveries(store, "WorkflowFinish") == []


async def test_step_of_a_cancelled_run_that_comes_back_waiting_is_cancelled(store: Store) -> None:
    execution = await begin(store, flow({"A": []}))
    (lease,) = await store.run(claim)
    await store.run(lambda tx: cancel_run(tx, tx.executions.lock([execution.id])[0]))
    await store.run(finish_jobs, [Outcome(lease, None, "InternalError", "died", retryable=True)], operations())
    (job,) = await store.read(lambda tx: tx.jobs.get([lease.job.id]))
    assert job.state is JobState.CANCEL


async def test_step_of_a_cancelled_run_that_is_given_back_unrun_is_cancelled(store: Store) -> None:
    execution = await begin(store, flow({"A": []}))
    leases = await store.run(claim)
    await store.run(lambda tx: cancel_run(tx, tx.executions.lock([execution.id])[0]))
    await store.run(release_jobs, leases, operations())
    assert await store.run(claim) == []
    (step,) = await store.read(lambda tx: tx.executions.steps(execution.id))
    assert step.state is JobState.CANCEL


@pytest.mark.parametrize("is_operator", [True, False])
async def test_run_of_which_one_step_is_cancelled_ends_failed_after_what_is_beside_it(
    store: Store, is_operator: bool
) -> None:
    execution = await begin(store, flow({"A": [], "B": [], "C": ["A"]}))
    jobs = await store.read(lambda tx: tx.jobs.select(BUCKET, JobFilter()))
    job = next(job for job, _ in jobs if job.step_of and job.step_of.step == "A")
    if is_operator:
        await store.run(operator_cancel, job.id, operations())
    else:
        await store.run(cancel_job, BUCKET, job.id, operations())
    assert (await shown(store, execution.id)).state is ExecutionState.RUNNING
    assert await steps_now(store) == ["B"]
    assert (await shown(store, execution.id)).state is ExecutionState.FAILED
    assert len(await deliveries(store, "WorkflowFinish")) == 1


# --- what is told --------------------------------------------------------------------------------------------------


async def test_each_step_is_told_with_the_uploads_headers_and_its_run(store: Store) -> None:
    await store.run(insert_flow, flow({"A": []}))
    await triggered(store, arrival(1))
    await steps_now(store)
    (told,) = await deliveries(store, "TaskFinish")
    ((execution, _),) = await store.read(lambda tx: tx.executions.select(BUCKET, ExecutionFilter("w1")))
    headers = (
        ("Content-Type", "image/png"), ("x-cos-request-id", "NjM3"), ("x-cos-meta-a", "1"), ("x-cos-meta-b", "2"),
        ("EventName", "cos:ObjectCreated:Put"), ("Size", "3"),
    )  # fmt: skip
    nodes = "".join(f"<CosHeaders><Key>{key}</Key><Value>{value}</Value></CosHeaders>" for key, value in headers)
    assert f"<Region>ap-chongqing</Region>{nodes}</Input>".encode() in told.body
    run = (
        f"<Workflow><Name>A</Name><RunId>{execution.id}</RunId><WorkflowId>w1</WorkflowId>"
        "<WorkflowName>flow-w1</WorkflowName></Workflow></JobsDetail>"
    )
    assert run.encode() in told.body


async def test_the_runs_end_is_told_once_in_the_commit_of_its_last_step(store: Store) -> None:
    execution = await begin(store, flow({"A": [], "B": ["A"]}))
    await steps_now(store)
    assert await deliveries(store, "WorkflowFinish") == []
    ends = await store.run(finish, await store.run(claim))
    assert [one.event for one in ends.deliveries] == ["TaskFinish", "WorkflowFinish"]
    (told,) = await deliveries(store, "WorkflowFinish")
    assert (told.url, told.job_id, told.bucket) == (URL, execution.id, BUCKET)
    assert b"<State>Success</State>" in told.body and told.body.count(b"<Tasks>") == 2


async def test_workflow_without_a_setting_tells_whom_its_first_steps_queue_names(store: Store) -> None:
    execution = await begin(store, flow({"A": []}, notify=None))

    def name_receiver(tx: Transaction) -> None:
        queue = tx.queues.get(execution.plan[0].queue_id)
        assert queue is not None
        notify = replace(EVERY_END, url="http://127.0.0.1:9/queue", format=CallbackFormat.JSON)
        tx.queues.replace(replace(queue, notify=notify))

    await store.run(name_receiver)
    await steps_now(store)
    told = [*await deliveries(store, "TaskFinish"), *await deliveries(store, "WorkflowFinish")]
    assert [one.url for one in told] == ["http://127.0.0.1:9/queue"] * 2
    assert told[1].body.startswith(b'{"EventName":"WorkflowFinish"')


@pytest.mark.parametrize(
    ("notify", "expected"),
    [
        (replace(EVERY_END, is_on=False), []),
        (replace(EVERY_END, events=("WorkflowFinish",)), ["WorkflowFinish"]),
        (replace(EVERY_END, events=("WorkflowStart", "TaskFinish")), ["WorkflowStart", "TaskFinish"]),
    ],
)
async def test_only_the_events_of_the_workflows_setting_are_told(
    store: Store, notify: Notify, expected: list[str]
) -> None:
    await begin(store, flow({"A": []}, notify=notify))
    await steps_now(store)
    rows = await store.read(lambda tx: tx.deliveries.select(DeliveryFilter()))
    assert [one.event for one, _ in reversed(rows)] == expected
