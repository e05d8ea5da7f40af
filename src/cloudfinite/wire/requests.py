"""What clients' bodies and queries ask for: submissions, queue and template changes, list filters.

Wire: Cloud Infinite API documentation, "Submit task", "Retrieve the Eligible Task List", "Update queue", "Create
template"; P-73141 and P-102056 of the OCR pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from cloudfinite.domain.job import CallbackChoice, CallbackFormat, JobFilter, JobInput, JobOutput, JobRequest, JobState
from cloudfinite.domain.queue import SERVICES, Notify, Queue, QueueState
from cloudfinite.errors import InvalidArgument, NotImplementedHere
from cloudfinite.wire.documents import Element, read_fields, read_integer
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.tags import KNOWN_TAGS
from cloudfinite.wire.times import parse_job_time

MAX_OPERATIONS = 6  # Wire: "MultiJobs": up to six Operation nodes in one request
MAX_USER_DATA = 1024
MAX_IDS = 100
MAX_URL = 2048
MAX_KEY_BYTES = 850
_NAME = re.compile(r"[\w*-]+")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")
State = TypeVar("State", bound=StrEnum)
GetParam = Callable[[str], str]


# --- submit --------------------------------------------------------------------------------------------------------


def read_submission(request: Element, operations: Mapping[str, Operation]) -> list[JobRequest]:
    """The jobs of one `Request`: one, or one per Operation when each carries its own Tag.

    Raises InvalidArgument naming the node, its value and what would be right; NotImplementedHere for a tag of the
    vendor's that is not built.
    """
    items = request.all("Operation")
    if not items:
        raise InvalidArgument("Request needs an Operation node")
    if len(items) > MAX_OPERATIONS:
        raise InvalidArgument(f"Request has {len(items)} Operation nodes; at most {MAX_OPERATIONS} are allowed")
    if request.get("Tag") and len(items) > 1:
        raise InvalidArgument("with several Operation nodes the Tag stands in each of them, not in Request")
    source = _read_input(request.find("Input"))
    callback = read_callback(request)
    queue_id = request.get("QueueId")
    found = []
    for item in items:
        operation = find_operation(request.get("Tag") or item.get("Tag"), operations)
        found.append(
            JobRequest(
                tag=operation.tag,
                input=source,
                params=read_params(item, operation),
                template_id=item.get("TemplateId"),
                queue_id=queue_id,
                level=read_integer(item.get("JobLevel", "0"), "Operation.JobLevel", 0, 2),
                user_data=read_user_data(item),
                callback=callback,
                output=read_output(item, operation),
            )
        )
    return found


def find_operation(tag: str, operations: Mapping[str, Operation]) -> Operation:
    if not tag:
        raise InvalidArgument("Request needs a Tag node, for example ImageOCR")
    if tag in operations:
        return operations[tag]
    if tag in KNOWN_TAGS:
        raise NotImplementedHere(f"the tag {tag} is not built yet; docs/coverage.md lists what is")
    raise InvalidArgument(f"Tag is {tag!r}; the tags that run here are {', '.join(operations)}")


def _read_input(item: Element | None) -> JobInput:
    key = item.get("Object") if item else ""
    url = item.get("Url") if item else ""
    if key:
        key = key.removeprefix("/")
        if len(key.encode()) > MAX_KEY_BYTES:
            raise InvalidArgument(f"Input.Object has {len(key.encode())} bytes; at most {MAX_KEY_BYTES} are allowed")
        return JobInput(object_key=key)
    if url:
        check_url(url, "Input.Url")
        return JobInput(url=url)
    raise InvalidArgument("Input needs an Object node with the key of the object, or a Url node")


def check_url(url: str, where: str) -> None:
    """Raises InvalidArgument for what cannot be a URL that we call."""
    if len(url) > MAX_URL:
        raise InvalidArgument(f"{where} has {len(url)} characters; at most {MAX_URL} are allowed")
    if not url.lower().startswith(("http://", "https://")):
        raise InvalidArgument(f"{where} is {url!r}; it must start with http:// or https://")


def read_callback(request: Element) -> CallbackChoice:
    """Wire: "Submit task", CallBack, CallBackFormat, CallBackType; the literal `no` sends none."""
    kind = request.get("CallBackType", "Url")
    if kind != "Url":
        raise InvalidArgument(f"CallBackType is {kind!r}; this server delivers to Url only")
    url = request.get("CallBack") or None
    if url and url != "no":
        check_url(url, "CallBack")
    form = request.get("CallBackFormat")
    return CallbackChoice(url, read_format(form, "CallBackFormat") if form else None)


def read_format(text: str, where: str) -> CallbackFormat:
    try:
        return CallbackFormat(text.upper())
    except ValueError as exc:
        raise InvalidArgument(f"{where} is {text!r}; it must be XML or JSON") from exc


def read_user_data(item: Element) -> str | None:
    text = item.get("UserData")
    if len(text) > MAX_USER_DATA:
        raise InvalidArgument(f"Operation.UserData has {len(text)} characters; at most {MAX_USER_DATA} are allowed")
    return text or None


def read_params(item: Element, operation: Operation) -> Mapping[str, object] | None:
    """The operation's parameters in their JSON form, None when a template gives them."""
    node = item.find(operation.params_node)
    if item.get("TemplateId"):
        return None  # Wire: sibling tags, "TemplateId first": the template wins over inline parameters
    if node is None:
        wanted = "TemplateId or " if operation.can_template else ""
        raise InvalidArgument(f"Operation needs {wanted}{operation.params_node}")
    return operation.params_data(read_fields(operation.params, node))


