"""The wire's documents and the domain values they tell: jobs, callbacks, queues, templates, errors.

Wire: Cloud Infinite API documentation, pages of jobs, queues, templates and error codes; "Task Callback" (OCR).
Node order: an API answer follows the list of its page's sample, a callback sorts names by ASCII with `CosHeaders` last.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cloudfinite.domain.execution import Execution
from cloudfinite.domain.job import CallbackFormat, Job
from cloudfinite.domain.queue import Queue
from cloudfinite.domain.template import Template
from cloudfinite.wire.nodes import Node, Scalar, sorted_by_name, to_json, to_xml, tree
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.times import job_time


def leaf(name: str, value: Scalar, *, in_json: bool = True, many: bool = False) -> Node:
    return Node(name, value, in_json=in_json, is_many=many)


# --- jobs ----------------------------------------------------------------------------------------------------------


def job_detail(job: Job, operation: Operation, name: str = "JobsDetail") -> Node:
    """A job in an API answer.

    Wire: our choice – `Object` is last in `Input`, because the Java SDK takes the last child for the key.
    """
    return Node(
        name,
        (
            leaf("Code", job.code or "Success"),
            leaf("Message", job.message, in_json=bool(job.message)),
            leaf("JobId", job.id),
            leaf("State", job.state.value),
            leaf("CreationTime", job_time(job.created_at)),
            leaf("StartTime", job_time(job.started_at)),
            leaf("EndTime", job_time(job.ended_at)),
            leaf("QueueId", job.queue_id),
            leaf("Tag", job.tag),
            Node("Input", (leaf("BucketId", job.bucket), leaf("Region", job.region), *_source(job))),
            sorted_by_name(Node("Operation", tuple(_operation_nodes(job, operation)))),
        ),
        is_many=True,
    )


def _source(job: Job) -> Iterable[Node]:
    if job.input.url:
        yield leaf("Url", job.input.url)
    if job.input.object_key or not job.input.url:
        yield leaf("Object", job.input.object_key)


def _operation_nodes(job: Job, operation: Operation) -> Iterable[Node]:
    """In ASCII order of their names; the result keeps the order of its declaration."""
    nodes = [leaf("JobLevel", job.level)]
    if job.result is not None:
        nodes.append(tree(operation.result_node, operation.result_value(job.result)))
    if job.template_id:
        nodes += [leaf("TemplateId", job.template_id), leaf("TemplateName", job.template_name)]
    else:
        nodes.append(tree(operation.params_node, operation.params_value(job.params)))
    if job.output is not None:
        place = job.output
        nodes.append(
            Node("Output", (leaf("Bucket", place.bucket), leaf("Object", place.key), leaf("Region", place.region)))
        )
    if job.user_data is not None:
        nodes.append(leaf("UserData", job.user_data))
    return sorted(nodes, key=lambda node: node.name)


def task_finish(job: Job, operation: Operation, run: Execution | None = None) -> Node:
    """The notification of one job's end, in the order of its JSON form; `run` is the workflow's run it is a step of.

    Wire: "Task Callback" (OCR), both samples; its tables and those of the other callback pages for a run's nodes.
    """
    headers = cos_headers((*run.source.told_headers, *run.source.told_event) if run else ())
    detail = Node(
        "JobsDetail",
        (
            leaf("Code", job.code or "Success"),
            leaf("CreationTime", job_time(job.created_at)),
            leaf("EndTime", job_time(job.ended_at)),
            Node("Input", (leaf("BucketId", job.bucket), *_source(job), leaf("Region", job.region), *headers)),
            leaf("JobId", job.id),
            leaf("Message", job.message, in_json=bool(job.message)),
            Node("Operation", tuple(_operation_nodes(job, operation))),
            leaf("QueueId", job.queue_id),
            leaf("StartTime", job_time(job.started_at)),
            leaf("State", job.state.value),
            leaf("Tag", job.tag),
            *_workflow(job, run),
        ),
        is_many=True,
    )
    return Node("Response", (leaf("EventName", "TaskFinish"), detail))


def cos_headers(headers: Iterable[tuple[str, str]]) -> Iterator[Node]:
    """Headers of the object that a workflow's run is about, in this order; nothing when there are none."""
    for name, value in headers:
        yield Node("CosHeaders", (leaf("Key", name), leaf("Value", value)), is_many=True, sorts_last=True)


