"""What the services need of the outside: one Protocol per subject, over one unit of work.

`Store.run` takes a whole transaction as a plain function of a `Transaction` and its arguments. Such a function does no
I/O of its own, may be run again from the start (PostgreSQL: after a serialisation failure or a lost connection before
COMMIT), and either commits as a whole or raises and leaves nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar

from cloudfinite.domain.access import AccessKey
from cloudfinite.domain.batch import Batch, BatchFilter
from cloudfinite.domain.delivery import (
    Admission,
    Attempt,
    AttemptResult,
    Delivery,
    DeliveryFilter,
    Due,
    SigningSecret,
    Target,
    TargetLease,
)
from cloudfinite.domain.events import ObjectEvent
from cloudfinite.domain.execution import Execution, ExecutionFilter, ExecutionState, StepRun
from cloudfinite.domain.job import Job, JobFilter, JobState, Lease, Outcome
from cloudfinite.domain.objects import (
    Bucket,
    ListQuery,
    ObjectPage,
    Part,
    Piece,
    StoredObject,
    Upload,
    UploadPage,
)
from cloudfinite.domain.ocr import OcrRequest, PictureLimits, Reading
from cloudfinite.domain.pictures import PictureFacts, PictureRule
from cloudfinite.domain.queue import Queue, QueueLoad
from cloudfinite.domain.stats import Counts, StatKey
from cloudfinite.domain.template import Template
from cloudfinite.domain.workflow import Workflow, WorkflowFilter
from cloudfinite.wire.operation import OutputFile

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

    def renew(self, owner: str, lease: timedelta, leases: Sequence[Lease]) -> set[str]:
        """Extend these leases of `owner`; returns the ids of the jobs that are still its own under them."""

    def release(self, leases: Sequence[Lease]) -> list[Job]:
        """Give jobs back unrun, without counting an attempt (drain); returns those whose lease still held."""

    def expired(self, limit: int) -> list[Lease]:
        """Running jobs whose lease has ended."""

    def running(self, limit: int) -> list[Lease]:
        """Running jobs, whoever leases them."""

    def cancel(self, job_id: str) -> bool:
        """End a waiting job as Cancel; False when it is not waiting."""

    def cancel_running(self, job_id: str) -> bool:
        """End a running job as Cancel, so that whoever runs it can commit nothing; False when it is not running."""

    def purge(self, before: datetime, limit: int) -> int:
        """Remove jobs that ended before then, oldest first; returns how many."""


class QueueRows(Protocol):
    def ensure(self, item: Queue) -> Queue:
        """Insert unless the bucket has a queue of this service; returns the one that is there."""

    def get(self, queue_id: str) -> Queue | None: ...
    def of_bucket(self, bucket: str, service: str | None = None) -> list[Queue]: ...
    def replace(self, item: Queue) -> None: ...
    def waiting(self, queue_id: str) -> int:
        """Jobs waiting in it, from a counter."""

    def select(self, bucket: str, after: tuple[str, str], limit: int) -> list[Queue]:
        """A page in the order of (bucket, service), those behind `after`; "" is all buckets."""

    def loads(self, queue_ids: Sequence[str]) -> Mapping[str, QueueLoad]:
        """How many jobs wait and run in each of them that exists."""


class TemplateRows(Protocol):
    def insert(self, item: Template) -> None:
        """Raises TemplateNameDuplicate."""

    def replace(self, item: Template) -> None:
        """Raises TemplateNameDuplicate."""

    def get(self, bucket: str, template_id: str) -> Template | None: ...
    def exists(self, template_id: str) -> bool:
        """Whether any bucket has it."""

    def select(
        self, bucket: str, *, tag: str = "", name_prefix: str = "", ids: Sequence[str] = ()
    ) -> list[Template]: ...

    def delete(self, bucket: str, template_id: str) -> bool: ...


class BucketRows(Protocol):
    def ensure(self, bucket: Bucket) -> bool:
        """Insert unless a bucket has the name; says whether it was inserted."""

    def get(self, name: str) -> Bucket | None: ...
    def hold(self, name: str) -> Bucket | None:
        """As `get`, and the bucket stays until the transaction ends."""

    def lock(self, name: str) -> Bucket | None:
        """As `get`, and nobody else holds or changes the bucket until the transaction ends."""

    def replace(self, bucket: Bucket) -> None:
        """Change what its owner may set: switches, CORS rules."""

    def delete(self, name: str) -> bool:
        """False when there is none; raises BucketNotEmpty. Its uploads in progress end with it."""

    def all(self) -> list[Bucket]: ...


class ObjectRows(Protocol):
    """Replacing and deleting turns files into garbage, in the same transaction."""

    @property
    def uploads(self) -> UploadRows: ...
    def put(self, item: StoredObject) -> None:
        """Insert or replace."""

    def get(self, bucket: str, key: str) -> StoredObject | None: ...
    def hold(self, bucket: str, key: str) -> StoredObject | None:
        """As `get`, and nobody else changes the object until the transaction ends."""

    def extend(self, item: StoredObject) -> None:
        """Replace the row of a multipart object that got more parts; its pieces stay."""

    def pieces(self, item: StoredObject) -> tuple[Piece, ...]:
        """The files that hold its bytes, in order."""

    def select(self, bucket: str, wanted: ListQuery) -> ObjectPage: ...
    def delete(self, bucket: str, key: str) -> bool: ...
    def file_ids(self, candidates: Sequence[str]) -> set[str]:
        """Those of the candidates that are bytes of an object or a part, or garbage that still waits."""

    def garbage(self, before: datetime, limit: int) -> list[str]:
        """Files that nothing has named since that instant."""

    def forget_garbage(self, file_ids: Sequence[str]) -> None: ...


class UploadRows(Protocol):
    def create(self, upload: Upload) -> None: ...
    def get(self, upload_id: str) -> Upload | None: ...
    def hold(self, upload_id: str) -> Upload | None:
        """As `get`, and nobody else changes the upload or its parts until the transaction ends."""

    def select(self, bucket: str, wanted: ListQuery) -> UploadPage: ...
    def put_part(self, part: Part) -> None:
        """Insert or replace."""

    def parts(self, upload_id: str, after: int = 0, limit: int | None = None) -> list[Part]:
        """In the order of their numbers, those above `after`."""

    def last_number(self, upload_id: str) -> int:
        """The highest number of its parts, 0 without any."""

    def complete(self, upload_id: str, numbers: Sequence[int]) -> None:
        """End the upload and keep these of its parts as the pieces of an object."""

    def abort(self, upload_id: str) -> None: ...


class EventRows(Protocol):
    """Creations of objects, each until somebody has dealt with it; written in the transaction that creates."""

    def insert(self, event: ObjectEvent) -> bool:
        """False when an event of this id is there already: nothing changes."""

    def take(self, limit: int) -> list[ObjectEvent]:
        """The oldest undone ones; nobody else takes them before the transaction ends."""

    def finish(self, ids: Sequence[str]) -> None:
        """Mark them as dealt with, in the transaction that does."""

    def purge(self, before: datetime, limit: int) -> int:
        """Remove those that were done before then, oldest first; returns how many."""


class WorkflowRows(Protocol):
    def insert(self, item: Workflow) -> None: ...
    def get(self, bucket: str, workflow_id: str) -> Workflow | None: ...
    def lock(self, bucket: str, workflow_id: str) -> Workflow | None:
        """As `get`, and nobody else changes the workflow until the transaction ends."""

    def select(self, bucket: str, wanted: WorkflowFilter, offset: int, limit: int) -> tuple[int, list[Workflow]]:
        """(how many match, one page of them, newest first); "" is all buckets."""

    def active(self, bucket: str) -> list[Workflow]:
        """Those that the arrival of objects starts, oldest first."""

    def replace(self, item: Workflow) -> None: ...
    def delete(self, bucket: str, workflow_id: str) -> bool: ...


class ExecutionRows(Protocol):
    """Runs of workflows, and those of their steps that have a job."""

    def insert(self, item: Execution) -> bool:
        """False when the run's event has started a run of this workflow already: nothing changes."""

    def get(self, run_id: str) -> Execution | None: ...
    def lock(self, run_ids: Sequence[str]) -> list[Execution]:
        """Those that exist, without topology; nobody else changes them or their steps until the transaction ends."""

    def select(self, bucket: str, wanted: ExecutionFilter) -> list[tuple[Execution, int]]:
        """One page, each with its position key; `wanted.after` is the last pair's (created_at, key). "": any bucket."""

    def end(self, run_id: str, state: ExecutionState) -> None:
        """Give a locked run its final state, now."""

    def steps(self, run_id: str) -> list[StepRun]:
        """Those that have a job, in no order."""

    def start_steps(self, run_id: str, steps: Sequence[StepRun]) -> None:
        """Add steps that have just got their jobs."""

    def end_step(self, run_id: str, step: str, state: JobState) -> None: ...
    def purge(self, before: datetime, limit: int) -> int:
        """Remove runs that ended before then, with their steps, oldest first; returns how many runs."""


