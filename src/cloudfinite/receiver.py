"""For receivers: read a callback's body into typed values, and check that it is genuine. Needs lxml and nothing else.

    from cloudfinite.receiver import parse_callback, verify

    verify(request.headers, body, secret)          # raises SignatureError
    for job in parse_callback(body).jobs:
        print(job.job_id, job.state, [line.text for line in job.detection.lines] if job.detection else job.message)

The end of a workflow's run is `parse_callback(body).run`. Callbacks may come twice (same `webhook-id`, same bytes): act
once per JobId, or RunId.

Wire: "Task Callback" (OCR) and the callback pages of the other tags. Read as they differ: XML or JSON, with or without
the outer `Response`, one JobsDetail or several, lists of one as objects, numbers as texts, empty nodes absent or null.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lxml import etree

from cloudfinite.wire.times import parse_job_time
from cloudfinite.wire.webhooks import ID_HEADER, SIGNATURE_HEADER, TIMESTAMP_HEADER, read_secret, sign

TOLERANCE_S = 300
"""How far a callback's timestamp may be from now, either way."""


class CallbackError(ValueError):
    """The body is not a callback that can be read."""


class SignatureError(ValueError):
    """The callback was not signed with this secret, was changed, or is too old."""


@dataclass(frozen=True, slots=True)
class Corner:
    """One pixel, from the picture's top left."""

    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; both edges count."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Word:
    """One character or word of a line."""

    text: str
    confidence: int
    corners: tuple[Corner, ...] = ()


