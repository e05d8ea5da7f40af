"""What the services need of the outside: one Protocol per subject, over one unit of work.

`Store.run` takes a whole transaction as a plain function of a `Transaction` and its arguments. Such a function does no
I/O of its own, may be run again from the start (PostgreSQL: after a serialisation failure or a lost connection before
COMMIT), and either commits as a whole or raises and leaves nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from cloudfinite.domain.delivery import Attempt, Delivery, DeliveryFilter, Target, TargetLease
from cloudfinite.domain.job import Job, JobFilter, JobState, Lease, Outcome
from cloudfinite.domain.objects import Bucket, StoredObject
from cloudfinite.domain.queue import Queue
from cloudfinite.domain.template import Template

P = ParamSpec("P")
R = TypeVar("R")


class Clock(Protocol):
    """The wall clock, aware and in UTC."""

    def __call__(self) -> datetime: ...


# --- the store -----------------------------------------------------------------------------------------------------


class JobRows(Protocol):
    def insert(self, jobs: Sequence[Job]) -> None:
        """Add Submitted jobs and make them claimable."""

    def get(self, ids: Sequence[str]) -> list[Job]:
        """Those that exist, in the order asked for. A waiting job of a paused queue reads as Pause, here and below."""

    def select(self, bucket: str, wanted: JobFilter) -> list[tuple[Job, int]]:
        """One page, each with its position key; `wanted.after` is the last pair's (created_at, key)."""

    def count_by_state(self, bucket: str | None = None) -> Mapping[JobState, int]: ...

    def claim(self, owner: str, limit: int, lease: timedelta, after_queue: str) -> tuple[list[Lease], str]:
        """Take up to `limit` jobs: round the queues with waiting jobs, starting behind `after_queue`, one job a turn.

        A queue that is paused, at its limit, or held by another claimer is passed over. Inside a queue: level 2
        before 1 before 0, then oldest first. Returns the leases and the queue served last.
        """

    def finish(self, outcome: Outcome) -> Job | None:
        """End the job, or put it back (retryable and attempts left); None when the lease was lost: nothing changes."""

    def renew(self, owner: str, tokens: Mapping[str, int], lease: timedelta) -> set[str]:
        """Extend the leases of these job ids; returns the ids that are still ours."""

    def release(self, leases: Sequence[Lease]) -> None:
        """Give jobs back unrun, without counting an attempt (drain)."""

    def expired(self, limit: int) -> list[Lease]:
        """Running jobs whose lease has ended."""

    def running_of(self, owner: str | None, limit: int) -> list[Lease]:
        """Running jobs leased by `owner` (None: by anybody)."""

    def cancel(self, job_id: str) -> Job:
        """End a waiting job as Cancel. Raises ValueError through the transition table when it is not waiting."""


class QueueRows(Protocol):
    def ensure(self, queue: Queue) -> Queue:
        """Insert unless the bucket has a queue of this service; returns the one that is there."""

    def get(self, queue_id: str) -> Queue | None: ...
    def of_bucket(self, bucket: str, service: str | None = None) -> list[Queue]: ...
    def replace(self, queue: Queue) -> None: ...
    def waiting(self, queue_id: str) -> int:
        """Jobs waiting in it, from a counter."""


class TemplateRows(Protocol):
    def insert(self, template: Template) -> None:
        """Raises TemplateNameDuplicate."""

    def replace(self, template: Template) -> None:
        """Raises TemplateNameDuplicate."""

    def get(self, bucket: str, template_id: str) -> Template | None: ...
    def select(self, bucket: str, *, tag: str, name_prefix: str, ids: Sequence[str]) -> list[Template]: ...
    def delete(self, bucket: str, template_id: str) -> bool: ...


class BucketRows(Protocol):
    def ensure(self, bucket: Bucket) -> None: ...
    def get(self, name: str) -> Bucket | None: ...
    def all(self) -> list[Bucket]: ...


class ObjectRows(Protocol):
    def put(self, item: StoredObject) -> StoredObject | None:
        """Insert or replace; returns what was replaced, whose file is then garbage."""

    def get(self, bucket: str, key: str) -> StoredObject | None: ...
    def delete(self, bucket: str, key: str) -> StoredObject | None: ...
    def file_ids(self, candidates: Sequence[str]) -> set[str]:
        """Those of the candidates that an object row names."""


