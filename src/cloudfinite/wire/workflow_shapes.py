"""The wire's documents of workflows and their runs: answers, and the notification of a run's end.

Wire: Cloud Infinite API documentation, "Create workflow", "Query workflow", "Querying workflow instances", "Workflow
Callback"; cos-go-sdk-v5 `WorkflowExecutionNotifyBody` (ResultInfo, ImageOcrResult) and `WorkflowExecutionList`.
Each page has a time form of its own (`wire/times.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from urllib.parse import quote

from cloudfinite.domain.execution import Execution, PlannedStep, RunTask
from cloudfinite.domain.job import CallbackFormat, Job, JobState
from cloudfinite.domain.workflow import Workflow
from cloudfinite.wire.nodes import Node, tree
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.shapes import answer, cos_headers, leaf, notification
from cloudfinite.wire.times import job_time, run_notice_time, run_time
from cloudfinite.wire.topology import topology_node

Operations = Mapping[str, Operation]


def workflow_node(workflow: Workflow, name: str = "MediaWorkflow") -> Node:
    """A workflow, as `MediaWorkflow` or, in a list, `MediaWorkflowList`."""
    return Node(
        name,
        (
            leaf("Name", workflow.name),
            leaf("State", workflow.state.value),
            leaf("WorkflowId", workflow.id),
            leaf("BucketId", workflow.bucket),
            leaf("CreateTime", job_time(workflow.created_at)),
            leaf("UpdateTime", job_time(workflow.updated_at)),
            topology_node(workflow.topology),
        ),
        is_many=name == "MediaWorkflowList",
    )


# --- runs ----------------------------------------------------------------------------------------------------------


def execution_node(execution: Execution, tasks: Iterable[RunTask], operations: Operations) -> Node:
    """One run with its steps. Wire: the table says WorkflowName and the sample Name, so both are there."""
    return Node(
        "WorkflowExecution",
        (
            leaf("WorkflowId", execution.workflow_id),
            leaf("Name", execution.workflow_name),
            leaf("WorkflowName", execution.workflow_name),
            leaf("RunId", execution.id),
            leaf("CreateTime", run_time(execution.created_at)),
            leaf("Object", execution.source.key),
            leaf("State", execution.state.value),
            topology_node(execution.topology, without=["NotifyConfig"]),
            *(_task(task, execution, operations) for task in tasks),
        ),
    )


def _task(task: RunTask, execution: Execution, operations: Operations) -> Node:
    job, step = task.job, task.step
    told = (
        (
            leaf("CreateTime", run_time(job.created_at)),
            leaf("Name", step.name),
            leaf("State", job.state.value),
            leaf("StartTime", run_time(job.started_at)),
            leaf("EndTime", run_time(job.ended_at)),
            leaf("Code", job.code or "Success"),
            leaf("Message", job.message),
            *_result_info(task, job, execution, operations, with_result=False),
        )
        if job
        else (leaf("Name", step.name), leaf("State", task.run.state.value))
    )
    return Node("Tasks", (leaf("Type", step.type), leaf("JobId", task.run.job_id), *told), is_many=True)


def _result_info(
    task: RunTask, job: Job, execution: Execution, operations: Operations, *, with_result: bool
) -> Iterator[Node]:
    """What the step made of its object, once it has ended.

    Wire: our choice – a step that writes no object names its input as the object; one that failed has the count 0.
    """
    if job.state not in (JobState.SUCCESS, JobState.FAILED):
        return
    is_done = job.state is JobState.SUCCESS
    children = []
    if is_done:
        key = task.run.output_key or job.input.object_key
        output = task.step.output if task.run.output_key else None
        bucket, region = (output.bucket, output.region) if output else (execution.bucket, execution.region)
        children += [leaf("ObjectName", key), leaf("ObjectUrl", object_url(bucket, region, key))]
    children += [
        leaf("InputObjectName", job.input.object_key),
        leaf("Code", job.code or "Success"),
        leaf("Message", job.message, in_json=bool(job.message)),
    ]
    operation = operations.get(job.tag)
    if with_result and operation and operation.run_node and job.result is not None:
        children.append(tree(operation.run_node, operation.result_value(job.result)))
    info = Node("ObjectInfo", tuple(children), is_many=True)
    yield Node("ResultInfo", (leaf("ObjectCount", int(is_done)), info))


def object_url(bucket: str, region: str, key: str) -> str:
    """The address of an object at the vendor's; our own answers it for whoever comes through us as a proxy."""
    return f"http://{bucket}.cos.{region}.myqcloud.com/{quote(key)}"