@dataclass(frozen=True, slots=True)
class TextLine:
    """One recognised line; confidence in percent; outlines are those of handwritten characters."""

    text: str
    confidence: int
    box: Box | None = None
    corners: tuple[Corner, ...] = ()
    words: tuple[Word, ...] = ()
    outlines: tuple[tuple[Corner, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Detection:
    """What was recognised: the text's angle clockwise in degrees, its language, its lines."""

    angle_deg: float = 0.0
    pdf_page_count: int = 0
    language: str = ""
    lines: tuple[TextLine, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkflowRef:
    """The workflow that started the job."""

    run_id: str
    workflow_id: str
    workflow_name: str
    name: str


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """One JobsDetail. `operation` is the whole node Operation, as nested dicts and lists, for other tags' results."""

    job_id: str
    state: str
    tag: str
    code: str = ""
    message: str = ""
    queue_id: str = ""
    bucket: str = ""
    region: str = ""
    object_key: str = ""
    input_url: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    template_id: str = ""
    template_name: str = ""
    user_data: str = ""
    level: int = 0
    detection: Detection | None = None
    workflow: WorkflowRef | None = None
    object_headers: Mapping[str, str] = field(default_factory=dict)
    operation: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FinishedStep:
    """One task of a workflow's run; object_key is what it wrote, or read when it writes nothing."""

    name: str
    type: str
    state: str
    job_id: str = ""
    code: str = ""
    message: str = ""
    object_key: str = ""
    template_id: str = ""
    template_name: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    detection: Detection | None = None


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """The WorkflowExecution of a `WorkflowFinish`."""

    run_id: str
    state: str
    workflow_id: str = ""
    workflow_name: str = ""
    bucket: str = ""
    object_key: str = ""
    created_at: datetime | None = None
    object_headers: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[FinishedStep, ...] = ()


@dataclass(frozen=True, slots=True)
class TaskFinish:
    """A callback: its event and what it tells of: jobs, usually one, or a workflow's run."""

    event: str
    jobs: tuple[FinishedJob, ...]
    run: FinishedRun | None = None


def parse_callback(body: bytes, content_type: str = "") -> TaskFinish:
    """Read a callback, XML or JSON by its first character; `content_type` only helps the error's text.

    Raises CallbackError. Nothing of an XML body is expanded or fetched; a DOCTYPE is refused.
    """
    text = body.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        root = _read_xml(text)
    elif text.startswith(b"{"):
        root = _read_json(text)
    else:
        kind = f" ({content_type})" if content_type else ""
        raise CallbackError(f"the body{kind} is neither XML nor a JSON object")
    if "EventName" not in root and isinstance(root.get("Response"), dict):
        root = root["Response"]
    node = _Node(root)
    if not node.text("EventName"):
        raise CallbackError("the body has no EventName")
    run = node.child("WorkflowExecution")
    jobs = tuple(_job(one) for one in node.all("JobsDetail"))
    return TaskFinish(node.text("EventName"), jobs, _run(run) if run.value else None)


def verify(
    headers: Mapping[str, str],
    body: bytes,
    secret: str | Sequence[str],
    *,
    now_s: float | None = None,
    tolerance_s: float = TOLERANCE_S,
) -> str:
    """Check a callback's signature; returns its `webhook-id`, the same in each of its repeats.

    secret: `whsec_…`, or several during a rotation. Raises SignatureError; ValueError when the secret is none.
    """
    found = {name.lower(): value for name, value in headers.items()}
    message_id, timestamp = found.get(ID_HEADER, ""), found.get(TIMESTAMP_HEADER, "")
    if not message_id or not (timestamp.isascii() and timestamp.isdigit()):
        raise SignatureError("the headers webhook-id and webhook-timestamp are missing or unreadable")
    if abs((time.time() if now_s is None else now_s) - int(timestamp)) > tolerance_s:
        raise SignatureError(f"the callback's timestamp is more than {tolerance_s:g} s away from now")
    keys = [read_secret(one) for one in ([secret] if isinstance(secret, str) else secret)]
    expected = [one.encode() for one in sign(keys, message_id, int(timestamp), body).split()]
    given = [one.encode() for one in found.get(SIGNATURE_HEADER, "").split()]
    if not any(hmac.compare_digest(one, other) for one in expected for other in given):
        raise SignatureError("no signature of the callback fits")
    return message_id


# --- one tree for both forms: dicts, lists and texts ---------------------------------------------------------------


def _read_xml(text: bytes) -> dict[str, Any]:
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False,
        remove_comments=True, remove_pis=True,
    )  # fmt: skip
    try:
        root = etree.fromstring(text, parser)
    except (etree.XMLSyntaxError, ValueError) as exc:
        raise CallbackError(f"the XML cannot be read: {exc}") from exc
    if root.getroottree().docinfo.internalDTD is not None:
        raise CallbackError("the XML has a DOCTYPE")
    value = _xml_value(root)
    return value if isinstance(value, dict) else {}


def _xml_value(element: Any) -> dict[str, Any] | str:
    """Depth is bounded by the parser, at 256."""
    if not len(element):
        return element.text or ""
    found: dict[str, Any] = {}
    for child in element:
        found.setdefault(etree.QName(child).localname, []).append(_xml_value(child))
    return found


def _read_json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text.decode())
    except (ValueError, RecursionError) as exc:
        raise CallbackError(f"the JSON cannot be read: {exc}") from exc
    return found if isinstance(found, dict) else {}


class _Node:
    """A container; whatever is missing, null or of another form reads as empty."""

    def __init__(self, value: Any) -> None:
        self.value: Mapping[str, Any] = value if isinstance(value, dict) else {}

    def _values(self, *names: str) -> Iterator[Any]:
        for name in names:
            value = self.value.get(name)
            yield from value if isinstance(value, list) else () if value is None else (value,)

    def all(self, name: str) -> list[_Node]:
        """The containers of that name, one or many; empty ones are placeholders."""
        return [_Node(value) for value in self._values(name) if isinstance(value, dict) and value]

    def child(self, name: str) -> _Node:
        return next(iter(self.all(name)), _Node({}))

    def text(self, *names: str) -> str:
        """The first text of any of these names."""
        for value in self._values(*names):
            if isinstance(value, str | int | float) and value != "":
                return str(value)
        return ""

    def number(self, *names: str) -> float:
        try:
            return float(self.text(*names) or 0)
        except ValueError as exc:
            raise CallbackError(f"{names[0]} is {self.text(*names)!r}, not a number") from exc

    def integer(self, name: str) -> int:
        try:
            return int(self.number(name))
        except (OverflowError, ValueError) as exc:
            raise CallbackError(f"{name} is {self.text(name)!r}, not a number") from exc

    def time(self, name: str) -> datetime | None:
        text = self.text(name)
        if text in ("", "-"):
            return None
        try:
            return parse_job_time(text)
        except ValueError as exc:
            raise CallbackError(f"{name}: {exc}") from exc


def _job(node: _Node) -> FinishedJob:
    source, operation, workflow = node.child("Input"), node.child("Operation"), node.child("Workflow")
    detection = operation.child("Detection")
    return FinishedJob(
        job_id=node.text("JobId"),
        state=node.text("State"),
        tag=node.text("Tag"),
        code=node.text("Code"),
        message=node.text("Message"),
        queue_id=node.text("QueueId"),
        bucket=source.text("BucketId"),
        region=source.text("Region"),
        object_key=source.text("Object"),
        input_url=source.text("Url"),
        created_at=node.time("CreationTime"),
        started_at=node.time("StartTime"),
        ended_at=node.time("EndTime"),
        template_id=operation.text("TemplateId"),
        template_name=operation.text("TemplateName"),
        user_data=operation.text("UserData"),
        level=operation.integer("JobLevel"),
        detection=_detection(detection) if detection.value else None,
        workflow=_workflow(workflow) if workflow.value else None,
        object_headers=_headers(source),
        operation=operation.value,
    )


def _headers(node: _Node) -> Mapping[str, str]:
    return {header.text("Key"): header.text("Value") for header in node.all("CosHeaders")}


def _run(node: _Node) -> FinishedRun:
    return FinishedRun(
        run_id=node.text("RunId"),
        state=node.text("State"),
        workflow_id=node.text("WorkflowId"),
        workflow_name=node.text("WorkflowName"),
        bucket=node.text("BucketId"),
        object_key=node.text("Object"),
        created_at=node.time("CreateTime"),
        object_headers=_headers(node),
        steps=tuple(_step(task) for task in node.all("Tasks")),
    )


def _step(node: _Node) -> FinishedStep:
    made = node.child("ResultInfo").child("ObjectInfo")
    detection = made.child("ImageOcrResult")
    return FinishedStep(
        name=node.text("Name"),
        type=node.text("Type"),
        state=node.text("State"),
        job_id=node.text("JobId"),
        code=made.text("Code"),
        message=made.text("Message"),
        object_key=made.text("ObjectName"),
        template_id=node.text("TemplateId"),
        template_name=node.text("TemplateName"),
        created_at=node.time("CreateTime"),
        started_at=node.time("StartTime"),
        ended_at=node.time("EndTime"),
        detection=_detection(detection) if detection.value else None,
    )


def _workflow(node: _Node) -> WorkflowRef:
    return WorkflowRef(node.text("RunId"), node.text("WorkflowId"), node.text("WorkflowName"), node.text("Name"))


def _detection(node: _Node) -> Detection:
    return Detection(
        angle_deg=node.number("Angel", "Angle"),
        pdf_page_count=node.integer("PdfPageSize"),
        language=node.text("Language"),
        lines=tuple(_line(line) for line in node.all("TextDetections")),
    )


def _line(node: _Node) -> TextLine:
    box = node.child("ItemPolygon")
    return TextLine(
        text=node.text("DetectedText"),
        confidence=node.integer("Confidence"),
        box=Box(*(box.integer(name) for name in ("X", "Y", "Width", "Height"))) if box.value else None,
        corners=_corners(node.all("Polygon")),
        # Words without a character are the stand-in of a line whose words were not asked for.
        words=tuple(_word(word) for word in node.all("Words") if word.text("Character")),
        outlines=tuple(_outline(outline) for outline in node.all("WordPolygon")),
    )


def _word(node: _Node) -> Word:
    corners = node.child("WordCoordPoint").all("WordCoordinate")
    return Word(node.text("Character"), node.integer("Confidence"), _corners(corners))


def _outline(node: _Node) -> tuple[Corner, ...]:
    return _corners([node.child(name) for name in ("LeftTop", "RightTop", "RightBottom", "LeftBottom")])


def _corners(nodes: Sequence[_Node]) -> tuple[Corner, ...]:
    return tuple(Corner(node.integer("X"), node.integer("Y")) for node in nodes)