class DeliveryRows(Protocol):
    def insert(self, delivery: Delivery) -> None: ...
    def get(self, delivery_id: str) -> Delivery | None: ...
    def select(self, wanted: DeliveryFilter) -> list[Delivery]: ...
    def attempts(self, delivery_id: str) -> list[Attempt]: ...

    def lease_targets(self, owner: str, limit: int, lease: timedelta) -> list[TargetLease]:
        """Lease up to `limit` targets that have something due and are leased by nobody else."""

    def renew_targets(self, owner: str, urls: Sequence[str], lease: timedelta) -> set[str]: ...
    def release_targets(self, owner: str, urls: Sequence[str]) -> None: ...

    def take_due(self, lease: TargetLease, limit: int, exclude: Sequence[str]) -> list[Delivery]:
        """Due deliveries of a leased target, oldest first; each gets its sequence number when first taken."""

    def next_due(self) -> datetime | None:
        """The earliest time at which any waiting delivery of a running target is due."""

    def record(self, lease: TargetLease, delivery: Delivery, attempt: Attempt, target: Target) -> bool:
        """Store one attempt with the delivery's and the target's new state; False when the lease was lost."""

    def target(self, url: str) -> Target | None: ...
    def targets(self) -> list[Target]: ...
    def replace_target(self, target: Target) -> None: ...
    def replay(self, ids: Sequence[str], at: datetime) -> int:
        """Make ended deliveries due again, same id, same bytes; returns how many."""

    def pending(self) -> tuple[int, datetime | None]:
        """How many wait, and since when the oldest that is due has waited."""


class KeyRows(Protocol):
    def put(self, secret_id: str, sealed_secret: bytes, created_at: datetime) -> None: ...
    def all(self) -> list[tuple[str, bytes]]: ...


class Transaction(Protocol):
    """One unit of work. `now` is the database's clock, read once per transaction."""

    jobs: JobRows
    queues: QueueRows
    templates: TemplateRows
    buckets: BucketRows
    objects: ObjectRows
    deliveries: DeliveryRows
    keys: KeyRows

    @property
    def now(self) -> datetime: ...


class Store(Protocol):
    async def run(self, work: Callable[Concatenate[Transaction, P], R], /, *arguments: P.args, **named: P.kwargs) -> R:
        """Run `work` as one transaction; returns when it is durable."""

    async def read(self, work: Callable[Concatenate[Transaction, P], R], /, *arguments: P.args, **named: P.kwargs) -> R:
        """Run `work` on a consistent snapshot that it does not change."""

    async def close(self) -> None: ...


# --- the child processes -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Task:
    """One operation to run in a child. `source` is the file to read; the rest of the object is told beside it."""

    tag: str
    params: Mapping[str, Any]
    source: Path
    name: str = ""
    size_bytes: int = 0
    etag: str = ""
    last_modified: str = ""
    label: str = ""
    """What the log calls it: a job id, or the request id of a synchronous call."""


class Pool(Protocol):
    """The child processes: one task in flight each."""

    @property
    def size(self) -> int: ...

    @property
    def idle(self) -> int:
        """Children that would take a task at once."""

    async def run(self, task: Task) -> Mapping[str, Any]:
        """Run the task in an idle child, waiting for one; returns the result's JSON data.

        Raises JobFailed: the operation's own, ChildDied when the child dies, OperationTimedOut past the wall limit.
        Cancelling the caller kills the child.
        """

    async def wait_idle(self) -> None:
        """Return as soon as a child is idle."""

    async def close(self) -> None: ...


# --- objects -------------------------------------------------------------------------------------------------------


class Objects(Protocol):
    """The bytes of objects, in files named by id; keys and headers are in the database."""

    async def write(self, chunks: AsyncIterator[bytes], *, limit_bytes: int) -> StoredBytes:
        """Store a stream durably under a new id. Raises EntityTooLarge, InsufficientStorage; leaves nothing then."""

    def path(self, file_id: str) -> Path:
        """Where the bytes can be read by path."""

    async def delete(self, file_id: str) -> None:
        """Remove; a file that is not there is fine."""


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """What `Objects.write` measured while writing; digests as bytes (MD5) and as a number (CRC-64/XZ)."""

    file_id: str
    size_bytes: int
    md5: bytes
    crc64: int


# --- out -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's answer: the head and at most the first bytes of the body, as received."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    is_cut: bool
    connect_s: float
    total_s: float


class CallbackSender(Protocol):
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST once, never following redirects. Raises DeliveryFailed with the attempt's class."""


class Downloader(Protocol):
    async def fetch(self, url: str, path: Path, limit_bytes: int) -> int:
        """GET a URL input into `path`; returns its size. Raises JobFailed (InputDownloadFailed, InputDenied…)."""
