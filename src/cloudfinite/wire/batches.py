"""What clients ask of batch jobs, and what they are told: bodies, queries, answers.

Wire: Cloud Infinite API documentation, "Trigger job (workflow)", "Trigger job (independent node)", "Query job", "List
jobs" of batch processing; cos-go-sdk-v5 `InventoryTriggerJob…` (an empty TimeInterval is sent).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from cloudfinite.domain.batch import Batch, BatchFilter, BatchInput, BatchKind, BatchRequest, TimeInterval
from cloudfinite.domain.job import JobInput, JobRequest, JobState
from cloudfinite.errors import InvalidArgument
from cloudfinite.wire.documents import Element, parse_body, read_integer
from cloudfinite.wire.nodes import Node, to_xml
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.requests import (
    MAX_KEY_BYTES,
    GetParam,
    find_operation,
    read_callback,
    read_newest_first,
    read_output,
    read_params,
    read_states,
    read_time,
    read_token,
    read_user_data,
)
from cloudfinite.wire.shapes import answer, leaf
from cloudfinite.wire.times import job_time
from cloudfinite.wire.topology import as_node, check_names

MAX_NAME = 128
MAX_WORKFLOWS = 10
_NAME = re.compile(r"[\w-]+")
_INPUTS = {"Prefix": "prefix", "Object": "object_key", "UrlFile": "url_file", "Manifest": "manifest"}
_OPERATION = "Operation"


def read_batch(request: Element, operations: Mapping[str, Operation]) -> BatchRequest:
    """Raises InvalidArgument naming the node and what would be right; NotImplementedHere for a tag not built."""
    name = request.get("Name")
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidArgument(f"Name is {name!r}; it must be 1 to {MAX_NAME} letters (Chinese too), digits, - or _")
    kind = request.get("Type", BatchKind.WORKFLOW)  # Wire: Type is optional for workflows.
    if kind not in tuple(BatchKind):
        raise InvalidArgument(f"Type is {kind!r}; it must be Workflow or Job")
    operation = request.find(_OPERATION)
    if operation is None:
        raise InvalidArgument("Request needs an Operation node")
    check_names(operation)
    workflow_ids: tuple[str, ...] = ()
    if kind == BatchKind.WORKFLOW:
        workflow_ids = _read_workflow_ids(operation)
    else:
        _read_request(operation, operations)
    return BatchRequest(
        name=name,
        kind=BatchKind(kind),
        input=_read_input(request.find("Input")),
        operation=to_xml(as_node(operation, _OPERATION)).decode(),
        interval=_read_interval(operation.find("TimeInterval")),
        workflow_ids=workflow_ids,
    )


def _read_workflow_ids(operation: Element) -> tuple[str, ...]:
    ids = [part.strip() for part in operation.get("WorkflowIds").split(",")]
    ids = list(dict.fromkeys(part for part in ids if part))
    if not 1 <= len(ids) <= MAX_WORKFLOWS:
        raise InvalidArgument(f"Operation.WorkflowIds names {len(ids)} workflows; it must name 1 to {MAX_WORKFLOWS}")
    return tuple(ids)


def _read_input(item: Element | None) -> BatchInput:
    """Wire: our choice – an Input that names nothing is the whole bucket, as the table requires none of its nodes."""
    given = {name: item.get(name) for name in _INPUTS if item.get(name)} if item else {}
    if len(given) > 1:
        raise InvalidArgument(f"Input has {' and '.join(given)}; send one of {', '.join(_INPUTS)}")
    for name, value in given.items():
        if len(value.encode()) > MAX_KEY_BYTES:
            raise InvalidArgument(f"Input.{name} has {len(value.encode())} bytes; at most {MAX_KEY_BYTES} are allowed")
    return BatchInput(**{_INPUTS[name]: value.removeprefix("/") for name, value in given.items()})


def _read_interval(item: Element | None) -> TimeInterval:
    if item is None:
        return TimeInterval()
    start = read_time(_time(item.get("Start")), "TimeInterval.Start")
    end = read_time(_time(item.get("End")), "TimeInterval.End", is_end=True)
    if start and end and start > end:
        raise InvalidArgument(f"TimeInterval.Start is {item.get('Start')}, which is after its End, {item.get('End')}")
    return TimeInterval(start, end)


def _time(text: str) -> str:
    # Wire: the default of Start is written `0`.
    return "" if text == "0" else text


def read_operation(text: str, operations: Mapping[str, Operation]) -> JobRequest:
    """The job that a kept Operation node asks for, yet without an input. Raises what `read_batch` raises."""
    return _read_request(parse_body(text.encode(), _OPERATION), operations)


def _read_request(item: Element, operations: Mapping[str, Operation]) -> JobRequest:
    operation = find_operation(item.get("Tag"), operations)
    params = item.find("JobParam") or Element("JobParam")
    return JobRequest(
        tag=operation.tag,
        input=JobInput(),
        params=read_params(params, operation),
        template_id=params.get("TemplateId"),
        queue_id=item.get("QueueId"),
        level=read_integer(item.get("JobLevel", "0"), "Operation.JobLevel", 0, 2),
        user_data=read_user_data(item),
        callback=read_callback(item),
        output=read_output(item, operation),
    )


def read_batch_filter(get: GetParam) -> BatchFilter:
    """The filters of `GET /inventorytriggerjob`. Wire: cos-python-sdk-v5 sends `type=Workflow` when told nothing."""
    kind = get("type")
    if kind not in ("", "All", *BatchKind):
        raise InvalidArgument(f"type is {kind!r}; it must be Workflow or Job")
    return BatchFilter(
        kind=BatchKind(kind) if kind in tuple(BatchKind) else None,
        states=read_states(get("states"), JobState),
        created_from=read_time(get("startCreationTime"), "startCreationTime"),
        created_until=read_time(get("endCreationTime"), "endCreationTime", is_end=True),
        workflow_id=get("workflowId"),
        batch_id=get("jobId"),
        name=get("name"),
        newest_first=read_newest_first(get("orderByTime")),
        after=read_token(get("nextToken")),
        size=read_integer(get("size") or "10", "size", 1, 100),
    )


# --- answers -------------------------------------------------------------------------------------------------------


def batch_node(batch: Batch) -> Node:
    """Wire: our choice – Message says what an unfinished batch waits for; Progress, which no page has, counts."""
    counts = batch.counts
    given = [leaf(name, value) for name, field in _INPUTS.items() if (value := getattr(batch.input, field))]
    return Node(
        "JobsDetail",
        (
            leaf("Code", batch.code or "Success"),
            leaf("Message", batch.message or batch.held, in_json=bool(batch.message or batch.held)),
            leaf("Type", batch.kind.value),
            leaf("Name", batch.name),
            leaf("JobId", batch.id),
            leaf("State", batch.state.value),
            leaf("CreationTime", job_time(batch.created_at)),
            leaf("StartTime", job_time(batch.started_at)),
            leaf("EndTime", job_time(batch.ended_at)),
            Node("Input", tuple(given) or (leaf("Prefix", ""),)),
            as_node(parse_body(batch.operation.encode(), _OPERATION), _OPERATION),
            Node(
                "Progress",
                (
                    leaf("ObjectCount", counts.found),
                    leaf("TriggeredCount", counts.started),
                    leaf("SkippedCount", counts.skipped),
                ),
            ),
        ),
        is_many=True,
    )


def batches_answer(request_id: str, batches: Iterable[Batch], *, missing: str = "", next_token: str = "") -> Node:
    """Wire: "Query job" says NonExistJobIds, and cos-go-sdk-v5 reads NonExistJobId: both are there."""
    nodes = [batch_node(batch) for batch in batches]
    if missing:
        nodes += [leaf("NonExistJobIds", missing, many=True), leaf("NonExistJobId", missing)]
    if next_token:
        nodes.append(leaf("NextToken", next_token))
    return answer(request_id, *nodes)
