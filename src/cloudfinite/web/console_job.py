"""The console's page of one job: what is read for it in one transaction, and how it is told."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cloudfinite.domain.delivery import Attempt, Delivery, DeliveryFilter, DeliveryState, Target
from cloudfinite.domain.job import Job, JobState
from cloudfinite.domain.queue import Queue
from cloudfinite.errors import JobNotFound
from cloudfinite.operations.image_ocr import Detection, TextLine
from cloudfinite.ports import Transaction
from cloudfinite.web.drawing import Span
from cloudfinite.wire import shapes
from cloudfinite.wire.nodes import Node, pretty_xml, to_json, tree
from cloudfinite.wire.operation import Operation

_MAX_SHOWN_BYTES = 256 * 1024  # Of a body on a page; the whole of it can be downloaded.
_MAX_SHOWN_ANSWER = 4_096  # Of a receiver's answer.
_TAG = re.compile(r"(<[^>]*>)")


@dataclass(frozen=True, slots=True)
class DeliveryFacts:
    """A delivery with its body, its attempts and the target it goes to (None until it is admitted)."""

    delivery: Delivery
    attempts: Sequence[Attempt]
    target: Target | None


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job with all that belongs to it, as of `now`."""

    job: Job
    queue: Queue | None
    deliveries: Sequence[DeliveryFacts]
    now: datetime


def read_job_facts(tx: Transaction, job_id: str) -> JobFacts:
    """A whole transaction. Raises JobNotFound."""
    found = tx.jobs.get([job_id])
    if not found:
        raise JobNotFound(f"the job {job_id} does not exist; it may have been older than jobs are kept")
    listed = [delivery for delivery, _ in tx.deliveries.select(DeliveryFilter(job_id=job_id))]
    # A list leaves the bodies out.
    deliveries = filter(None, (tx.deliveries.get(delivery.id) for delivery in listed))
    return JobFacts(
        found[0],
        tx.queues.get(found[0].queue_id),
        [DeliveryFacts(one, tx.deliveries.attempts(one.id), tx.deliveries.target(one.url)) for one in deliveries],
        tx.now,
    )


# --- its life ------------------------------------------------------------------------------------------------------


def spans(facts: JobFacts) -> list[Span]:
    """Waiting, running and telling the receiver, as far as the job has come."""
    job = facts.job
    found = []
    ran_until = job.ended_at or facts.now
    if job.started_at:
        found.append(Span("waited", "waited", job.started_at - job.created_at))
        found.append(Span("ran", "ran" if job.ended_at else "runs", ran_until - job.started_at))
    else:
        found.append(Span("waited", "waited" if job.ended_at else "waits", ran_until - job.created_at))
    told = told_at(facts)
    if job.ended_at and told:
        found.append(Span("told", "callback took", told - job.ended_at))
    return found


def told_at(facts: JobFacts) -> datetime | None:
    """When the last of its deliveries arrived, None unless one has."""
    times = [
        item.delivery.ended_at
        for item in facts.deliveries
        if item.delivery.state is DeliveryState.DELIVERED and item.delivery.ended_at
    ]
    return max(times, default=None)


def can_cancel(job: Job) -> bool:
    return job.state in (JobState.SUBMITTED, JobState.PAUSE)


# --- what it found -------------------------------------------------------------------------------------------------


def text_lines(job: Job, operation: Operation) -> tuple[TextLine, ...] | None:
    """The recognised lines, None for a job that recognises none."""
    if job.result is None or operation.result is not Detection:
        return None
    value: Detection = operation.result_value(job.result)
    return value.lines


def shows_picture(job: Job) -> bool:
    """Whether its input is worth drawing: what recognition reads, from a bucket.

    An input given by URL is not fetched again: looking at a page must send nothing out.
    """
    return job.tag == "ImageOCR" and bool(job.input.object_key)


def picture_page(job: Job) -> int:
    """Which page of a PDF the job read."""
    number = job.params.get("pdf_page_number")
    return number if isinstance(number, int) and number > 0 else 1


# --- bodies --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Body:
    """A message as it is sent, and laid out for reading. Both may be cut, and then say so."""

    form: str
    raw: str
    pretty: str
    size_bytes: int
    is_cut: bool


def show_body(data: bytes, content_type: str, limit_bytes: int = _MAX_SHOWN_BYTES) -> Body:
    """Make stored or received bytes readable; what is not the form it claims to be is shown as it is."""
    is_cut = len(data) > limit_bytes
    text = data[:limit_bytes].decode("utf-8", "replace")
    form = _form(text, content_type.lower())
    pretty = text
    if not is_cut and form == "JSON":
        pretty = pretty_json(text)
    elif form == "XML":
        pretty = indent_xml(text)
    return Body(form, text, pretty, len(data), is_cut)


def _form(text: str, content_type: str) -> str:
    """What the sender says it is, else what it starts like."""
    for name in ("json", "xml"):
        if name in content_type:
            return name.upper()
    return {"<": "XML", "{": "JSON", "[": "JSON"}.get(text.lstrip()[:1], "text")


def pretty_json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def indent_xml(text: str) -> str:
    """Put each element on a line of its own, by its tags alone: what cannot be parsed is laid out as well.

    Nothing is parsed because a receiver's bytes, or a hostile client's, are shown by this too.
    """
    lines: list[str] = []
    depth = 0
    is_leaf_open = False
    for token in _TAG.split(text):
        if not token.strip():
            continue
        if token.startswith("</"):
            depth = max(depth - 1, 0)
            if is_leaf_open:
                lines[-1] += token
            else:
                lines.append("  " * depth + token)
            is_leaf_open = False
        elif token.startswith("<"):
            lines.append("  " * min(depth, 40) + token)
            is_leaf_open = not token.endswith("/>") and not token.startswith(("<?", "<!"))
            depth += is_leaf_open
        elif is_leaf_open:
            lines[-1] += token
        else:
            lines.append("  " * min(depth, 40) + token.strip())
    return "\n".join(lines)


def show_answer(attempt: Attempt) -> str:
    """A receiver's answer, head and first bytes of the body, as text."""
    body = attempt.response_body[:_MAX_SHOWN_ANSWER].decode("utf-8", "replace")
    return "\n\n".join(part for part in (attempt.response_head.strip()[:_MAX_SHOWN_ANSWER], body.strip()) if part)


def api_answer(job: Job, operation: Operation) -> Body:
    """What `GET /jobs/<id>` answers."""
    return show_node(shapes.jobs_answer([shapes.job_detail(job, operation)]))


def show_node(root: Node) -> Body:
    """An answer of the API as XML to read and as JSON."""
    xml = pretty_xml(root)
    data = to_json(root).decode("utf-8", "replace")
    size_bytes = len(xml.encode("utf-8", "replace"))
    is_cut = max(size_bytes, len(data)) > _MAX_SHOWN_BYTES
    return Body("XML", xml[:_MAX_SHOWN_BYTES], pretty_json(data)[:_MAX_SHOWN_BYTES], size_bytes, is_cut)


def parameter_rows(job: Job, operation: Operation) -> list[tuple[str, Any]]:
    """(wire name, value) of the job's parameters that are set."""
    root = tree(operation.params_node, operation.params_value(job.params))
    children = root.value if isinstance(root.value, tuple) else ()
    return [(child.name, _plain(child.value)) for child in children]


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if not isinstance(value, tuple) else "…"