class DeliveryRows(Protocol):
    """Deliveries and their targets. Waits are told as spans from the database's now, so that no clocks are compared."""

    def insert(self, *deliveries: Delivery) -> None:
        """Add new ones; they touch no row that others share."""

    def get(self, delivery_id: str) -> Delivery | None: ...
    def select(self, wanted: DeliveryFilter) -> list[tuple[Delivery, int]]:
        """One page, newest first, each with its key."""

    def attempts(self, delivery_id: str) -> list[Attempt]:
        """In the order they were made."""

    # --- for the deliverer
    def admit(
        self,
        owner: str,
        lease: timedelta,
        room: int,
        limit: int,
        ids: Sequence[str] = (),
        leave: Sequence[str] = (),
        keep: Collection[str] = (),
    ) -> Admission:
        """Number new deliveries – these, or the oldest – and lease up to `room` of their targets.

        Passed over are those whose target somebody else holds: the holder admits them. `leave` are the URLs of targets
        to let go of before; each is leased again when its next delivery is due. Those to `keep` are handed out to the
        owner with their numbers, as `take_due` does it, where it holds their target.
        """

    def lease_due(self, owner: str, lease: timedelta, limit: int) -> list[TargetLease]:
        """Lease targets that have something due, and that nobody holds any more."""

    def take_due(self, url: str, owner: str, limit: int, exclude: Sequence[str]) -> Due:
        """Hand out up to `limit` admitted due deliveries of a target that `owner` holds.

        What is handed out may have been sent until its attempt is recorded. When another owner takes it before, it gets
        an attempt of unknown outcome, which costs no step of its schedule.
        """

    def put_back(self, owner: str, ids: Sequence[str]) -> None:
        """Note that `owner` has not sent these, and will not before it takes them again."""

    def record(self, results: Sequence[AttemptResult], leases: Sequence[TargetLease], as_of: datetime) -> set[str]:
        """Store attempts and what follows from them, and what their holders learnt of the targets.

        as_of is the caller's now, by which the leases' `open_until` is told.

        Returns the URLs whose lease is no longer held; their targets stay as they are, the attempts count all the same.
        """

    def renew(self, owner: str, lease: timedelta) -> Mapping[str, Target]:
        """Extend all leases of `owner`; returns the targets that are still its own by URL."""

    def release_all(self, owner: str | None = None) -> None:
        """Let go of all targets of `owner`; None: of everybody's, when all owners are known to be dead."""

    def next_wake(self) -> timedelta | None:
        """How long until a target wants attention; None: none will."""

    def late(self, owner: str, silence: timedelta, lease: timedelta) -> timedelta:
        """For how long something due has been nobody's.

        Whoever has not renewed its `lease` for `silence` counts as nobody since it last did, unless it is `owner`.
        """

    def backlog(self) -> tuple[int, datetime | None]:
        """How many deliveries wait, and when the oldest of them was created."""

    # --- for operators
    def target(self, url: str) -> Target | None: ...
    def targets(self, after: str = "", limit: int = 100) -> list[Target]:
        """A page of targets in the order of their URLs."""

    def pause(self, url: str, reason: str) -> Target | None:
        """Send nothing to the target until it is resumed; what waits keeps waiting."""

    def resume(self, url: str) -> Target | None:
        """Send again, with all that waits due now."""

    def lock_secrets(self, url: str) -> tuple[SigningSecret, ...]:
        """The target's own signing secrets, which nobody else changes before the end of the transaction."""

    def set_secrets(self, url: str, secrets: Sequence[SigningSecret]) -> None:
        """The target's own signing secrets, newest first; makes the target when it is new."""

    def all_bucket_secrets(self) -> Mapping[str, tuple[SigningSecret, ...]]:
        """The signing secrets of all buckets that have, or had, some of their own."""

    def lock_bucket_secrets(self, bucket: str) -> tuple[SigningSecret, ...]: ...
    def set_bucket_secrets(self, bucket: str, secrets: Sequence[SigningSecret]) -> None: ...

    def set_rate(self, url: str, rate_per_s: float) -> None:
        """The target's own limit of POSTs per second, 0 for none; makes the target when it is new."""

    def cancel(self, url: str, limit: int) -> int:
        """Cancel up to `limit` of a target's waiting deliveries, the oldest; remove the target with the last of them.

        Returns how many; fewer than `limit` when the target is gone.
        """

    def replay(self, ids: Sequence[str]) -> set[str]:
        """Make deliveries due now, with a fresh schedule when they had ended; returns the URLs they go to."""

    def ended(self, url: str, since: datetime, limit: int) -> list[str]:
        """Ids of the target's oldest failed and refused deliveries created since then."""

    def purge(self, before: datetime, limit: int) -> int:
        """Remove ended deliveries created before then, with their attempts; returns how many."""


