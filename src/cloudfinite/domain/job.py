"""A job: one run of an operation on one input, its states and what may follow what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from cloudfinite.domain.objects import StoredObject


class JobState(StrEnum):
    """The wire's values. Pause is never stored: it is how a Submitted job of a paused queue is shown."""

    SUBMITTED = "Submitted"
    RUNNING = "Running"
    SUCCESS = "Success"
    FAILED = "Failed"
    PAUSE = "Pause"
    CANCEL = "Cancel"

    @property
    def is_final(self) -> bool:
        return not TRANSITIONS[self]


TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    JobState.SUBMITTED: frozenset({JobState.RUNNING, JobState.CANCEL, JobState.PAUSE}),
    JobState.PAUSE: frozenset({JobState.SUBMITTED, JobState.CANCEL}),
    # Back to Submitted when the worker died or drains; to Failed also when it died too often.
    JobState.RUNNING: frozenset({JobState.SUCCESS, JobState.FAILED, JobState.SUBMITTED, JobState.CANCEL}),
    JobState.SUCCESS: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCEL: frozenset(),
}


def check_transition(old: JobState, new: JobState) -> None:
    """Raise ValueError unless a job may go from `old` to `new`: a change outside the table is a bug."""
    if new not in TRANSITIONS[old]:
        raise ValueError(f"a job cannot go from {old} to {new}")


class CallbackFormat(StrEnum):
    XML = "XML"
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class CallbackChoice:
    """What a job's own CallBack nodes said; None where the node was absent. `url` is "no" to send nothing."""

    url: str | None = None
    format: CallbackFormat | None = None


@dataclass(frozen=True, slots=True)
class JobInput:
    """Where the bytes come from: an object of the job's bucket, or a URL."""

    object_key: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class JobOutput:
    """Where the object goes that an operation writes. `key` may hold variables until there is a job."""

    bucket: str
    region: str
    key: str


_VARIABLE = re.compile(r"\$\{(\w+)\}", re.ASCII)


def expand_key(
    key: str, input_key: str, *, job_id: str, extension: str = "", run_id: str = "", batch_id: str = ""
) -> str:
    """An output's key with its variables replaced, whatever their letter case; unknown ones stay as they are.

    `${InputPath}` and `${InputName}` are the input's folder and its name without extension; `${Ext}` is `extension`,
    else the input's. Wire: "Create workflow", Output.Object (`${Number}` counts files, of which there is one); "Trigger
    job (independent node)", `${InventoryTriggerJobId}`.
    """
    folder, _, name = input_key.rpartition("/")
    stem, dot, own_extension = name.rpartition(".")
    values = {
        "inputpath": folder,
        "inputname": stem if dot else name,
        "inputnameandext": name,
        "ext": extension or (own_extension if dot else ""),
        "jobid": job_id,
        "runid": run_id,
        "inventorytriggerjobid": batch_id,
        "number": "0",
    }
    return _VARIABLE.sub(lambda match: values.get(match[1].lower(), match[0]), key).removeprefix("/")


@dataclass(frozen=True, slots=True)
class StepOf:
    """Which run of a workflow a job belongs to, and as which of its steps."""

    run_id: str
    step: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job as stored.

    `params` and `result` are the operation's values in their JSON form (see `operations`); `result` is set only in
    state Success, `code` and `message` only in state Failed. `source_etag` is the ETag of the bytes that were read.
    `output` is where an operation that produces an object puts it. `step_of` is set for a step of a workflow's run.
    """

    id: str
    bucket: str
    region: str
    tag: str
    queue_id: str
    input: JobInput
    params: Mapping[str, Any]
    created_at: datetime
    state: JobState = JobState.SUBMITTED
    level: int = 0
    template_id: str = ""
    template_name: str = ""
    user_data: str | None = None
    callback: CallbackChoice = CallbackChoice()
    started_at: datetime | None = None
    ended_at: datetime | None = None
    code: str = ""
    message: str = ""
    result: Mapping[str, Any] | None = None
    attempts: int = 0
    source_etag: str = ""
    output: JobOutput | None = None
    step_of: StepOf | None = None


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a client asked for. Either a template or `params` (in the operation's JSON form) gives the parameters."""

    tag: str
    input: JobInput
    params: Mapping[str, Any] | None = None
    template_id: str = ""
    queue_id: str = ""
    level: int = 0
    user_data: str | None = None
    callback: CallbackChoice = CallbackChoice()
    output: JobOutput | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's claim on one running job: whoever presents another token can commit nothing."""

    job: Job
    token: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run ended: a result, or a code and message. `retryable` puts the job back while attempts are left.

    made: the object that the run wrote; its bytes are stored, and the job's end brings it into being.
    """

    lease: Lease
    result: Mapping[str, Any] | None = None
    code: str = ""
    message: str = ""
    retryable: bool = False
    source_etag: str = ""
    made: StoredObject | None = None


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What `GET /jobs` selects. Empty `states` means all; times are inclusive; `after` is the last page's last job.

    object_prefixes: how the inputs' keys begin; a job with a URL has the key "".
    """

    tag: str = ""
    queue_id: str = ""
    queue_service: str = ""
    states: frozenset[JobState] = frozenset()
    created_from: datetime | None = None
    created_until: datetime | None = None
    object_key: str = ""
    object_prefixes: tuple[str, ...] = ("",)
    newest_first: bool = True
    after: tuple[datetime, int] | None = None
    size: int = 10
