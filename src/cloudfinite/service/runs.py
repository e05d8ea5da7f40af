"""How the runs of workflows go on: started, advanced by the ends of their steps' jobs, cancelled.

Each function is a part of somebody's transaction, so that no process waits for a step and a crash doubles nothing. Who
changes a run has locked it first: of branches that end in the same instant, one comes after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cloudfinite.domain.delivery import Delivery
from cloudfinite.domain.execution import (
    Execution,
    ExecutionState,
    PlannedStep,
    RunSource,
    RunTask,
    StepRun,
    end_state,
    input_key,
    ready_steps,
)
from cloudfinite.domain.ids import new_job_id, new_run_id
from cloudfinite.domain.job import Job, JobInput, JobState, StepOf, expand_key
from cloudfinite.domain.queue import SERVICES
from cloudfinite.domain.workflow import Step, Workflow
from cloudfinite.errors import InvalidArgument, NoSuchBucket
from cloudfinite.ports import Transaction
from cloudfinite.service.deliveries import plan_notice
from cloudfinite.service.openings import check_open
from cloudfinite.service.queues import QueueLimits, ensure_queue
from cloudfinite.service.templates import find_template
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.workflow_shapes import workflow_finish_body

STARTED, FINISHED = "WorkflowStart", "WorkflowFinish"


@dataclass(frozen=True, slots=True)
class Progress:
    """What moving runs brought: the jobs of their next steps, and notifications of the runs themselves."""

    jobs: list[Job] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)

    def add(self, other: Progress) -> None:
        self.jobs.extend(other.jobs)
        self.deliveries.extend(other.deliveries)


# --- start ---------------------------------------------------------------------------------------------------------


def start_run(
    tx: Transaction,
    workflow: Workflow,
    source: RunSource,
    operations: Mapping[str, Operation],
    limits: QueueLimits,
) -> tuple[Execution, Progress] | None:
    """Start a run; its first steps wait in their queues, however full or paused these are.

    None when the source's event has started a run of this workflow already. Raises NoSuchBucket, ServiceClosed,
    TemplateNotFound, InvalidArgument, each before anything is written that matters.
    """
    bucket = tx.buckets.get(workflow.bucket)
    if bucket is None:
        raise NoSuchBucket(f"the bucket {workflow.bucket} does not exist here")
    queue_ids: dict[str, str] = {}
    for service in sorted({operations[step.tag].service for step in workflow.steps}):
        check_open(bucket, service)
        queue_ids[service] = ensure_queue(tx, bucket.name, service, limits).id
    execution = Execution(
        id=new_run_id(tx.now),
        workflow_id=workflow.id,
        workflow_name=workflow.name,
        bucket=bucket.name,
        region=bucket.region,
        source=source,
        topology=workflow.topology,
        plan=tuple(
            _plan_step(tx, bucket.name, step, queue_ids[operations[step.tag].service]) for step in workflow.steps
        ),
        created_at=tx.now,
        notify=workflow.start.notify,
    )
    if not tx.executions.insert(execution):
        return None
    progress = Progress(_start_steps(tx, execution, [], operations), _notices(tx, execution, STARTED, operations))
    _submit(tx, progress.jobs)
    return execution, progress


def _plan_step(tx: Transaction, bucket: str, step: Step, queue_id: str) -> PlannedStep:
    template = find_template(tx, bucket, step.template_id) if step.template_id else None
    params = template.params if template else step.params
    if params is None:
        raise InvalidArgument(f"Nodes.{step.name} has neither parameters nor a template")
    return PlannedStep(
        name=step.name,
        type=step.type,
        tag=step.tag,
        queue_id=queue_id,
        params=params,
        after=step.after,
        template_id=step.template_id,
        template_name=template.name if template else "",
        output=step.output,
    )


def _start_steps(
    tx: Transaction, execution: Execution, runs: Sequence[StepRun], operations: Mapping[str, Operation]
) -> list[Job]:
    """The jobs of the steps that may start now."""
    jobs = []
    for step in ready_steps(execution.plan, runs):
        key = input_key(execution.plan, runs, step, execution.source.key)
        jobs.append(_step_job(tx, execution, step, key, operations[step.tag]))
    started = [StepRun(_name(job), job.id, output_key=job.output.key if job.output else "") for job in jobs]
    tx.executions.start_steps(execution.id, started)
    return jobs


def _step_job(tx: Transaction, execution: Execution, step: PlannedStep, key: str, operation: Operation) -> Job:
    job_id = new_job_id(SERVICES[operation.service].letter, tx.now)
    output = step.output
    if output is not None:
        extension = operation.extension(operation.params_value(step.params))
        # Too long a key fails the step when its object is to be stored, not the transaction of the step before.
        made = expand_key(
            output.key,
            key,
            job_id=job_id,
            extension=extension,
            run_id=execution.id,
            batch_id=execution.source.batch_id,
        )
        output = replace(output, key=made)
    return Job(
        id=job_id,
        bucket=execution.bucket,
        region=execution.region,
        tag=step.tag,
        queue_id=step.queue_id,
        input=JobInput(object_key=key),
        params=step.params,
        created_at=tx.now,
        template_id=step.template_id,
        template_name=step.template_name,
        output=output,
        step_of=StepOf(execution.id, step.name),
    )


def _submit(tx: Transaction, jobs: list[Job]) -> None:
    # By queue: all who count up several queues' waiting jobs do so in one order.
    tx.jobs.insert(sorted(jobs, key=lambda job: job.queue_id))


def _name(job: Job) -> str:
    assert job.step_of is not None, "only jobs of runs come here"
    return job.step_of.step


# --- advance -------------------------------------------------------------------------------------------------------


def lock_runs(tx: Transaction, jobs: Iterable[Job]) -> Mapping[str, Execution]:
    """The runs that these jobs are steps of; to be called before the jobs are ended. No statement without any."""
    run_ids = {job.step_of.run_id for job in jobs if job.step_of}
    return {execution.id: execution for execution in tx.executions.lock(sorted(run_ids))} if run_ids else {}


def run_of(job: Job, runs: Mapping[str, Execution]) -> Execution | None:
    return runs.get(job.step_of.run_id) if job.step_of else None


def advance_runs(
    tx: Transaction, runs: Mapping[str, Execution], jobs: Sequence[Job], operations: Mapping[str, Operation]
) -> Progress:
    """Move locked runs on by what has become of these jobs of theirs: ended, or put back for another attempt.

    Wire: our choice – a run of which a single step was cancelled ends Failed: its notification knows no third state.
    """
    progress = Progress()
    changed: dict[str, list[Job]] = {}
    for job in jobs:
        if execution := run_of(job, runs):
            changed.setdefault(execution.id, []).append(job)
    for run_id, its_jobs in changed.items():
        progress.add(_advance(tx, runs[run_id], its_jobs, operations))
    if progress.jobs:
        _submit(tx, progress.jobs)
    return progress


def _advance(
    tx: Transaction, execution: Execution, jobs: Sequence[Job], operations: Mapping[str, Operation]
) -> Progress:
    for job in jobs:
        if job.state.is_final:
            tx.executions.end_step(execution.id, _name(job), job.state)
        elif execution.state.is_final and tx.jobs.cancel(job.id):  # put back after the run was cancelled
            tx.executions.end_step(execution.id, _name(job), JobState.CANCEL)
    if execution.state.is_final or not any(job.state.is_final for job in jobs):
        return Progress()
    runs = tx.executions.steps(execution.id)
    if following := _start_steps(tx, execution, runs, operations):
        return Progress(following)
    state = end_state(runs)
    if state is None:
        return Progress()
    tx.executions.end(execution.id, state)
    ended = replace(execution, state=state, ended_at=tx.now)
    return Progress(deliveries=_notices(tx, ended, FINISHED, operations))


def cancel_run(tx: Transaction, execution: Execution) -> list[Job]:
    """End a locked run: its waiting steps are cancelled, running ones come to their own end, and nothing follows.

    Wire: our choice, as the vendor has no such call; like a cancelled job, a cancelled run tells nobody. Returns the
    jobs that were cancelled.
    """
    cancelled = []
    for run in tx.executions.steps(execution.id):
        if not run.state.is_final and tx.jobs.cancel(run.job_id):
            tx.executions.end_step(execution.id, run.name, JobState.CANCEL)
            cancelled.append(run.job_id)
    tx.executions.end(execution.id, ExecutionState.CANCEL)
    return tx.jobs.get(cancelled)


# --- what is told --------------------------------------------------------------------------------------------------


def tasks_of(tx: Transaction, execution: Execution) -> list[RunTask]:
    """The steps that have a job, in the order of the graph; those behind a failed step have none."""
    runs = {run.name: run for run in tx.executions.steps(execution.id)}
    jobs = {job.id: job for job in tx.jobs.get([run.job_id for run in runs.values()])}
    return [
        RunTask(step, runs[step.name], jobs.get(runs[step.name].job_id)) for step in execution.plan if step.name in runs
    ]


def _notices(tx: Transaction, execution: Execution, event: str, operations: Mapping[str, Operation]) -> list[Delivery]:
    """The notification of a run, to the workflow's own receiver, else to that of its first step's queue."""
    notify = execution.notify
    if notify is None:
        queue = tx.queues.get(execution.plan[0].queue_id)
        notify = queue.notify if queue else None
    if notify is None or not notify.sends(event):
        return []
    body = workflow_finish_body(execution, tasks_of(tx, execution), operations, notify.format, event=event)
    delivery = plan_notice(execution.id, execution.bucket, notify.url, body, event, tx.now)
    tx.deliveries.insert(delivery)
    return [delivery]
