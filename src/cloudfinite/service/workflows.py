"""Workflows from the client's side: create, change, find and delete them.

Functions whose first argument is a transaction are whole transactions, run by `Store.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from cloudfinite.domain.ids import new_workflow_id
from cloudfinite.domain.job import JobInput, JobRequest
from cloudfinite.domain.objects import Bucket
from cloudfinite.domain.workflow import Start, Step, Workflow, WorkflowFilter, WorkflowRequest, WorkflowState
from cloudfinite.errors import (
    InvalidArgument,
    NoSuchBucket,
    QueueNotFound,
    RequestError,
    WorkflowActive,
    WorkflowNotFound,
)
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.jobs import draft_job
from cloudfinite.service.queues import QueueLimits
from cloudfinite.wire.operation import Operation


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """One page of workflows; total counts all that match, missing are the ids asked for that there are not."""

    workflows: list[Workflow]
    total: int
    missing: list[str]


class WorkflowService:
    """What clients do with workflows. `check_url` raises InvalidArgument for a URL that is never called."""

    def __init__(
        self,
        store: Store,
        operations: Mapping[str, Operation],
        limits: QueueLimits,
        check_url: Callable[[str], object],
    ) -> None:
        self._store = store
        self._operations = operations
        self._limits = limits
        self._check_url = check_url

    async def create_workflow(self, bucket: str, wanted: WorkflowRequest) -> Workflow:
        """Raises NoSuchBucket; InvalidArgument, TemplateNotFound and QueueNotFound naming the node."""
        self._check_target(wanted.start)
        return await self._store.run(create_workflow, bucket, wanted, self._operations, self._limits)

    async def update_workflow(self, bucket: str, workflow_id: str, wanted: WorkflowRequest) -> Workflow:
        """Replace all of it; runs that have started go on as they are.

        Raises WorkflowNotFound, WorkflowActive, and what `create_workflow` raises.
        """
        self._check_target(wanted.start)
        return await self._store.run(update_workflow, bucket, workflow_id, wanted, self._operations, self._limits)

    def _check_target(self, start: Start) -> None:
        if start.notify is not None and start.notify.is_on:
            self._check_url(start.notify.url)

    async def set_state(self, bucket: str, workflow_id: str, state: WorkflowState) -> Workflow:
        """Let arriving objects start it, or no longer; again is harmless. Raises WorkflowNotFound."""
        return await self._store.run(set_state, bucket, workflow_id, state)

    async def delete_workflow(self, bucket: str, workflow_id: str) -> None:
        """Its runs stay, and go on. Raises WorkflowNotFound, WorkflowActive."""
        await self._store.run(delete_workflow, bucket, workflow_id)

    async def list_workflows(self, bucket: str, wanted: WorkflowFilter, offset: int, limit: int) -> WorkflowPage:
        """Newest first; "" is all buckets."""
        return await self._store.read(list_workflows, bucket, wanted, offset, limit)

    async def find_workflow(self, workflow_id: str) -> Workflow:
        """In whatever bucket it is. Raises WorkflowNotFound."""
        page = await self.list_workflows("", WorkflowFilter(ids=(workflow_id,)), 0, 1)
        return _found(next(iter(page.workflows), None), workflow_id)


def list_workflows(tx: Transaction, bucket: str, wanted: WorkflowFilter, offset: int, limit: int) -> WorkflowPage:
    total, page = tx.workflows.select(bucket, wanted, offset, limit)
    shown = {workflow.id for workflow in page}
    missing = [one for one in wanted.ids if one not in shown and tx.workflows.get(bucket, one) is None]
    return WorkflowPage(page, total, missing)


def get_workflow(tx: Transaction, bucket: str, workflow_id: str) -> Workflow:
    """Raises WorkflowNotFound."""
    return _found(tx.workflows.get(bucket, workflow_id), workflow_id)


def create_workflow(
    tx: Transaction, bucket: str, wanted: WorkflowRequest, operations: Mapping[str, Operation], limits: QueueLimits
) -> Workflow:
    _check(tx, bucket, wanted, operations, limits)
    workflow = Workflow(
        id=new_workflow_id(),
        bucket=bucket,
        name=wanted.name,
        state=wanted.state or WorkflowState.PAUSED,  # Wire: cos-python-sdk-v5, demo/ci_media.py: the default
        topology=wanted.topology,
        start=wanted.start,
        steps=wanted.steps,
        created_at=tx.now,
        updated_at=tx.now,
    )
    tx.workflows.insert(workflow)
    return workflow


def update_workflow(
    tx: Transaction,
    bucket: str,
    workflow_id: str,
    wanted: WorkflowRequest,
    operations: Mapping[str, Operation],
    limits: QueueLimits,
) -> Workflow:
    workflow = _lock_paused(tx, bucket, workflow_id)
    _check(tx, bucket, wanted, operations, limits)
    changed = replace(
        workflow,
        name=wanted.name,
        state=wanted.state or workflow.state,
        topology=wanted.topology,
        start=wanted.start,
        steps=wanted.steps,
        updated_at=tx.now,
    )
    tx.workflows.replace(changed)
    return changed


def set_state(tx: Transaction, bucket: str, workflow_id: str, state: WorkflowState) -> Workflow:
    workflow = _found(tx.workflows.lock(bucket, workflow_id), workflow_id)
    if workflow.state is state:
        return workflow
    changed = replace(workflow, state=state, updated_at=tx.now)
    tx.workflows.replace(changed)
    return changed


def delete_workflow(tx: Transaction, bucket: str, workflow_id: str) -> None:
    _lock_paused(tx, bucket, workflow_id)
    tx.workflows.delete(bucket, workflow_id)


def _lock_paused(tx: Transaction, bucket: str, workflow_id: str) -> Workflow:
    """Wire: Cloud Infinite console guide, "Workflow": an Active one can be neither edited nor deleted."""
    workflow = _found(tx.workflows.lock(bucket, workflow_id), workflow_id)
    if workflow.state is WorkflowState.ACTIVE:
        raise WorkflowActive(
            f"the workflow {workflow_id} is Active; pause it first: PUT /workflow/{workflow_id}?paused"
        )
    return workflow


def _found(workflow: Workflow | None, workflow_id: str) -> Workflow:
    if workflow is None:
        raise WorkflowNotFound(f"the workflow {workflow_id} does not exist in this bucket")
    return workflow


# --- what must be there --------------------------------------------------------------------------------------------


def _check(
    tx: Transaction, name: str, wanted: WorkflowRequest, operations: Mapping[str, Operation], limits: QueueLimits
) -> None:
    """Raises what is wrong with a workflow in this bucket: what it names does not exist, or does not fit."""
    bucket = tx.buckets.get(name)
    if bucket is None:
        raise NoSuchBucket(f"the bucket {name} does not exist here")
    _check_queues(tx, name, wanted.start.queue_ids)
    followed = {name for step in wanted.steps for name in step.after}
    for step in wanted.steps:
        _check_step(tx, bucket, step, operations, limits)
        if step.name in followed and step.output is not None and step.output.bucket != name:
            raise InvalidArgument(
                f"Nodes.{step.name}: Output.Bucket is {step.output.bucket!r}; what other steps work on must go into "
                f"the workflow's own bucket {name}"
            )


def _check_queues(tx: Transaction, bucket: str, queue_ids: Iterable[str]) -> None:
    for queue_id in queue_ids:
        queue = tx.queues.get(queue_id)
        if queue is None or queue.bucket != bucket:
            raise QueueNotFound(f"Nodes.Start names the queue {queue_id}, which does not exist in this bucket")


def _check_step(
    tx: Transaction, bucket: Bucket, step: Step, operations: Mapping[str, Operation], limits: QueueLimits
) -> None:
    """A step must be a job that this bucket would take, whatever its input."""
    request = JobRequest(
        tag=step.tag, input=JobInput(), params=step.params, template_id=step.template_id, output=step.output
    )
    try:
        draft_job(tx, bucket, request, operations, limits)
    except RequestError as exc:
        raise type(exc)(f"Nodes.{step.name}: {exc.message}") from exc
