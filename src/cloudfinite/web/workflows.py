"""The calls on workflows and their runs: parse, ask the service, render."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiohttp import web

from cloudfinite.domain.access import Action
from cloudfinite.domain.execution import Execution
from cloudfinite.domain.workflow import WorkflowFilter, WorkflowRequest, WorkflowState
from cloudfinite.errors import InvalidArgument
from cloudfinite.service.run_control import RunControl
from cloudfinite.service.workflows import WorkflowService
from cloudfinite.web import replies
from cloudfinite.web.request import Request
from cloudfinite.wire import requests, shapes, workflow_shapes, workflows
from cloudfinite.wire.documents import parse_body
from cloudfinite.wire.operation import Operation

_VARIABLE = "${"  # In an output's key: what stands before the first is how all its objects' keys begin.


class WorkflowHandlers:
    """`/workflow`."""

    def __init__(self, service: WorkflowService, operations: Mapping[str, Operation]) -> None:
        self._service = service
        self._operations = operations

    async def create(self, request: Request) -> web.StreamResponse:
        workflow = await self._service.create_workflow(request.bucket, await self._read(request))
        return replies.node(request, shapes.answer(request.id, workflow_shapes.workflow_node(workflow)))

    async def update(self, request: Request) -> web.StreamResponse:
        wanted = await self._read(request)
        workflow = await self._service.update_workflow(request.bucket, request.segments[1], wanted)
        return replies.node(request, shapes.answer(request.id, workflow_shapes.workflow_node(workflow)))

    async def _read(self, request: Request) -> WorkflowRequest:
        """Raises AccessDenied also for a workflow that reads or writes what its maker may not."""
        wanted = workflows.read_workflow(parse_body(await request.body()), self._operations)
        request.check(Action.GET_OBJECT, wanted.start.prefix.removeprefix("/"))
        for step in wanted.steps:
            if step.output is not None:
                request.check(Action.PUT_OBJECT, step.output.key.partition(_VARIABLE)[0], step.output.bucket)
        return wanted

    async def activate(self, request: Request) -> web.StreamResponse:
        return await self._set_state(request, WorkflowState.ACTIVE)

    async def pause(self, request: Request) -> web.StreamResponse:
        return await self._set_state(request, WorkflowState.PAUSED)

    async def _set_state(self, request: Request, state: WorkflowState) -> web.StreamResponse:
        # Wire: the page says the body is empty, but cos-python-sdk-v5 cannot read an empty one, and its tests look for
        # the state in it.
        workflow = await self._service.set_state(request.bucket, request.segments[1], state)
        return replies.node(request, shapes.answer(request.id, workflow_shapes.workflow_node(workflow)))

    async def delete(self, request: Request) -> web.StreamResponse:
        workflow_id = request.segments[1]
        await self._service.delete_workflow(request.bucket, workflow_id)
        return replies.node(request, shapes.answer(request.id, shapes.leaf("WorkflowId", workflow_id)))

    async def list(self, request: Request) -> web.StreamResponse:
        get = request.query.get
        ids = requests.read_ids(get("ids"), "ids")
        page = requests.read_page(get)
        found = await self._service.list_workflows(
            request.bucket, WorkflowFilter(get("name"), tuple(ids)), (page.number - 1) * page.size, page.size
        )
        nodes = [workflow_shapes.workflow_node(workflow, "MediaWorkflowList") for workflow in found.workflows]
        nodes += [shapes.leaf("NonExistIDs", workflow_id, many=True) for workflow_id in found.missing]
        return replies.node(request, shapes.page_answer(request.id, found.total, page.number, page.size, nodes))


class ExecutionHandlers:
    """`/triggerworkflow` and `/workflowexecution`."""

    def __init__(self, control: RunControl, operations: Mapping[str, Operation]) -> None:
        self._control = control
        self._operations = operations

    async def trigger(self, request: Request) -> web.StreamResponse:
        get = request.query.get
        workflow_id, key = get("workflowId"), get("object").removeprefix("/")
        for name, value in (("workflowId", workflow_id), ("object", key)):
            if not value:
                raise InvalidArgument(f"the parameter {name} is missing")
        request.check(Action.TRIGGER_WORKFLOW, key)
        request.check(Action.GET_OBJECT, key)
        execution = await self._control.start_run(request.bucket, workflow_id, key)
        return replies.node(request, shapes.answer(request.id, shapes.leaf("InstanceId", execution.id)))

    async def describe(self, request: Request) -> web.StreamResponse:
        execution, tasks = await self._control.show_run(
            request.bucket, request.segments[1], lambda run: _is_allowed(request, Action.DESCRIBE_EXECUTION, run)
        )
        node = workflow_shapes.execution_node(execution, tasks, self._operations)
        return replies.node(request, shapes.answer(request.id, node))

    async def list(self, request: Request) -> web.StreamResponse:
        wanted = workflows.read_execution_filter(request.query.get)
        prefixes = request.grant.prefixes(Action.DESCRIBE_EXECUTIONS, request.bucket)
        page = await self._control.list_runs(request.bucket, replace(wanted, object_prefixes=prefixes))
        token = ""
        if page.next_position:
            last, seq = page.next_position
            token = requests.write_token(last.created_at, seq)
        return replies.node(request, workflow_shapes.executions_answer(request.id, page.runs, token))

    async def cancel(self, request: Request) -> web.StreamResponse:
        """Wire: our choice – the vendor has no such call; as a job's, with and without `?cancel`."""
        await self._control.cancel_run(
            request.bucket, request.segments[1], lambda run: _is_allowed(request, Action.CANCEL_EXECUTION, run)
        )
        return replies.empty(request)


def _is_allowed(request: Request, action: Action, run: Execution) -> bool:
    """Whether the run exists for the key: it counts as its object does."""
    return request.grant.allows(action, run.bucket, run.source.key)
