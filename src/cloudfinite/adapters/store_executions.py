"""The SQL of workflows' executions and of their steps that have a job; the same text on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import bindparam, delete, select, text

from cloudfinite.adapters.schema_base import from_us, optional_time, to_us
from cloudfinite.adapters.schema_workflows import execution, step
from cloudfinite.adapters.sql import SqlUnit, is_postgres
from cloudfinite.adapters.store_pages import has_prefix, merged, paged
from cloudfinite.domain.execution import (
    Execution,
    ExecutionFilter,
    ExecutionState,
    PlannedStep,
    RunSource,
    StepRun,
)
from cloudfinite.domain.job import JobState
from cloudfinite.domain.queue import Notify

_INSERT = text("""
    INSERT INTO execution (id, workflow_id, workflow_name, bucket, region, state, object_key, event_id, batch_id,
                           source, topology, plan, notify, created_us)
    VALUES (:id, :workflow_id, :workflow_name, :bucket, :region, 'Running', :object_key, :event_id, :batch_id,
            :source, :topology, :plan, :notify, :created_us)
    ON CONFLICT (workflow_id, event_id) WHERE event_id IS NOT NULL DO NOTHING RETURNING seq""")
# Without the topology, the longest column: a step's end needs the plan only.
_LOCK = text("""
    SELECT id, workflow_id, workflow_name, bucket, region, state, source, '' AS topology, plan, notify, created_us,
           ended_us
    FROM execution WHERE id IN :ids ORDER BY id""").bindparams(bindparam("ids", expanding=True))
_LOCK_POSTGRES = text(f"{_LOCK.text} FOR UPDATE").bindparams(bindparam("ids", expanding=True))
_END = text("UPDATE execution SET state = :state, ended_us = :now WHERE id = :id")

_STEPS = text("SELECT name, job_id, state, output_key FROM step WHERE run_id = :run_id")
_START_STEP = text("""
    INSERT INTO step (run_id, name, job_id, state, output_key)
    VALUES (:run_id, :name, :job_id, 'Submitted', :output_key)""")
_END_STEP = text("UPDATE step SET state = :state WHERE run_id = :run_id AND name = :name")

_SOURCE = TypeAdapter(RunSource)
_PLAN = TypeAdapter(tuple[PlannedStep, ...])
_NOTIFY = TypeAdapter(Notify)


class SqlExecutionRows:
    """`ports.ExecutionRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def insert(self, item: Execution) -> bool:
        return self._unit.connection.execute(_INSERT, _values(item)).scalar() is not None

    def get(self, run_id: str) -> Execution | None:
        row = self._unit.connection.execute(select(execution).where(execution.c.id == run_id)).one_or_none()
        return _execution(row) if row else None

    def lock(self, run_ids: Sequence[str]) -> list[Execution]:
        # In the order of their ids: two transactions that end steps of the same runs cannot wait for each other.
        db = self._unit.connection
        rows = db.execute(_LOCK_POSTGRES if is_postgres(db) else _LOCK, {"ids": sorted(set(run_ids))})
        return [_execution(row) for row in rows]

    def select(self, bucket: str, wanted: ExecutionFilter) -> list[tuple[Execution, int]]:
        pages = [self._page(bucket, wanted, state) for state in wanted.states or ExecutionState]
        return [(_execution(row), row.seq) for row in merged(pages, wanted)]

    def _page(self, bucket: str, wanted: ExecutionFilter, state: ExecutionState) -> list[Any]:
        # The state is written into the text: a bound one would hide it from the planner.
        query = select(execution).where(
            execution.c.workflow_id == wanted.workflow_id,
            execution.c.state == text(f"'{state}'"),
        )
        if bucket:
            query = query.where(execution.c.bucket == bucket)
        if wanted.object_key:
            query = query.where(execution.c.object_key == wanted.object_key)
        if "" not in wanted.object_prefixes:
            query = query.where(has_prefix(execution.c.object_key, wanted.object_prefixes))
        if wanted.batch_id:
            query = query.where(execution.c.batch_id == wanted.batch_id)
        return list(self._unit.connection.execute(paged(query, execution, wanted)))

    def end(self, run_id: str, state: ExecutionState) -> None:
        values = {"id": run_id, "state": state.value, "now": to_us(self._unit.now)}
        self._unit.connection.execute(_END, values)

    def steps(self, run_id: str) -> list[StepRun]:
        rows = self._unit.connection.execute(_STEPS, {"run_id": run_id})
        return [StepRun(row.name, row.job_id, JobState(row.state), row.output_key) for row in rows]

    def start_steps(self, run_id: str, steps: Sequence[StepRun]) -> None:
        for item in steps:
            values = {"run_id": run_id, "name": item.name, "job_id": item.job_id, "output_key": item.output_key}
            self._unit.connection.execute(_START_STEP, values)

    def end_step(self, run_id: str, name: str, state: JobState) -> None:
        self._unit.connection.execute(_END_STEP, {"run_id": run_id, "name": name, "state": state.value})

    def purge(self, before: datetime, limit: int) -> int:
        db = self._unit.connection
        ended = execution.c.ended_us
        old = select(execution.c.id).where(ended.is_not(None), ended < to_us(before)).order_by(ended).limit(limit)
        run_ids = [row.id for row in db.execute(old)]
        db.execute(delete(step).where(step.c.run_id.in_(run_ids)))
        return int(db.execute(delete(execution).where(execution.c.id.in_(run_ids))).rowcount)


def _values(item: Execution) -> dict[str, Any]:
    return {
        "id": item.id,
        "workflow_id": item.workflow_id,
        "workflow_name": item.workflow_name,
        "bucket": item.bucket,
        "region": item.region,
        "object_key": item.source.key,
        "event_id": item.source.event_id or None,
        "batch_id": item.source.batch_id or None,
        "source": _SOURCE.dump_json(item.source).decode(),
        "topology": item.topology,
        "plan": _PLAN.dump_json(item.plan).decode(),
        "notify": None if item.notify is None else _NOTIFY.dump_json(item.notify).decode(),
        "created_us": to_us(item.created_at),
    }


def _execution(row: Any) -> Execution:
    return Execution(
        id=row.id,
        workflow_id=row.workflow_id,
        workflow_name=row.workflow_name,
        bucket=row.bucket,
        region=row.region,
        source=_SOURCE.validate_json(row.source),
        topology=row.topology,
        plan=_PLAN.validate_json(row.plan),
        created_at=from_us(row.created_us),
        notify=None if row.notify is None else _NOTIFY.validate_json(row.notify),
        state=ExecutionState(row.state),
        ended_at=optional_time(row.ended_us),
    )
