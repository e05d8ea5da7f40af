"""Executions: one run of a workflow on one object, and the rules by which one step follows another.

Wire: Cloud Infinite API documentation, "Querying workflow instances" (`RunId`, `State`, `Tasks`), "Workflow Callback".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cloudfinite.domain.job import Job, JobOutput, JobState
from cloudfinite.domain.queue import Notify


class ExecutionState(StrEnum):
    """The wire's values. A run is Running until its last step has ended."""

    RUNNING = "Running"
    SUCCESS = "Success"
    FAILED = "Failed"
    CANCEL = "Cancel"

    @property
    def is_final(self) -> bool:
        return self is not ExecutionState.RUNNING


@dataclass(frozen=True, slots=True)
class RunSource:
    """The object that a run is about, and what started the run.

    headers: Content-Type and x-cos-meta-* of the object. event_id, event_name, request_id: of the creation that started
    it, "" when somebody asked for the run. batch_id: of the batch job that did. lineage: the workflows whose runs led
    to the object's creation, none of which it starts again.
    """

    key: str
    size_bytes: int
    headers: Mapping[str, str]
    event_id: str = ""
    event_name: str = ""
    request_id: str = ""
    batch_id: str = ""
    lineage: tuple[str, ...] = ()

    @property
    def told_headers(self) -> tuple[tuple[str, str], ...]:
        """What notifications repeat of the upload.

        Wire: inferred from the samples of "Task Callback" pages and "Workflow Callback", which have no one order; ours
        is Content-Type, x-cos-request-id, then x-cos-meta-* by name.
        """
        named = [("Content-Type", self.headers.get("Content-Type", "")), ("x-cos-request-id", self.request_id)]
        meta = sorted((name, value) for name, value in self.headers.items() if name.startswith("x-cos-meta-"))
        return tuple((name, value) for name, value in (*named, *meta) if value)

    @property
    def told_event(self) -> tuple[tuple[str, str], ...]:
        """What notifications of single steps tell beside `told_headers`."""
        return (*((("EventName", self.event_name),) if self.event_name else ()), ("Size", str(self.size_bytes)))


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step as a run does it: its template and its queue are settled when the run starts, and stay."""

    name: str
    type: str
    tag: str
    queue_id: str
    params: Mapping[str, Any]
    after: tuple[str, ...] = ()
    template_id: str = ""
    template_name: str = ""
    output: JobOutput | None = None


@dataclass(frozen=True, slots=True)
class StepRun:
    """A step that has its job. `state` is final once the job's is, and Submitted before."""

    name: str
    job_id: str
    state: JobState = JobState.SUBMITTED
    output_key: str = ""


@dataclass(frozen=True, slots=True)
class Execution:
    """A run as stored; what it does is a copy, so a workflow that changes later changes no run.

    topology: the text of the graph as the client sent it. notify: of the workflow's start, None where the queues'
    settings hold.
    """

    id: str
    workflow_id: str
    workflow_name: str
    bucket: str
    region: str
    source: RunSource
    topology: str
    plan: tuple[PlannedStep, ...]
    created_at: datetime
    notify: Notify | None = None
    state: ExecutionState = ExecutionState.RUNNING
    ended_at: datetime | None = None

    def planned(self, name: str) -> PlannedStep:
        return next(step for step in self.plan if step.name == name)


@dataclass(frozen=True, slots=True)
class RunTask:
    """A step of a run with its job; `job` is None when the job is kept no longer."""

    step: PlannedStep
    run: StepRun
    job: Job | None


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """What a list of runs selects. Empty `states` means all; times are inclusive; `after` is the last page's last run.

    object_key: the whole key. object_prefixes: how the keys begin. batch_id: only runs that this batch job started.
    """

    workflow_id: str
    states: frozenset[ExecutionState] = frozenset()
    created_from: datetime | None = None
    created_until: datetime | None = None
    object_key: str = ""
    object_prefixes: tuple[str, ...] = ("",)
    batch_id: str = ""
    newest_first: bool = True
    after: tuple[datetime, int] | None = None
    size: int = 10


# --- what follows what ---------------------------------------------------------------------------------------------


def ready_steps(plan: Sequence[PlannedStep], runs: Iterable[StepRun]) -> list[PlannedStep]:
    """The steps that may start now: not started yet, and all that they follow has succeeded."""
    states = {run.name: run.state for run in runs}
    return [
        step
        for step in plan
        if step.name not in states and all(states.get(name) is JobState.SUCCESS for name in step.after)
    ]


def input_key(plan: Sequence[PlannedStep], runs: Iterable[StepRun], step: PlannedStep, source_key: str) -> str:
    """What a step works on: what a step before it made or was handed, else the run's object.

    Wire: our choice – of several steps before it, the first in the order of the graph that made something.
    """
    made = {run.name: run.output_key for run in runs}
    handed: dict[str, str] = {}
    for earlier in plan:
        handed[earlier.name] = made.get(earlier.name) or _first(handed, earlier.after)
    return _first(handed, step.after) or source_key


def _first(handed: Mapping[str, str], names: Iterable[str]) -> str:
    return next((handed[name] for name in names if handed[name]), "")


def end_state(runs: Iterable[StepRun]) -> ExecutionState | None:
    """The state in which a run ends of which nothing more can start; None while a step of it has not ended."""
    states = {run.state for run in runs}
    if not all(state.is_final for state in states):
        return None
    return ExecutionState.SUCCESS if states <= {JobState.SUCCESS} else ExecutionState.FAILED