def _workflow(job: Job, run: Execution | None) -> Iterator[Node]:
    """Wire: the table puts the node below `Response`, the text and all samples below `Response.JobsDetail`."""
    if run is None or job.step_of is None:
        return
    children = (
        leaf("Name", job.step_of.step),
        leaf("RunId", run.id),
        leaf("WorkflowId", run.workflow_id),
        leaf("WorkflowName", run.workflow_name),
    )
    yield Node("Workflow", children)


def callback_body(
    job: Job, operation: Operation, form: CallbackFormat, *, wrapped: bool, run: Execution | None = None
) -> tuple[str, bytes]:
    """(Content-Type, bytes) of the notification; `wrapped` is whether JSON has the outer `Response`."""
    return notification(task_finish(job, operation, run), form, wrapped=wrapped)


def notification(root: Node, form: CallbackFormat, *, wrapped: bool) -> tuple[str, bytes]:
    """(Content-Type, bytes) of what is told to a receiver: XML by name, JSON in the order of the node."""
    if form is CallbackFormat.JSON:
        return "application/json", to_json(root, wrapped=wrapped)
    return "application/xml", to_xml(sorted_by_name(root))


def jobs_answer(jobs: Iterable[Node], *, missing: Sequence[str] = (), next_token: str = "") -> Node:
    children = [*jobs, *(leaf("NonExistJobIds", job_id, many=True) for job_id in missing)]
    if next_token:
        children.append(leaf("NextToken", next_token))
    return Node("Response", tuple(children))


def process_answer(result: object, request_id: str) -> Node:
    """The flat answer of a synchronous call: no JobsDetail, no placeholders.

    Wire: Cloud Infinite API documentation, "General OCR" (`ci-process=OCR`).
    """
    children = tree("Response", result, placeholders=False).value
    assert isinstance(children, tuple)
    return sorted_by_name(Node("Response", (*children, leaf("RequestId", request_id))))


# --- queues --------------------------------------------------------------------------------------------------------


def queue_node(queue: Queue, name: str) -> Node:
    """A queue, as `Queue` (answer of an update) or `QueueList` (of a list); the two pages order the end differently."""
    notify = queue.notify
    head = (
        leaf("QueueId", queue.id),
        leaf("Name", queue.name),
        leaf("State", queue.state.value),
        Node(
            "NotifyConfig",
            (
                leaf("Url", notify.url),
                leaf("Event", ",".join(notify.events)),
                leaf("Type", notify.type),
                leaf("State", "On" if notify.is_on else "Off"),
                leaf("ResultFormat", notify.format.value),
            ),
        ),
        leaf("MaxSize", queue.max_size),
        leaf("MaxConcurrent", queue.max_concurrent),
    )
    category = leaf("Category", queue.category)
    times = (
        leaf("UpdateTime", job_time(queue.updated_at)),
        leaf("CreateTime", job_time(queue.created_at)),
    )
    is_list = name == "QueueList"
    return Node(name, (*head, *times, category) if is_list else (*head, category, *times), is_many=is_list)


# --- templates -----------------------------------------------------------------------------------------------------


def template_node(template: Template, operation: Operation, name: str) -> Node:
    params = tree(operation.params_node, operation.params_value(template.params))
    return Node(
        name,
        (
            leaf("Tag", template.tag),
            leaf("Name", template.name),
            leaf("State", "Normal"),
            leaf("BucketId", template.bucket),
            leaf("Category", "Official" if template.is_official else "Custom"),
            leaf("CreateTime", job_time(template.created_at)),
            leaf("UpdateTime", job_time(template.updated_at)),
            leaf("TemplateId", template.id),
            params,
        ),
        is_many=name == "TemplateList",
    )


# --- around them ---------------------------------------------------------------------------------------------------


def answer(request_id: str, *nodes: Node) -> Node:
    """`<Response>` with the request id first, as queue and template answers have it."""
    return Node("Response", (leaf("RequestId", request_id), *nodes))


def page_answer(request_id: str, total: int, page_number: int, page_size: int, nodes: Iterable[Node]) -> Node:
    """A numbered page of a list."""
    return answer(
        request_id,
        leaf("TotalCount", total),
        leaf("PageNumber", page_number),
        leaf("PageSize", page_size),
        *nodes,
    )
