"""What runs of workflows cost: rows, and statements that walk indexes however many runs there are."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Connection, event, func, insert, select, text
from tests.contract.test_job_plans import plans_of
from tests.support.flows import AT, BUCKET, LIMITS, TAG, arrival, claim, finish, flow, insert_flow, start

from cloudfinite.adapters.schema import job
from cloudfinite.adapters.schema_objects import event as object_event
from cloudfinite.adapters.schema_workflows import execution, step
from cloudfinite.domain.execution import ExecutionFilter, ExecutionState
from cloudfinite.domain.ids import new_job_id
from cloudfinite.domain.job import Job, JobInput
from cloudfinite.operations import operations
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.queues import ensure_queue
from cloudfinite.service.triggers import trigger_events

ENDED, RUNNING = 20_000, 3_000
IN_FLIGHT = 10_000
WALKS_ALL = re.compile(
    r"SCAN (?:execution|step|workflow|event)\b(?! USING INDEX event_undone)|Seq Scan on (?:execution|step|event)"
)
SORTS = re.compile(r"TEMP B-TREE|(?:->|^) *(?:Incremental )?Sort\b", re.MULTILINE)
SORTS_FEW = re.compile(r"FOR UPDATE|FROM workflow")  # the runs of one transaction; a bucket's workflows
CHAIN = {"A": [], "B": ["A"]}
SOURCE = '{"key": "k", "size_bytes": 1, "headers": {}}'


@pytest.fixture
async def many(store: Store) -> Store:
    """A store with many runs of one workflow that have ended, and many that run."""
    await store.run(insert_flow, flow(CHAIN))
    with store.engine.begin() as connection:  # type: ignore[attr-defined]  # both stores have one
        fill(connection)
        connection.execute(text("ANALYZE"))
    return store


def fill(connection: Connection) -> None:
    runs = [
        {
            "id": f"i{number:06}", "workflow_id": "w1", "workflow_name": "flow", "bucket": BUCKET, "region": "r",
            "state": "Success" if number < ENDED else "Running", "object_key": f"{number % 100}.png",
            "event_id": f"old{number}", "batch_id": f"b{number % 50}" if number % 2 else None, "source": SOURCE,
            "topology": "", "plan": "[]", "notify": None, "created_us": number,
            "ended_us": number if number < ENDED else None,
        }
        for number in range(ENDED + RUNNING)
    ]  # fmt: skip
    connection.execute(insert(execution), runs)
    steps = [
        {"run_id": run["id"], "name": "A", "job_id": f"j{run['id']}", "state": "Success", "output_key": ""}
        for run in runs
    ]
    connection.execute(insert(step), steps)
    done = {
        "name": "n", "bucket": BUCKET, "key": b"k", "size_bytes": 1, "etag": "", "request_id": "", "headers": "{}",
        "created_us": 1, "done_us": 1,
    }  # fmt: skip
    connection.execute(insert(object_event), [done | {"id": f"old{number}"} for number in range(RUNNING)])


def slow(plans: Sequence[str]) -> list[str]:
    return [plan for plan in plans if WALKS_ALL.search(plan) or (SORTS.search(plan) and not SORTS_FEW.search(plan))]


async def test_triggering_and_advancing_walk_indexes(many: Store) -> None:
    await many.run(lambda tx: tx.events.insert(arrival(1)))
    assert slow(await plans_of(many, lambda tx: trigger_events(tx, 10, operations(), LIMITS))) == []
    for _ in ("A", "B"):
        leases = await many.run(claim)
        plans = await plans_of(many, lambda tx, leases=leases: finish(tx, leases))
        assert len(plans) >= 5 and slow(plans) == []


async def test_lists_and_purge_walk_indexes(many: Store) -> None:
    base: dict[str, Any] = {"workflow_id": "w1"}
    for wanted in (
        base,
        base | {"states": frozenset({ExecutionState.SUCCESS, ExecutionState.FAILED})},
        base | {"newest_first": False, "created_from": AT},
        base | {"after": (AT, 900)},
        base | {"object_key": "7.png"},
        base | {"batch_id": "b7"},
    ):
        page = ExecutionFilter(**wanted)
        plans = await plans_of(many, lambda tx, page=page: tx.executions.select(BUCKET, page))
        assert plans
        assert slow(plans) == []
    assert slow(await plans_of(many, lambda tx: tx.executions.purge(AT, 10))) == []


async def test_the_end_of_a_job_without_a_run_asks_nothing_of_runs(store: Store) -> None:
    await store.run(insert_flow, flow(CHAIN))

    def submit(tx: Transaction) -> None:
        queue = ensure_queue(tx, BUCKET, "file", LIMITS)
        tx.jobs.insert([Job(new_job_id("f", AT), BUCKET, "r", TAG, queue.id, JobInput("k"), {"type": "MD5"}, AT)])

    await store.run(submit)
    leases = await store.run(claim)
    sent: list[str] = []
    engine = store.engine  # type: ignore[attr-defined]  # both stores have one
    event.listen(engine, "before_cursor_execute", lambda *told: sent.append(told[2]))
    await store.run(finish, leases)
    assert [words for words in sent if re.search(r"execution|step\b(?!,)", words.partition("RETURNING")[0])] == []


async def test_ten_thousand_runs_in_flight_cost_their_rows(sqlite_store: Store) -> None:
    workflow = flow(CHAIN)
    await sqlite_store.run(insert_flow, workflow)

    def working() -> tuple[set[str], int]:
        threads = {thread.name for thread in threading.enumerate() if "checkpoint" not in thread.name}
        return threads, len(asyncio.all_tasks())

    before = working()

    def start_some(tx: Transaction) -> None:
        for _ in range(500):
            start(tx, workflow)

    for _ in range(IN_FLIGHT // 500):
        await sqlite_store.run(start_some)
    assert working() == before
    with sqlite_store.engine.connect() as connection:  # type: ignore[attr-defined]
        counts = [
            connection.execute(select(func.count()).select_from(table)).scalar() for table in (execution, step, job)
        ]
    assert counts == [IN_FLIGHT] * 3
    leases = await sqlite_store.run(claim, 10)
    assert len((await sqlite_store.run(finish, leases)).started) == 10