class StatRows(Protocol):
    def add(self, counts: Mapping[StatKey, Counts]) -> None:
        """Add to the counters, making those that are new."""

    def select(self, start: datetime, end: datetime, bucket: str, limit: int) -> list[tuple[StatKey, Counts]]:
        """Minutes from `start` until before `end`, in order; "" is all buckets."""

    def purge(self, before: datetime) -> int: ...


class BatchRows(Protocol):
    def insert(self, batch: Batch) -> None: ...
    def get(self, batch_id: str) -> Batch | None: ...
    def lock(self, batch_id: str) -> Batch | None:
        """As `get`, and nobody else changes it until the transaction ends."""

    def replace(self, batch: Batch) -> None: ...
    def delete(self, batch_id: str) -> None: ...
    def select(self, bucket: str, wanted: BatchFilter) -> list[tuple[Batch, int]]:
        """One page, each with its position key; `wanted.after` is the last pair's (created_at, key)."""

    def lease(self, owner: str, lease: timedelta, limit: int) -> list[Batch]:
        """The oldest that have not ended and that nobody else leases; they are the owner's from now on."""

    def release(self, owner: str | None = None) -> None:
        """Let go of all of `owner`; None: of everybody's, when all owners are known to be dead."""

    def purge(self, before: datetime, limit: int) -> int:
        """Remove those that ended before then, oldest first; returns how many."""


