"""The console's list of jobs: what the URL asks for, and what a row shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from cloudfinite.domain.job import Job, JobFilter, JobState
from cloudfinite.errors import InvalidArgument
from cloudfinite.service.jobs import JobPage
from cloudfinite.web.drawing import duration
from cloudfinite.web.request import Query
from cloudfinite.wire.requests import read_token, write_token

PAGE_SIZE = 50
FIRST_WORDS = 120  # characters

SINCE: Mapping[str, timedelta] = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
}
_NAMES = ("bucket", "state", "tag", "object", "since", "from", "until", "after")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the page's URL asks for; `values` are its parameters as given, "" where one is not."""

    bucket: str
    filter: JobFilter
    values: Mapping[str, str]

    @property
    def is_narrowed(self) -> bool:
        """Whether the list leaves anything out."""
        return any(self.values.values())

    @property
    def is_first_page(self) -> bool:
        return not self.values["after"]

    def url(self, **changes: str) -> str:
        """This list with other parameters; any change but `after` starts at its first page."""
        values = {**self.values, **changes}
        if "after" not in changes:
            values["after"] = ""
        query = urlencode({name: value for name, value in values.items() if value})
        return f"/-/console/{'?' + query if query else ''}"


def read_wanted(query: Query, now: datetime) -> Wanted:
    """Read the list's URL. Raises InvalidArgument naming the parameter and what would be right."""
    values = {name: query.get(name) for name in _NAMES}
    since, state = values["since"], values["state"]
    if since and since not in SINCE:
        raise InvalidArgument(f"since is {since!r}; it must be one of {', '.join(SINCE)}")
    if state and state not in tuple(JobState):
        raise InvalidArgument(f"state is {state!r}; it must be one of {', '.join(JobState)}")
    return Wanted(
        bucket=values["bucket"],
        filter=JobFilter(
            tag=values["tag"],
            states=frozenset({JobState(state)}) if state else frozenset(),
            object_key=values["object"],
            created_from=now - SINCE[since] if since else _read_time(values, "from"),
            created_until=_read_time(values, "until"),
            after=read_token(values["after"]),
            size=PAGE_SIZE,
        ),
        values=values,
    )


def _read_time(values: Mapping[str, str], name: str) -> datetime | None:
    text = values[name]
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise InvalidArgument(f"{name} is {text!r}; it must be a time like 2026-01-05T14:00 (UTC)") from exc
    return at if at.tzinfo else at.replace(tzinfo=UTC)


# --- rows ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One job of the list. `running_since` is set while it runs, so that the browser counts on."""

    job: Job
    name: str
    words: str
    waited: str
    ran: str
    running_since: datetime | None

    @property
    def url(self) -> str:
        return f"/-/console/jobs/{self.job.id}"


def make_row(job: Job) -> Row:
    return Row(
        job=job,
        name=job.input.object_key or job.input.url,
        words=first_words(job),
        waited=duration(job.started_at - job.created_at) if job.started_at else "",
        ran=duration(job.ended_at - job.started_at) if job.started_at and job.ended_at else "",
        running_since=job.started_at if job.state is JobState.RUNNING else None,
    )


def first_words(job: Job) -> str:
    """What the job found, in a few words: its first lines, else its first text; of a failed one why."""
    if job.state is JobState.FAILED:
        return f"{job.code}: {job.message}"[:FIRST_WORDS]
    if job.result is None:
        return ""
    lines = job.result.get("lines")
    if isinstance(lines, Sequence) and not isinstance(lines, str):
        return _joined(lines) or "no text found"
    return next((value[:FIRST_WORDS] for value in job.result.values() if isinstance(value, str) and value), "")


def _joined(lines: Sequence[Any]) -> str:
    words: list[str] = []
    length = 0
    for line in lines:
        words.append(str(line["text"]))
        length += len(words[-1]) + 3
        if length >= FIRST_WORDS:
            break
    text = " / ".join(words)
    return text if len(text) <= FIRST_WORDS else text[: FIRST_WORDS - 1] + "…"


def next_url(wanted: Wanted, page: JobPage) -> str:
    """Where the following page is, "" on the last."""
    if page.next_position is None:
        return ""
    last, seq = page.next_position
    return wanted.url(after=write_token(last.created_at, seq))


# --- counters ------------------------------------------------------------------------------------------------------

_COUNT_SHARE = 20  # Counting walks the index over all jobs: it may take a twentieth of the time at most.
_SHORTEST_S = 0.5


class Counters:
    """Counts per state, counted anew only as often as counting is cheap."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._kept: dict[str, tuple[float, Mapping[JobState, int]]] = {}

    def fresh(self, bucket: str) -> Mapping[JobState, int] | None:
        """The counts, when they need not be counted again yet."""
        until, counts = self._kept.get(bucket, (0.0, {}))
        return counts if self._monotonic() < until else None

    def keep(self, bucket: str, counts: Mapping[JobState, int], started: float) -> None:
        """Remember counts; `started` is when counting began, on the same clock."""
        now = self._monotonic()
        if len(self._kept) > 100:
            self._kept.clear()
        self._kept[bucket] = (now + max(_SHORTEST_S, _COUNT_SHARE * (now - started)), counts)
