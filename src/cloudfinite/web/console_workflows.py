"""The console's pages of workflows and their runs: lists, the graph of one, and how far a run has come in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import quote, urlencode

from aiohttp import web
from markupsafe import Markup

from cloudfinite.domain.execution import ExecutionFilter, ExecutionState, RunTask
from cloudfinite.domain.job import JobState
from cloudfinite.domain.workflow import ExtFilter, WorkflowFilter
from cloudfinite.errors import InvalidArgument, InvalidUrl
from cloudfinite.ports import Clock
from cloudfinite.service.changes import ChangeFeed
from cloudfinite.service.run_control import RunControl, RunFacts
from cloudfinite.service.workflows import WorkflowService
from cloudfinite.web import replies
from cloudfinite.web.console_frame import Frame
from cloudfinite.web.console_job import show_node
from cloudfinite.web.drawing import duration
from cloudfinite.web.drawing_graph import Box, draw_graph
from cloudfinite.web.request import Request
from cloudfinite.wire.documents import read_integer
from cloudfinite.wire.nodes import Node
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.requests import read_token, write_token
from cloudfinite.wire.topology import START
from cloudfinite.wire.workflow_shapes import execution_node, workflow_node

HOME = "/-/console/workflows/"
_RUNS = "/-/console/runs/"
_PAGE_SIZE = 50
_LAST_PAGE = 100_000


class WorkflowPages:
    """Serves `/-/console/workflows/…` and `/-/console/runs/…`."""

    def __init__(
        self,
        workflows: WorkflowService,
        runs: RunControl,
        feed: ChangeFeed,
        frame: Frame,
        operations: Mapping[str, Operation],
        clock: Clock,
    ) -> None:
        self._workflows = workflows
        self._runs = runs
        self._feed = feed
        self._frame = frame
        self._operations = operations
        self._clock = clock

    async def serve(self, request: Request, method: str, path: list[str]) -> web.Response:
        """Raises InvalidUrl for what is no page of these."""
        match method, path:
            case "GET", ["workflows", ""] | ["workflows"]:
                return await self._list(request)
            case "GET", ["workflows", workflow_id]:
                return await self._workflow(request, workflow_id)
            case "GET", ["runs", run_id]:
                return await self._run(request, run_id)
            case "POST", ["runs", run_id, "cancel"]:
                await self._runs.cancel_run("", run_id)
                self._feed.publish(run_id)
                return replies.see_other(request, _RUNS + quote(run_id))
        raise InvalidUrl(f"there is no page {request.path}")

    async def _list(self, request: Request) -> web.Response:
        name = request.query.get("name")
        number = read_integer(request.query.get("page") or "1", "page", 1, _LAST_PAGE)
        page = await self._workflows.list_workflows("", WorkflowFilter(name), (number - 1) * _PAGE_SIZE, _PAGE_SIZE)
        following = HOME + "?" + urlencode({"name": name, "page": number + 1})
        values = {
            "workflows": page.workflows,
            "total": page.total,
            "name": name,
            "number": number,
            "next_url": following if number * _PAGE_SIZE < page.total else "",
        }
        return self._frame.page(request, "workflows.html", values, now=self._clock())

    async def _workflow(self, request: Request, workflow_id: str) -> web.Response:
        workflow = await self._workflows.find_workflow(workflow_id)
        state, after = request.query.get("state"), request.query.get("after")
        if state and state not in tuple(ExecutionState):
            raise InvalidArgument(f"state is {state!r}; it must be one of {', '.join(ExecutionState)}")
        states = frozenset({ExecutionState(state)}) if state else frozenset()
        wanted = ExecutionFilter(workflow_id, states, after=read_token(after), size=_PAGE_SIZE)
        page = await self._runs.list_runs(workflow.bucket, wanted)
        here = HOME + quote(workflow_id)
        following = ""
        if page.next_position:
            last, seq = page.next_position
            token = write_token(last.created_at, seq)
            following = f"{here}?{urlencode({'state': state, 'after': token})}"
        values = {
            "workflow": workflow,
            "graph": draw_graph(_graph(workflow.steps, workflow.start.prefix or "every object", {})),
            "files": _told_filter(workflow.start.filter),
            "runs": page.runs,
            "state": state,
            "states": list(ExecutionState),
            "here": here,
            "is_first": not after,
            "next_url": following,
            "answer": show_node(_response(workflow_node(workflow))),
        }
        return self._frame.page(request, "workflow.html", values, now=self._clock())

    async def _run(self, request: Request, run_id: str) -> web.Response:
        facts = await self._runs.read_facts(run_id)
        run = facts.run
        values = {
            "facts": facts,
            "run": run,
            "graph": draw_run(facts),
            "steps": _step_rows(facts),
            "can_cancel": not run.state.is_final,
            "answer": show_node(_response(execution_node(run, facts.tasks, self._operations))),
        }
        return self._frame.page(request, "run.html", values, now=facts.now)


def _response(node: Node) -> Node:
    return Node("Response", (node,))


def _told_filter(wanted: ExtFilter) -> str:
    """Which files an ExtFilter takes, in a few words."""
    if not wanted.is_on or wanted.takes_all:
        return "all"
    words = [*sorted(wanted.kinds), *(f".{extension}" for extension in sorted(wanted.extensions))]
    return ", ".join([*words, *(["by Content-Type"] if wanted.by_content_type else [])]) or "none"


# --- the graph -----------------------------------------------------------------------------------------------------


class _Step(Protocol):
    """A step of a workflow, or of a run of one."""

    @property
    def name(self) -> str: ...
    @property
    def tag(self) -> str: ...
    @property
    def after(self) -> tuple[str, ...]: ...


def draw_run(facts: RunFacts) -> Markup:
    """The run's graph: each step as it stands."""
    run = facts.run
    boxes = {task.step.name: (_state(task), _note(task, facts.now), _job_url(task)) for task in facts.tasks}
    rest = ("waits", "not started") if not run.state.is_final else ("skipped", "never started")
    told = {step.name: boxes.get(step.name, (*rest, "")) for step in run.plan}
    return draw_graph(_graph(run.plan, run.source.key, told))