class KeyRows(Protocol):
    """Access keys; of their secrets it sees sealed bytes alone."""

    def put(self, key: AccessKey, sealed_secret: bytes) -> None:
        """Insert, or replace all but the creation."""

    def get(self, secret_id: str) -> AccessKey | None: ...
    def all(self) -> list[tuple[AccessKey, bytes]]:
        """Oldest first."""

    def replace(self, key: AccessKey) -> None:
        """Change what it may do; the secret stays."""

    def remove(self, secret_id: str) -> bool:
        """False when there is none."""


class Transaction(Protocol):
    """One unit of work. `now` is the database's clock, read once per transaction."""

    @property
    def now(self) -> datetime: ...
    @property
    def jobs(self) -> JobRows: ...
    @property
    def queues(self) -> QueueRows: ...
    @property
    def templates(self) -> TemplateRows: ...
    @property
    def buckets(self) -> BucketRows: ...
    @property
    def objects(self) -> ObjectRows: ...
    @property
    def events(self) -> EventRows: ...
    @property
    def workflows(self) -> WorkflowRows: ...
    @property
    def batches(self) -> BatchRows: ...
    @property
    def executions(self) -> ExecutionRows: ...
    @property
    def deliveries(self) -> DeliveryRows: ...
    @property
    def keys(self) -> KeyRows: ...
    @property
    def stats(self) -> StatRows: ...

    def try_lock(self, name: str) -> bool:
        """Whether this transaction alone, of all processes, holds the lock `name`, until its end."""

    def keep_mark(self, name: str, value: str) -> str:
        """The value that the first process on this database kept under `name`."""


