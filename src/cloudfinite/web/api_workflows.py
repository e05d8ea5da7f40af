"""The JSON API's workflows and their executions: list, show, cancel."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from cloudfinite.domain.execution import Execution, ExecutionFilter, ExecutionState, PlannedStep, RunTask
from cloudfinite.domain.job import JobState
from cloudfinite.domain.workflow import Step, Workflow, WorkflowFilter, WorkflowState
from cloudfinite.service.run_control import RunControl, RunFacts
from cloudfinite.service.workflows import WorkflowService
from cloudfinite.web.api_deliveries import DeliveryView, delivery_view
from cloudfinite.web.api_queues import NotifyView, notify_view
from cloudfinite.web.api_routes import (
    Answer,
    Page,
    PageQuery,
    Time,
    instant,
    instant_number,
    operation,
    read_position,
    write_position,
)


class WorkflowView(Answer):
    """A workflow as lists show it."""

    id: str
    bucket: str
    name: str
    state: WorkflowState
    prefix: str = Field(description="How the keys begin of objects that start it")
    created_at: Time
    updated_at: Time


class WorkflowStep(Answer):
    """One operation; `after` names the steps it follows, none where it comes first."""

    name: str
    type: str
    tag: str
    after: list[str]
    template_id: str


class WorkflowDetails(WorkflowView):
    """A workflow with its steps; `notify` is null where its queues' settings hold."""

    steps: list[WorkflowStep]
    notify: NotifyView | None
    topology: str = Field(description="The graph as it was sent, as XML")


class WorkflowQuery(PageQuery):
    bucket: str = ""
    name: str = Field("", description="A part of the name")


class ExecutionView(Answer):
    """A run as lists show it. `event` started it, `batch_id` is the batch job that did; both are empty by hand."""

    id: str
    workflow_id: str
    workflow_name: str
    bucket: str
    region: str
    object: str
    state: ExecutionState
    event: str
    batch_id: str
    created_at: Time
    ended_at: Time | None


class StepView(WorkflowStep):
    """A step in a run; state and job are null until it starts. `output` is the key of the object it writes."""

    state: JobState | None
    job_id: str | None
    output: str
    started_at: Time | None
    ended_at: Time | None
    code: str
    message: str


class ExecutionDetails(ExecutionView):
    """A run with its steps in the order of the graph."""

    headers: dict[str, str] = Field(description="Content-Type and x-cos-meta-* of the object")
    steps: list[StepView]
    deliveries: list[DeliveryView] = Field(description="Of the run itself, newest first, without their bodies")


class ExecutionQuery(PageQuery):
    workflow: str = Field(description="Workflow id")
    state: list[ExecutionState] = Field(default=[], description="Any of these states")
    object: str = Field("", description="Key of the object")
    batch: str = Field("", description="Id of the batch job that started it")
    created_from: Time | None = Field(None, alias="from", description="Created then or later")
    created_to: Time | None = Field(None, alias="to", description="Created then or before")


class WorkflowsApi:
    """Workflows of all buckets, and their runs."""

    group: ClassVar[str] = "workflows"

    def __init__(self, workflows: WorkflowService, runs: RunControl) -> None:
        self._workflows = workflows
        self._runs = runs

    @operation("GET", "/workflows")
    async def list_workflows(self, query: WorkflowQuery) -> Page[WorkflowView]:
        """List workflows, newest first."""
        offset: int = read_position(query.after, int)[0] if query.after else 0
        page = await self._workflows.list_workflows(query.bucket, WorkflowFilter(query.name), offset, query.size)
        end = offset + len(page.workflows)
        following = write_position(end) if end < page.total and page.workflows else None
        return Page(items=[workflow_view(workflow) for workflow in page.workflows], next=following)

    @operation("GET", "/workflows/{workflow_id}")
    async def show_workflow(self, workflow_id: str) -> WorkflowDetails:
        """Show a workflow with its steps."""
        workflow = await self._workflows.find_workflow(workflow_id)
        notify = workflow.start.notify
        return WorkflowDetails(
            **dict(workflow_view(workflow)),
            steps=[_workflow_step(step) for step in workflow.steps],
            notify=notify_view(notify) if notify else None,
            topology=workflow.topology,
        )

    @operation("GET", "/executions")
    async def list_executions(self, query: ExecutionQuery) -> Page[ExecutionView]:
        """List the runs of a workflow, newest first."""
        created, position = read_position(query.after, int, int) if query.after else (0, 0)
        page = await self._runs.list_runs(
            "",
            ExecutionFilter(
                workflow_id=query.workflow,
                states=frozenset(query.state),
                created_from=query.created_from,
                created_until=query.created_to,
                object_key=query.object,
                batch_id=query.batch,
                after=(instant(created), position) if query.after else None,
                size=query.size,
            ),
        )
        following = None
        if page.next_position:
            last, position = page.next_position
            following = write_position(instant_number(last.created_at), position)
        return Page(items=[execution_view(run) for run in page.runs], next=following)

    @operation("GET", "/executions/{run_id}")
    async def show_execution(self, run_id: str) -> ExecutionDetails:
        """Show a run with its steps and deliveries."""
        return _details(await self._runs.read_facts(run_id))

    @operation("POST", "/executions/{run_id}/cancel")
    async def cancel_execution(self, run_id: str) -> ExecutionView:
        """Cancel a run; again is harmless.

        Steps that wait are cancelled, running ones come to their own end, and nothing follows. No run's callback is
        sent.
        """
        return execution_view(await self._runs.cancel_run("", run_id))


def workflow_view(workflow: Workflow) -> WorkflowView:
    return WorkflowView(
        id=workflow.id,
        bucket=workflow.bucket,
        name=workflow.name,
        state=workflow.state,
        prefix=workflow.start.prefix,
        created_at=workflow.created_at,
        updated_at=workflow.updated_at,
    )


def _workflow_step(step: Step | PlannedStep) -> WorkflowStep:
    return WorkflowStep(
        name=step.name, type=step.type, tag=step.tag, after=list(step.after), template_id=step.template_id
    )


def execution_view(run: Execution) -> ExecutionView:
    return ExecutionView(
        id=run.id,
        workflow_id=run.workflow_id,
        workflow_name=run.workflow_name,
        bucket=run.bucket,
        region=run.region,
        object=run.source.key,
        state=run.state,
        event=run.source.event_name,
        batch_id=run.source.batch_id,
        created_at=run.created_at,
        ended_at=run.ended_at,
    )


def _details(facts: RunFacts) -> ExecutionDetails:
    tasks = {task.step.name: task for task in facts.tasks}
    return ExecutionDetails(
        **dict(execution_view(facts.run)),
        headers=dict(facts.run.source.headers),
        steps=[_step_view(step, tasks.get(step.name)) for step in facts.run.plan],
        deliveries=[delivery_view(delivery) for delivery in facts.deliveries],
    )


def _step_view(step: PlannedStep, task: RunTask | None) -> StepView:
    job = task.job if task else None
    state = job.state if job else task.run.state if task else None
    return StepView(
        **dict(_workflow_step(step)),
        state=state,
        job_id=task.run.job_id if task else None,
        output=task.run.output_key if task else "",
        started_at=job.started_at if job else None,
        ended_at=job.ended_at if job else None,
        code=job.code if job else "",
        message=job.message if job else "",
    )
