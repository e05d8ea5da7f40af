"""Runs of workflows from the client's side: started by hand, shown, listed, cancelled.

Functions whose first argument is a transaction are whole transactions, run by `Store.run`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from cloudfinite.domain.delivery import Delivery, DeliveryFilter
from cloudfinite.domain.events import told_headers
from cloudfinite.domain.execution import Execution, ExecutionFilter, ExecutionState, RunSource, RunTask
from cloudfinite.domain.job import Job
from cloudfinite.domain.objects import StoredObject
from cloudfinite.errors import ExecutionNotFound, InvalidArgument, NoSuchKey
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.objects import check_key
from cloudfinite.service.queues import QueueLimits
from cloudfinite.service.runs import Progress, cancel_run, start_run, tasks_of
from cloudfinite.service.workflows import get_workflow
from cloudfinite.wire.operation import Operation

_DELIVERIES = 100  # shown with a run; a run has one or two

Sees = Callable[[Execution], bool]


@dataclass(frozen=True, slots=True)
class RunPage:
    """One page of runs; `next_position` is where the following page starts, None on the last."""

    runs: list[Execution]
    next_position: tuple[Execution, int] | None


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All that is known of a run, as of one instant: the steps that have a job, and its own deliveries' heads."""

    run: Execution
    tasks: list[RunTask]
    deliveries: list[Delivery]
    now: datetime


class RunControl:
    """What clients and operators do with runs; "" as a bucket is any.

    find_object raises NoSuchKey. on_started is told of what is durable: a run's first jobs, and notifications;
    on_cancelled of each job that was cancelled with its run.
    """

    def __init__(
        self,
        store: Store,
        find_object: Callable[[str, str], Awaitable[StoredObject]],
        operations: Mapping[str, Operation],
        limits: QueueLimits,
        on_started: Callable[[Progress], None],
        on_cancelled: Callable[[Job], None],
    ) -> None:
        self._store = store
        self._find_object = find_object
        self._operations = operations
        self._limits = limits
        self._on_started = on_started
        self._on_cancelled = on_cancelled

    async def start_run(self, bucket: str, workflow_id: str, key: str) -> Execution:
        """Start a run on an object, whatever the workflow's state and filters; full queues hold it back.

        Wire: our choice – an object that does not exist fails the run, as it fails a job. Raises WorkflowNotFound,
        KeyTooLong, and what `service.runs.start_run` raises.
        """
        check_key(key)
        try:
            found = await self._find_object(bucket, key)
        except NoSuchKey:
            source = RunSource(key, 0, {})
        else:
            source = RunSource(key, found.size_bytes, told_headers(found.headers))
        execution, progress = await self._store.run(
            start_by_hand, bucket, workflow_id, source, self._operations, self._limits
        )
        self._on_started(progress)
        return execution

    async def show_run(
        self, bucket: str, run_id: str, sees: Sees = lambda run: True
    ) -> tuple[Execution, list[RunTask]]:
        """The run and its steps that have a job, in the order of the graph. Raises ExecutionNotFound."""
        return await self._store.read(show_run, bucket, run_id, sees)

    async def read_facts(self, run_id: str) -> RunFacts:
        """Raises ExecutionNotFound."""
        return await self._store.read(read_run_facts, run_id)

    async def list_runs(self, bucket: str, wanted: ExecutionFilter) -> RunPage:
        # One more than asked tells whether a page follows.
        rows = await self._store.read(lambda tx: tx.executions.select(bucket, replace(wanted, size=wanted.size + 1)))
        page = rows[: wanted.size]
        return RunPage([run for run, _ in page], page[-1] if len(rows) > wanted.size else None)

    async def cancel_run(self, bucket: str, run_id: str, sees: Sees = lambda run: True) -> Execution:
        """End a run: nothing follows the steps that run now; again is harmless.

        Raises ExecutionNotFound, or InvalidArgument when it has ended otherwise.
        """
        execution, jobs = await self._store.run(cancel_by_hand, bucket, run_id, sees)
        for job in jobs:
            self._on_cancelled(job)
        return execution


def start_by_hand(
    tx: Transaction,
    bucket: str,
    workflow_id: str,
    source: RunSource,
    operations: Mapping[str, Operation],
    limits: QueueLimits,
) -> tuple[Execution, Progress]:
    started = start_run(tx, get_workflow(tx, bucket, workflow_id), source, operations, limits)
    assert started is not None, "a run without an event is always a new one"
    return started


def show_run(tx: Transaction, bucket: str, run_id: str, sees: Sees) -> tuple[Execution, list[RunTask]]:
    execution = find_run(tx, bucket, run_id, sees)
    return execution, tasks_of(tx, execution)


def read_run_facts(tx: Transaction, run_id: str) -> RunFacts:
    run, tasks = show_run(tx, "", run_id, lambda run: True)
    rows = tx.deliveries.select(DeliveryFilter(job_id=run_id, size=_DELIVERIES))
    return RunFacts(run, tasks, [delivery for delivery, _ in rows], tx.now)


def find_run(tx: Transaction, bucket: str, run_id: str, sees: Sees = lambda run: True) -> Execution:
    """Raises ExecutionNotFound."""
    execution = tx.executions.get(run_id)
    if execution is None or (bucket and execution.bucket != bucket) or not sees(execution):
        raise ExecutionNotFound(f"the workflow execution {run_id} does not exist{' in this bucket' if bucket else ''}")
    return execution


def cancel_by_hand(tx: Transaction, bucket: str, run_id: str, sees: Sees) -> tuple[Execution, list[Job]]:
    tx.executions.lock([run_id])
    execution = find_run(tx, bucket, run_id, sees)
    if execution.state is ExecutionState.CANCEL:
        return execution, []
    if execution.state.is_final:
        state = execution.state
        raise InvalidArgument(f"the workflow execution {run_id} is {state}; only a running one can be cancelled")
    jobs = cancel_run(tx, execution)
    return find_run(tx, bucket, run_id), jobs