class Store(Protocol):
    async def run(self, work: Callable[Concatenate[Transaction, P], R], /, *arguments: P.args, **named: P.kwargs) -> R:
        """Run `work` as one transaction; returns when it is durable."""

    async def read(self, work: Callable[Concatenate[Transaction, P], R], /, *arguments: P.args, **named: P.kwargs) -> R:
        """Run `work` on a consistent snapshot that it does not change."""

    async def close(self) -> None: ...


class Topic(StrEnum):
    """What there is to look at."""

    JOBS = "jobs"
    DELIVERIES = "deliveries"
    EVENTS = "events"
    BATCHES = "batches"


class Wakeups(Protocol):
    """Tells those who wait that there is work, in this process and in the others on the same database."""

    def listen(self, topic: Topic, wake: Callable[[], None]) -> None: ...
    def send(self, topic: Topic) -> None:
        """Wake who listens here, and tell the other processes."""

    def tell_others(self, topic: Topic) -> None:
        """Wake who listens in the other processes."""

    async def start(self) -> None: ...
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
    output: OutputFile | None = None
    """The file to write, for an operation that produces an object."""


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


# --- recognition ---------------------------------------------------------------------------------------------------


class OcrEngine(Protocol):
    """Reads the text of a picture or of a PDF page. The only seam that a second engine needs."""

    def warm_up(self) -> None:
        """Read something known, so that the first job is not the slow one. Raises EngineFailed when it reads wrong."""

    def read(self, path: Path, request: OcrRequest) -> Reading:
        """Raises UnreadableInput (not a file it can decode, over a limit) or UnsupportedOption (a language)."""


class PictureEditor(Protocol):
    """Changes pictures."""

    def edit(self, source: Path, target: Path, rule: PictureRule) -> tuple[PictureFacts, PictureFacts]:
        """Write `source`, changed by the rule, to `target`; what is known of both.

        Raises UnreadableInput (not a picture it can decode, over a limit) or UnsupportedOption (a step that does not
        fit the picture).
        """


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """How a child process builds its OCR engine: JSON data, so that it can cross the process border.

    `name` is a built-in one (`adapters/ocr.py` lists them) or `package.module:factory` of anybody's own, called as
    `factory(limits, **options)`.
    """

    name: str = "rapidocr"
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: PictureLimits = field(default_factory=PictureLimits)


# --- objects -------------------------------------------------------------------------------------------------------


