"""Batch jobs: one request that becomes a job, or a workflow's run, for each of many objects.

Wire: Cloud Infinite API documentation, "Trigger job (workflow)", "Trigger job (independent node)", "Query job", "List
jobs" of batch processing (`/inventorytriggerjob`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from cloudfinite.domain.job import JobState


class BatchKind(StrEnum):
    WORKFLOW = "Workflow"
    JOB = "Job"


@dataclass(frozen=True, slots=True)
class BatchInput:
    """Which objects: all below a prefix, one, those of a text file of URLs, or those of an inventory's manifest.

    Three of the four are empty; the prefix may be too, for the whole bucket.
    """

    prefix: str = ""
    object_key: str = ""
    url_file: str = ""
    manifest: str = ""


@dataclass(frozen=True, slots=True)
class TimeInterval:
    """Objects that were stored in it; both ends count, None is no end."""

    start: datetime | None = None
    end: datetime | None = None

    def holds(self, at: datetime) -> bool:
        return (self.start is None or at >= self.start) and (self.end is None or at <= self.end)

    @property
    def is_open(self) -> bool:
        return self.start is None and self.end is None


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """found: objects come to so far. started: jobs or runs made of them. skipped: objects left out.

    An object is left out for its time, its name, or because it is in another bucket.
    """

    found: int = 0
    started: int = 0
    skipped: int = 0

    def plus(self, other: BatchCounts) -> BatchCounts:
        return BatchCounts(self.found + other.found, self.started + other.started, self.skipped + other.skipped)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as stored. It is Success once each object has its job or run, whatever becomes of these.

    operation: the text of the Operation node as the client sent it. workflow_ids: of the kind Workflow. cursor: how far
    it is, written by whoever reads its input and in the transaction that makes the jobs up to there. held: why it
    waits, "" while it goes on.
    """

    id: str
    bucket: str
    name: str
    kind: BatchKind
    input: BatchInput
    operation: str
    created_at: datetime
    interval: TimeInterval = TimeInterval()
    workflow_ids: tuple[str, ...] = ()
    state: JobState = JobState.SUBMITTED
    cursor: str = ""
    counts: BatchCounts = BatchCounts()
    held: str = ""
    code: str = ""
    message: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """What a client asked for."""

    name: str
    kind: BatchKind
    input: BatchInput
    operation: str
    interval: TimeInterval = TimeInterval()
    workflow_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """What a list of batches selects; what is empty does not narrow it. Times are inclusive.

    `after` is the last page's last batch.
    """

    kind: BatchKind | None = None
    states: frozenset[JobState] = frozenset()
    created_from: datetime | None = None
    created_until: datetime | None = None
    workflow_id: str = ""
    batch_id: str = ""
    name: str = ""
    newest_first: bool = True
    after: tuple[datetime, int] | None = None
    size: int = 10
