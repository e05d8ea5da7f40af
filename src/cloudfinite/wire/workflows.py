"""What clients ask of workflows and their runs: bodies and queries, read and checked.

Wire: Cloud Infinite API documentation, "Create workflow", "Query workflow", "Querying workflow instances" and the
structures of their appendix (Start.Input, NotifyConfig, ExtFilter); cos-python-sdk-v5 and cos-go-sdk-v5 for what is
left empty or out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cloudfinite.domain.execution import ExecutionFilter, ExecutionState
from cloudfinite.domain.queue import Notify
from cloudfinite.domain.workflow import ExtFilter, FileKind, Start, Step, WorkflowRequest, WorkflowState
from cloudfinite.errors import InvalidArgument
from cloudfinite.wire.documents import Element, read_integer
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.requests import (
    GetParam,
    check_url,
    read_format,
    read_newest_first,
    read_output,
    read_params,
    read_states,
    read_time,
    read_token,
)
from cloudfinite.wire.topology import Vertex, read_graph, write_topology

MAX_NAME = 128
MAX_EXTENSIONS = 10  # Wire: "ExtFilter", CustomExts
EVENTS = ("TaskFinish", "WorkflowFinish", "WorkflowStart")
_NAME = re.compile(r"[\w-]+")
_QUEUES = ("QueueId", "AIProcessQueueId", "PicProcessQueueId", "SpeechRecognitionQueueId")


def read_workflow(request: Element, operations: Mapping[str, Operation]) -> WorkflowRequest:
    """Raises InvalidArgument naming the node and what would be right; NotImplementedHere for a step not built."""
    body = request.find("MediaWorkflow")
    topology = body.find("Topology") if body else None
    if body is None or topology is None:
        raise InvalidArgument("Request needs a MediaWorkflow node with Name and Topology")
    name = body.get("Name")
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise InvalidArgument(
            f"MediaWorkflow.Name is {name!r}; it must be 1 to {MAX_NAME} letters (Chinese too), digits, - or _"
        )
    state = body.get("State")
    if state not in ("", *WorkflowState):
        raise InvalidArgument(f"MediaWorkflow.State is {state!r}; it must be Active or Paused")
    first, *others = read_graph(topology, operations)
    return WorkflowRequest(
        name=name,
        state=WorkflowState(state) if state else None,
        topology=write_topology(topology),
        start=_read_start(first.body),
        steps=tuple(_read_step(vertex, others) for vertex in others),
    )


def _read_step(vertex: Vertex, others: Sequence[Vertex]) -> Step:
    operation = vertex.operation
    assert operation is not None, "Start is no step"
    where = f"Nodes.{vertex.name}"
    item = vertex.body.find("Operation")
    if item is None:
        raise InvalidArgument(f"{where} needs an Operation node")
    try:
        return Step(
            name=vertex.name,
            type=vertex.body.get("Type"),
            tag=operation.tag,
            after=tuple(other.name for other in others if vertex.name in other.successors),
            params=read_params(item, operation),
            template_id=item.get("TemplateId"),
            output=read_output(item, operation),
        )
    except InvalidArgument as exc:
        raise InvalidArgument(f"{where}: {exc.message}") from exc


# --- Start ---------------------------------------------------------------------------------------------------------


def _read_start(body: Element) -> Start:
    source = body.find("Input")
    prefix = source.find("ObjectPrefix") if source else None
    if source is None or prefix is None:
        raise InvalidArgument("Nodes.Start needs an Input with an ObjectPrefix; leave that empty to take every object")
    notify = source.find("NotifyConfig")
    queues = (source.get(name) for name in _QUEUES)
    return Start(
        prefix=prefix.text,
        filter=_read_filter(source.find("ExtFilter")),
        notify=_read_notify(notify) if notify and notify.children else None,
        queue_ids=tuple(dict.fromkeys(filter(None, queues))),
    )


def _read_notify(item: Element) -> Notify:
    """Wire: our choice – a NotifyConfig without State is on: the structure's table has no such node, samples have."""
    state = _read_switch(item, "State", "On")
    kind = item.get("Type", "Url")
    if kind != "Url":
        raise InvalidArgument(f"Start.Input.NotifyConfig.Type is {kind!r}; this server delivers to Url only")
    url = item.get("Url")
    if url:
        check_url(url, "Start.Input.NotifyConfig.Url")
    events = tuple(part.strip() for part in item.get("Event").split(",") if part.strip())
    for event in events:
        if event not in EVENTS:
            raise InvalidArgument(f"Start.Input.NotifyConfig.Event names {event!r}; it must be {' or '.join(EVENTS)}")
    if state and not (url and events):
        raise InvalidArgument("Start.Input.NotifyConfig is on, so it needs Url and Event")
    form = read_format(item.get("ResultFormat", "XML"), "Start.Input.NotifyConfig.ResultFormat")
    return Notify(state, url, events, form, kind)


def _read_filter(item: Element | None) -> ExtFilter:
    if item is None:
        return ExtFilter()
    texts = [part.strip().lower().removeprefix(".") for part in item.get("CustomExts").split("/") if part.strip()]
    is_custom = _read_flag(item, "Custom")
    if is_custom and not 1 <= len(texts) <= MAX_EXTENSIONS:
        raise InvalidArgument(
            f"Start.Input.ExtFilter.CustomExts names {len(texts)} extensions; with Custom it must name 1 to "
            f"{MAX_EXTENSIONS}, separated by /"
        )
    return ExtFilter(
        is_on=_read_switch(item, "State", "Off"),
        takes_all=_read_flag(item, "AllFile"),
        kinds=frozenset(kind for kind in FileKind if _read_flag(item, kind)),
        by_content_type=_read_flag(item, "ContentType"),
        extensions=frozenset(texts) if is_custom else frozenset(),
    )


def _read_switch(item: Element, name: str, default: str) -> bool:
    text = item.get(name, default)
    if text.lower() not in ("on", "off"):
        raise InvalidArgument(f"Start.Input.{item.name}.{name} is {text!r}; it must be On or Off")
    return text.lower() == "on"


def _read_flag(item: Element, name: str) -> bool:
    text = item.get(name, "false")
    if text.lower() not in ("true", "false"):
        raise InvalidArgument(f"Start.Input.{item.name}.{name} is {text!r}; it must be true or false")
    return text.lower() == "true"


# --- runs ----------------------------------------------------------------------------------------------------------


def read_execution_filter(get: GetParam) -> ExecutionFilter:
    """The filters of `GET /workflowexecution`."""
    workflow_id = get("workflowId")
    if not workflow_id:
        raise InvalidArgument("the parameter workflowId is missing")
    return ExecutionFilter(
        workflow_id=workflow_id,
        states=read_states(get("states"), ExecutionState),
        created_from=read_time(get("startCreationTime"), "startCreationTime"),
        created_until=read_time(get("endCreationTime"), "endCreationTime", is_end=True),
        object_key=get("name"),
        batch_id=get("jobId"),
        newest_first=read_newest_first(get("orderByTime")),
        after=read_token(get("nextToken")),
        size=read_integer(get("size") or "10", "size", 1, 100),
    )