def executions_answer(request_id: str, executions: Iterable[Execution], next_token: str) -> Node:
    """A page of runs. Wire: documentation and Java read CreateTime, Go reads CreationTime, so both are there."""
    nodes = (
        Node(
            "WorkflowExecutionList",
            (
                leaf("RunId", execution.id),
                leaf("WorkflowId", execution.workflow_id),
                leaf("Object", execution.source.key),
                leaf("CreateTime", run_time(execution.created_at)),
                leaf("CreationTime", run_time(execution.created_at)),
                leaf("State", execution.state.value),
            ),
            is_many=True,
        )
        for execution in executions
    )
    return answer(request_id, *nodes, leaf("NextToken", next_token))


# --- notifications -------------------------------------------------------------------------------------------------


def workflow_finish_body(
    execution: Execution,
    tasks: Sequence[RunTask],
    operations: Operations,
    form: CallbackFormat,
    *,
    wrapped: bool = False,
    event: str = "WorkflowFinish",
) -> tuple[str, bytes]:
    """(Content-Type, bytes) of the notification of a run; `wrapped` is whether JSON has the outer `Response`.

    Wire: "Workflow Callback": JSON has none. `WorkflowStart` is named by a newer page that shows no body: ours is the
    same container, with the tasks there are.
    """
    root = Node("Response", (leaf("EventName", event), workflow_finish(execution, tasks, operations)))
    return notification(root, form, wrapped=wrapped)


def workflow_finish(execution: Execution, tasks: Iterable[RunTask], operations: Operations) -> Node:
    """The run as its notification tells it, in the order of the JSON form."""
    return Node(
        "WorkflowExecution",
        (
            leaf("WorkflowId", execution.workflow_id),
            leaf("WorkflowName", execution.workflow_name),
            leaf("RunId", execution.id),
            leaf("State", execution.state.value),
            leaf("BucketId", execution.bucket),
            leaf("Object", execution.source.key),
            leaf("CreateTime", run_notice_time(execution.created_at)),
            *cos_headers(execution.source.told_headers),
            *(_told_task(task, execution, operations) for task in tasks),
        ),
    )


def _told_task(task: RunTask, execution: Execution, operations: Operations) -> Node:
    job, step = task.job, task.step
    return Node(
        "Tasks",
        (
            leaf("Type", step.type),
            *(_times(job, run_notice_time) if job else ()),
            leaf("State", (job or task.run).state.value),
            leaf("JobId", task.run.job_id),
            leaf("Name", step.name),
            *(
                (leaf("TemplateId", step.template_id), leaf("TemplateName", step.template_name))
                if step.template_id
                else ()
            ),
            *(_result_info(task, job, execution, operations, with_result=True) if job else ()),
        ),
        is_many=True,
    )


def _template(step: PlannedStep) -> Iterator[Node]:
    if step.template_id:
        yield leaf("TemplateId", step.template_id)
        yield leaf("TemplateName", step.template_name)


def _times(job: Job, written: Callable[[datetime | None], str]) -> Iterator[Node]:
    yield leaf("CreateTime", written(job.created_at))
    yield leaf("StartTime", written(job.started_at))
    yield leaf("EndTime", written(job.ended_at))