class Objects(Protocol):
    """The bytes of objects, in files named by id that never change; keys and headers are in the database."""

    async def write(
        self,
        chunks: AsyncIterator[bytes],
        *,
        limit_bytes: int,
        size_bytes: int | None = None,
        md5: bytes | None = None,
    ) -> StoredBytes:
        """Store a stream durably under a new id; `size_bytes` and `md5` are what the client announced.

        Raises EntityTooLarge, IncompleteBody, BadDigest, InsufficientStorage; leaves nothing then.
        """

    async def copy(self, file_id: str) -> str:
        """The same bytes durably under a new id."""

    async def reader(self, pieces: Sequence[Piece], start: int, size_bytes: int) -> BytesReader:
        """Read `size_bytes` from `start` of the pieces taken together; what is opened stays readable when deleted."""

    def readable(self, pieces: Sequence[Piece]) -> AbstractAsyncContextManager[Path]:
        """The pieces as one file that can be read by path inside the block."""

    async def delete(self, file_ids: Sequence[str]) -> list[str]:
        """Remove the files nobody reads in this process; returns their ids. One that is not there counts as removed."""

    def stale(self, age_s: float) -> AsyncIterator[list[str]]:
        """The ids of files whose last byte is at least `age_s` old; unfinished ones of that age are removed."""


class Storage(Protocol):
    """A bucket's objects where another system keeps them, under the keys that they have on the wire.

    Each call may raise StorageUnavailable or StorageRefused; NoSuchBucket where the other system has lost the bucket.
    What is given back is the object's state there: ETag, time and headers are that system's.
    """

    @property
    def is_read_only(self) -> bool:
        """Then `put`, `copy` and `delete` are not called."""

    @property
    def tells_creations(self) -> bool:
        """Whether it tells of each new object by itself; else its events are those that we write."""

    async def check(self) -> None:
        """Raises SetupError when the bucket is not there or may not be read; a storage that is away is only logged."""

    async def find(self, key: str) -> StoredObject:
        """Raises NoSuchKey."""

    async def select(self, wanted: ListQuery) -> ObjectPage: ...
    async def reader(self, item: StoredObject, start: int, size_bytes: int) -> BytesReader:
        """Read the state of the object `find` gave it. Raises NoSuchKey, StorageUnavailable when it has changed."""

    async def put(self, item: StoredObject, source: BytesReader) -> StoredObject:
        """Store the bytes with size, CRC-64 and headers of `item`; an older object stays until the new one is whole."""

    async def copy(self, source: StoredObject, target: StoredObject) -> StoredObject:
        """Copy inside this storage, with the headers of `target`. Raises NoSuchKey; StorageUnavailable when changed."""

    async def delete(self, key: str) -> None:
        """A key that is not there is fine."""

    async def close(self) -> None: ...


class BytesReader(Protocol):
    async def read(self) -> bytes:
        """The next chunk, b"" behind the last."""

    async def close(self) -> None:
        """Calling twice is harmless."""


@dataclass(frozen=True, slots=True)
class StoredBytes:
    """What `Objects.write` measured while writing; digests as bytes (MD5) and as a number (CRC-64/XZ)."""

    file_id: str
    size_bytes: int
    md5: bytes
    crc64: int


# --- out -----------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """A receiver's answer: the head and at most the first bytes of the body, as received.

    body_error says why the body ended early (`reset`, `timeout`, `protocol`), "" when it did not. dns_s and connect_s
    are 0 on a connection that was open already.
    """

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes
    is_cut: bool
    total_s: float
    dns_s: float = 0.0
    connect_s: float = 0.0
    body_error: str = ""


class CallbackSender(Protocol):
    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """POST once, never following redirects. Raises DeliveryFailed with the attempt's class."""


class Downloader(Protocol):
    async def fetch(self, url: str, path: Path, limit_bytes: int) -> int:
        """GET a URL input into `path`; returns its size. Raises JobFailed (InputDownloadFailed, InputDenied…)."""
