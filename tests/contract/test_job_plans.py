"""The statements of jobs as they are really sent walk indexes and sort nothing, whatever ANALYZE told the planner."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, insert, text
from tests.contract.test_job_rows import AT, LEASE, add, job_in, queue_of

from cloudfinite.adapters.schema import job
from cloudfinite.domain.job import JobFilter, JobState, Outcome
from cloudfinite.domain.queue import Queue
from cloudfinite.ports import Store, Transaction

ENDED, WAITING = 20_000, 3_000
# SQLite's words for reading everything, except from an index of the few running jobs; PostgreSQL's for the same.
WALKS_ALL = re.compile(
    r"SCAN (?:job|ready)(?! USING (?:COVERING )?INDEX job_(?:running|lease))|Seq Scan on (?:job|ready)"
)
SORTS = re.compile(r"TEMP B-TREE|(?:->|^) *(?:Incremental )?Sort\b", re.MULTILINE)


@pytest.fixture
async def queue(store: Store) -> Queue:
    """A queue with many waiting jobs and many more that have ended; another one has a few, and some run."""
    long, short = queue_of("b-1"), queue_of("b-2")
    await store.run(add, [long, short], [job_in(long, 1), *(job_in(short, number) for number in range(5))])
    with store.engine.begin() as connection:  # type: ignore[attr-defined]  # both stores have one
        fill(connection, long)
    await store.run(lambda tx: tx.jobs.claim("w", 4, LEASE, ""))
    with store.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(text("ANALYZE"))
    return long


def fill(connection: Connection, queue: Queue) -> None:
    rows = [
        {
            "id": f"z{number:06}", "bucket": queue.bucket, "region": "ap-chongqing", "tag": "ImageOCR",
            "queue_id": queue.id, "state": "Success" if number < ENDED else "Submitted", "level": 0,
            "object_key": f"{number % 100}.png", "url": "", "params": "{}", "template_id": "", "template_name": "",
            "created_us": number, "ended_us": number if number < ENDED else None,
        }
        for number in range(ENDED + WAITING)
    ]  # fmt: skip
    connection.execute(insert(job), rows)
    connection.execute(
        text("INSERT INTO ready (queue_id, rank, seq) SELECT queue_id, 2, seq FROM job WHERE id >= :first"),
        {"first": f"z{ENDED:06}"},
    )


async def plans_of(store: Store, work: Callable[[Transaction], object]) -> list[str]:
    """Each statement that the work sends, with its plan."""
    engine = store.engine  # type: ignore[attr-defined]  # both stores have one
    sent: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if re.match(r"\s*(?:SELECT|UPDATE|DELETE)", statement) and "clock_timestamp" not in statement:
            sent.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        await store.run(work)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        return [
            "\n".join(
                [statement, *(str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {statement}", values))]
            )
            for statement, values in sent
        ]


def is_slow(plan: str) -> bool:
    # Running jobs are as few as there are children, so planners may like to sort them.
    sorts_many = SORTS.search(plan) and "state = 'Running'" not in plan
    return bool(WALKS_ALL.search(plan) or sorts_many)


def claim(tx: Transaction) -> object:
    return tx.jobs.claim("w", 8, LEASE, "")


def finish(tx: Transaction) -> object:
    leases = tx.jobs.running(2)
    return [
        tx.jobs.finish(Outcome(leases[0], {})),
        tx.jobs.finish(Outcome(leases[1], None, "InternalError", "died", retryable=True)),
    ]


def keep_leases(tx: Transaction) -> object:
    return tx.jobs.renew("w", LEASE, tx.jobs.running(4)), tx.jobs.expired(100)


def cancel(tx: Transaction) -> object:
    return tx.jobs.cancel(f"z{ENDED:06}")


def purge(tx: Transaction) -> object:
    return tx.jobs.purge(AT - timedelta(days=9_000), 10)


async def test_what_the_dispatcher_asks_walks_indexes(store: Store, queue: Queue) -> None:
    for work in (claim, finish, keep_leases, cancel, purge):
        plans = await plans_of(store, work)
        assert plans
        assert [plan for plan in plans if is_slow(plan)] == []


async def test_lists_walk_indexes(store: Store, queue: Queue) -> None:
    ends = frozenset({JobState.SUCCESS, JobState.FAILED, JobState.RUNNING})
    for bucket, wanted in [
        ("b-1", JobFilter(tag="ImageOCR")),
        ("b-1", JobFilter(tag="ImageOCR", states=ends)),
        ("b-1", JobFilter(tag="ImageOCR", newest_first=False, created_from=AT)),
        ("b-1", JobFilter(tag="ImageOCR", after=(AT, 900))),
        ("b-1", JobFilter(object_key="7.png")),
        ("b-1", JobFilter(queue_id=queue.id)),
        ("", JobFilter()),
        ("", JobFilter(states=ends)),
    ]:
        plans = await plans_of(store, lambda tx, bucket=bucket, wanted=wanted: tx.jobs.select(bucket, wanted))
        assert plans
        assert [plan for plan in plans if is_slow(plan)] == []
