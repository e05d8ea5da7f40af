"""The SQL of workflows."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import delete, func, insert, select, text, update

from cloudfinite.adapters.schema_base import from_us, to_us
from cloudfinite.adapters.schema_workflows import workflow
from cloudfinite.adapters.sql import SqlUnit
from cloudfinite.domain.workflow import Start, Step, Workflow, WorkflowFilter, WorkflowState

_ACTIVE = text("SELECT * FROM workflow WHERE bucket = :bucket AND state = 'Active' ORDER BY seq")
_START = TypeAdapter(Start)
_STEPS = TypeAdapter(tuple[Step, ...])


class SqlWorkflowRows:
    """`ports.WorkflowRows` on a SQL connection."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    def insert(self, item: Workflow) -> None:
        self._unit.connection.execute(insert(workflow).values(_values(item)))

    def get(self, bucket: str, workflow_id: str) -> Workflow | None:
        return self._one(_selected(bucket, workflow_id))

    def lock(self, bucket: str, workflow_id: str) -> Workflow | None:
        return self._one(_selected(bucket, workflow_id).with_for_update())

    def _one(self, query: Any) -> Workflow | None:
        row = self._unit.connection.execute(query).one_or_none()
        return _workflow(row) if row else None

    def select(self, bucket: str, wanted: WorkflowFilter, offset: int, limit: int) -> tuple[int, list[Workflow]]:
        conditions = [workflow.c.bucket == bucket] if bucket else []
        if wanted.name:
            conditions.append(workflow.c.name.contains(wanted.name, autoescape=True))
        if wanted.ids:
            conditions.append(workflow.c.id.in_(wanted.ids))
        db = self._unit.connection
        total = int(db.execute(select(func.count()).select_from(workflow).where(*conditions)).scalar_one())
        page = select(workflow).where(*conditions).order_by(workflow.c.seq.desc()).offset(offset).limit(limit)
        return total, [_workflow(row) for row in db.execute(page)]

    def active(self, bucket: str) -> list[Workflow]:
        return [_workflow(row) for row in self._unit.connection.execute(_ACTIVE, {"bucket": bucket})]

    def replace(self, item: Workflow) -> None:
        self._unit.connection.execute(update(workflow).where(workflow.c.id == item.id).values(_values(item)))

    def delete(self, bucket: str, workflow_id: str) -> bool:
        statement = delete(workflow).where(workflow.c.bucket == bucket, workflow.c.id == workflow_id)
        return bool(self._unit.connection.execute(statement).rowcount)


def _selected(bucket: str, workflow_id: str) -> Any:
    return select(workflow).where(workflow.c.bucket == bucket, workflow.c.id == workflow_id)


def _values(item: Workflow) -> dict[str, Any]:
    return {
        "id": item.id,
        "bucket": item.bucket,
        "name": item.name,
        "state": item.state.value,
        "topology": item.topology,
        "start": _START.dump_json(item.start).decode(),
        "steps": _STEPS.dump_json(item.steps).decode(),
        "created_us": to_us(item.created_at),
        "updated_us": to_us(item.updated_at),
    }


def _workflow(row: Any) -> Workflow:
    return Workflow(
        id=row.id,
        bucket=row.bucket,
        name=row.name,
        state=WorkflowState(row.state),
        topology=row.topology,
        start=_START.validate_json(row.start),
        steps=_STEPS.validate_json(row.steps),
        created_at=from_us(row.created_us),
        updated_at=from_us(row.updated_us),
    )