def read_output(item: Element, operation: Operation) -> JobOutput | None:
    """Where the operation's object goes, None for an operation that writes none."""
    if not operation.produces:
        return None
    output = item.find("Output")
    key = output.get("Object").removeprefix("/") if output else ""
    if output is None or not key:
        raise InvalidArgument(f"Operation.Output needs an Object: where {operation.tag} puts its {operation.produces}")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise InvalidArgument(f"Output.Object has {len(key.encode())} bytes; at most {MAX_KEY_BYTES} are allowed")
    return JobOutput(output.get("Bucket"), output.get("Region"), key)


# --- lists ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Page:
    """A numbered page: `number` from 1."""

    number: int = 1
    size: int = 10

    def cut(self, items: Sequence[T]) -> Sequence[T]:
        return items[(self.number - 1) * self.size : self.number * self.size]


def read_page(get: GetParam) -> Page:
    return Page(
        read_integer(get("pageNumber") or "1", "pageNumber", 1, 1_000_000),
        read_integer(get("pageSize") or "10", "pageSize", 1, 100),
    )


def read_ids(text: str, where: str) -> list[str]:
    """A comma list without repeats."""
    ids = list(dict.fromkeys(part for part in text.split(",") if part))
    if len(ids) > MAX_IDS:
        raise InvalidArgument(f"{where} lists {len(ids)} ids; at most {MAX_IDS} are allowed")
    return ids


def read_job_filter(get: GetParam, operations: Mapping[str, Operation]) -> JobFilter:
    """The filters of `GET /jobs`."""
    tag = get("tag")
    if not tag:
        raise InvalidArgument("the parameter tag is missing, for example tag=ImageOCR")
    queue_id = get("queueId")
    return JobFilter(
        tag=tag if tag in operations else find_operation(tag, operations).tag,
        queue_id=queue_id,
        queue_service="" if queue_id else _queue_service(get("queueType")),
        states=read_states(get("states"), JobState),
        created_from=read_time(get("startCreationTime"), "startCreationTime"),
        created_until=read_time(get("endCreationTime"), "endCreationTime", is_end=True),
        object_key=get("inputObject"),
        newest_first=read_newest_first(get("orderByTime")),
        after=read_token(get("nextToken")),
        size=read_integer(get("size") or "10", "size", 1, 100),
    )


def _queue_service(queue_type: str) -> str:
    if not queue_type or queue_type == "CateAll":
        return ""
    for service in SERVICES.values():
        if queue_type in (service.category, service.queue_name):
            return service.name
    categories = ", ".join(service.category for service in SERVICES.values())
    raise InvalidArgument(f"queueType is {queue_type!r}; it must be one of {categories}")


def read_states(text: str, kind: type[State]) -> frozenset[State]:
    """A comma list of states; none and `All` are the empty set, which means all."""
    names = [part for part in text.split(",") if part]
    if not names or "All" in names:
        return frozenset()
    try:
        return frozenset(map(kind, names))
    except ValueError as exc:
        raise InvalidArgument(f"states is {text!r}; it must be a list of All, {', '.join(kind)}") from exc