def _graph(steps: Sequence[_Step], start: str, told: Mapping[str, tuple[str, str, str]]) -> list[Box]:
    """The boxes of a graph, Start first; `told` is (state, note, url) of a step, its tag where there is nothing."""
    following: dict[str, list[str]] = {START: []}
    for step in steps:
        for name in step.after or (START,):
            following.setdefault(name, []).append(step.name)
    boxes = [Box(START, "start", start, tuple(following[START]))]
    for step in steps:
        state, note, url = told.get(step.name, ("", step.tag, ""))
        boxes.append(Box(step.name, state, note, tuple(following.get(step.name, ())), url))
    return boxes


# --- the steps -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of a run as the page's table tells it."""

    name: str
    tag: str
    state: str
    job_url: str
    job_id: str
    input: str
    output: str
    took: str
    running_since: datetime | None
    message: str


def _step_rows(facts: RunFacts) -> list[StepRow]:
    rows = []
    tasks = {task.step.name: task for task in facts.tasks}
    for step in facts.run.plan:
        task = tasks.get(step.name)
        job = task.job if task else None
        ended = job.ended_at if job else None
        rows.append(
            StepRow(
                name=step.name,
                tag=step.tag,
                state=_state(task) if task else "",
                job_url=_job_url(task) if task else "",
                job_id=task.run.job_id if task else "",
                input=job.input.object_key if job else "",
                output=task.run.output_key if task else "",
                took=duration(ended - job.started_at) if job and ended and job.started_at else "",
                running_since=job.started_at if job and not ended else None,
                message=f"{job.code}: {job.message}" if job and job.state is JobState.FAILED else "",
            )
        )
    return rows


def _state(task: RunTask) -> str:
    return (task.job or task.run).state.value


def _note(task: RunTask, now: datetime) -> str:
    """How the step stands, and for how long it ran."""
    job = task.job
    if job is None or job.started_at is None:
        return _state(task)
    return f"{_state(task)} · {duration((job.ended_at or now) - job.started_at)}"


def _job_url(task: RunTask) -> str:
    return f"/-/console/jobs/{quote(task.run.job_id)}" if task.job else ""
