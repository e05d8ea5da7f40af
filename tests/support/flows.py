"""Workflows for tests, put into a store as they are: what a client's body would have to pass is tested elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from cloudfinite.domain.events import ObjectEvent
from cloudfinite.domain.execution import Execution, RunSource
from cloudfinite.domain.job import CallbackFormat, Lease, Outcome
from cloudfinite.domain.objects import Bucket
from cloudfinite.domain.queue import Notify
from cloudfinite.domain.workflow import Start, Step, Workflow, WorkflowState
from cloudfinite.operations import operations
from cloudfinite.ports import Transaction
from cloudfinite.service.jobs import Ends, finish_jobs
from cloudfinite.service.queues import QueueLimits
from cloudfinite.service.runs import Progress, start_run

AT = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)
BUCKET = "b-1"
TAG = "FileHashCode"
URL = "http://127.0.0.1:9/told"
RESULT = {"md5": "900150983cd24fb0d6963f7d28e17f72", "size_bytes": 3}
LIMITS = QueueLimits()
EVERY_END = Notify(True, URL, ("TaskFinish", "WorkflowFinish"), CallbackFormat.XML)
LEASE = timedelta(hours=1)


def flow(
    after: Mapping[str, Sequence[str]],
    *,
    id: str = "w1",
    notify: Notify | None = EVERY_END,
    state: WorkflowState = WorkflowState.ACTIVE,
    prefix: str = "",
) -> Workflow:
    """A workflow of hashing steps; `after` has each step's predecessors, and each behind them."""
    steps = tuple(
        Step(name, TAG, TAG, tuple(names), {"type": "MD5", "add_to_header": False}) for name, names in after.items()
    )
    return Workflow(id, BUCKET, f"flow-{id}", state, "<Topology/>", Start(prefix, notify=notify), steps, AT, AT)


def insert_flow(tx: Transaction, workflow: Workflow) -> None:
    tx.buckets.ensure(Bucket(BUCKET, "ap-chongqing", AT))
    tx.workflows.insert(workflow)


def start(tx: Transaction, workflow: Workflow, key: str = "in/a.png") -> tuple[Execution, Progress]:
    started = start_run(tx, workflow, RunSource(key, 3, {}), operations(), LIMITS)
    assert started is not None
    return started


def arrival(number: int, key: str = "in/a.png", lineage: tuple[str, ...] = ()) -> ObjectEvent:
    return ObjectEvent(
        id=f"e{number}",
        name="cos:ObjectCreated:Put",
        bucket=BUCKET,
        key=key,
        size_bytes=3,
        created_at=AT,
        request_id="NjM3",
        headers={"Content-Type": "image/png", "x-cos-meta-b": "2", "x-cos-meta-a": "1"},
        lineage=lineage,
    )


def claim(tx: Transaction, limit: int = 100, owner: str = "w") -> list[Lease]:
    return tx.jobs.claim(owner, limit, LEASE, "")[0]


def claimed_steps(leases: Sequence[Lease]) -> list[str]:
    return sorted(lease.job.step_of.step for lease in leases if lease.job.step_of)


def finish(tx: Transaction, leases: Sequence[Lease], failed: Sequence[str] = ()) -> Ends:
    """End these jobs, those of the named steps in failure."""
    return finish_jobs(tx, [outcome(lease, failed) for lease in leases], operations())


def outcome(lease: Lease, failed: Sequence[str] = ()) -> Outcome:
    is_failed = lease.job.step_of is not None and lease.job.step_of.step in failed
    return Outcome(lease, None, "UnreadableInput", "no good") if is_failed else Outcome(lease, RESULT)