def read_newest_first(order: str) -> bool:
    """The parameter orderByTime, `Desc` by default."""
    if order not in ("", "Desc", "Asc"):
        raise InvalidArgument(f"orderByTime is {order!r}; it must be Desc or Asc")
    return order != "Asc"


def read_time(text: str, where: str, *, is_end: bool = False) -> datetime | None:
    """A time parameter, None when it is empty; the end of a span covers the whole second that it names."""
    if not text:
        return None
    try:
        at = parse_job_time(text)
    except ValueError as exc:
        raise InvalidArgument(f"{where}: {exc}") from exc
    # The wire shows whole seconds: "until 10:00:00" includes a job created in that second.
    return at.replace(microsecond=999_999) if is_end else at


def write_token(created_at: datetime, seq: int) -> str:
    """The position behind a page's last job; opaque to clients."""
    return f"{(created_at - _EPOCH) // timedelta(microseconds=1):x}-{seq:x}"


def read_token(text: str) -> tuple[datetime, int] | None:
    if not text:
        return None
    created, separator, seq = text.partition("-")
    try:
        if not separator or len(text) > 40:
            raise ValueError(text)
        return _EPOCH + timedelta(microseconds=int(created, 16)), int(seq, 16)
    except (ValueError, OverflowError) as exc:
        raise InvalidArgument(f"nextToken is {text!r}; send the NextToken of the page before") from exc


# --- queues, templates ---------------------------------------------------------------------------------------------


def read_queue_update(request: Element, queue: Queue, at: datetime) -> Queue:
    """The queue with the request's changes; a node that is absent keeps its value."""
    name = request.get("Name", queue.name)
    if len(name.encode()) > 128:
        raise InvalidArgument(f"Name has {len(name.encode())} bytes; at most 128 are allowed")
    state = request.get("State", queue.state.value)
    if state not in tuple(QueueState):
        raise InvalidArgument(f"State is {state!r}; it must be Active or Paused")
    notify = request.find("NotifyConfig")
    return replace(
        queue,
        name=name,
        state=QueueState(state),
        notify=_read_notify(notify, queue.notify) if notify else queue.notify,
        updated_at=at,
    )


def _read_notify(item: Element, old: Notify) -> Notify:
    state = item.get("State", "On" if old.is_on else "Off")
    if state not in ("On", "Off"):
        raise InvalidArgument(f"NotifyConfig.State is {state!r}; it must be On or Off")
    url = item.get("Url", old.url)
    if url:
        check_url(url, "NotifyConfig.Url")
    kind = item.get("Type", "Url")
    if kind != "Url":
        raise InvalidArgument(f"NotifyConfig.Type is {kind!r}; this server delivers to Url only")
    events = tuple(part.strip() for part in item.get("Event", ",".join(old.events)).split(",") if part.strip())
    for event in events:
        if event not in ("TaskFinish", "WorkflowFinish"):
            raise InvalidArgument(f"NotifyConfig.Event names {event!r}; it must be TaskFinish or WorkflowFinish")
    if state == "On" and not (url and events):
        raise InvalidArgument("NotifyConfig.State is On, so NotifyConfig needs Url and Event")
    form = item.get("ResultFormat", old.format.value)
    return Notify(state == "On", url, events, read_format(form, "NotifyConfig.ResultFormat"), kind)


@dataclass(frozen=True, slots=True)
class TemplateRequest:
    operation: Operation
    name: str
    params: Mapping[str, object]


def read_template(request: Element, operations: Mapping[str, Operation]) -> TemplateRequest:
    operation = find_operation(request.get("Tag"), operations)
    if not operation.can_template:
        raise InvalidArgument(f"Tag is {operation.tag!r}, which has no templates")
    name = request.get("Name")
    if not name:
        raise InvalidArgument("Request needs a Name node")
    if len(name) > 64 or not _NAME.fullmatch(name):
        raise InvalidArgument(f"Name is {name!r}; it must be at most 64 letters, digits, _, - or *")
    node = request.find(operation.params_node)
    if node is None:
        raise InvalidArgument(f"Request needs a {operation.params_node} node")
    return TemplateRequest(operation, name, operation.params_data(read_fields(operation.params, node)))
