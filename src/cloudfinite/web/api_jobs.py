"""The JSON API's jobs: list, show, submit, cancel, run again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field, ValidationError

from cloudfinite.domain.job import (
    CallbackChoice,
    CallbackFormat,
    Job,
    JobFilter,
    JobInput,
    JobOutput,
    JobRequest,
    JobState,
)
from cloudfinite.errors import InvalidArgument
from cloudfinite.service.job_control import JobControl, Rerun
from cloudfinite.service.jobs import JobService
from cloudfinite.service.objects import check_key
from cloudfinite.web.api_deliveries import DeliveryView, delivery_view
from cloudfinite.web.api_routes import (
    Answer,
    Page,
    PageQuery,
    Question,
    Time,
    first_problem,
    instant,
    instant_number,
    operation,
    read_position,
    write_position,
)
from cloudfinite.wire.nodes import declared_nodes
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.requests import MAX_KEY_BYTES, MAX_URL, MAX_USER_DATA, find_operation

MAX_JOBS = 100  # of one submission
MAX_RERUNS = 500  # of one call: one transaction
_URL = r"^[hH][tT][tT][pP][sS]?://.+$"
_ENDED = [JobState.FAILED]


# --- what goes in and out ------------------------------------------------------------------------------------------


class Callback(Question):
    """Where and how a job's end is told; null leaves it to the queue's setting, the url `no` sends nothing."""

    url: str | None = Field(default=None, max_length=MAX_URL, pattern=f"{_URL}|^no$")
    format: CallbackFormat | None = None


class Output(Question):
    """Where the object goes that an operation makes; without a bucket, into the job's own."""

    object: str = Field(min_length=1, max_length=MAX_KEY_BYTES, description="Its key; may hold ${InputName}, ${Ext} …")
    bucket: str = ""


class JobView(Answer):
    """A job as lists show it. `object` or `url` is its input; `code` and `message` are those of a failed job."""

    id: str
    bucket: str
    region: str
    tag: str
    queue_id: str
    object: str
    url: str
    state: JobState
    level: int
    user_data: str | None
    created_at: Time
    started_at: Time | None
    ended_at: Time | None
    attempts: int
    code: str
    message: str


class JobDetails(JobView):
    """A job with all that is stored of it."""

    params: dict[str, Any]
    template_id: str
    template_name: str
    callback: Callback
    output: Output | None
    source_etag: str = Field(description="ETag of the bytes that were read")
    result: dict[str, Any] | None
    deliveries: list[DeliveryView] = Field(description="Newest first, without their bodies")


class JobMatch(Question):
    """Which jobs are meant; what is left out matches all."""

    bucket: str = ""
    tag: str = ""
    state: list[JobState] = Field(default=[], description="Any of these states")
    queue: str = Field("", description="Queue id")
    object: str = Field("", description="Key of the input; needs bucket")
    created_from: Time | None = Field(None, alias="from", description="Created then or later")
    created_to: Time | None = Field(None, alias="to", description="Created then or before")


class JobQuery(JobMatch, PageQuery):
    pass


class Submission(Question):
    """Jobs to run: one for each object and URL, all with the same operation."""

    bucket: str
    objects: list[str] = Field(default=[], max_length=MAX_JOBS, description="Keys of the bucket's objects")
    urls: list[str] = Field(default=[], max_length=MAX_JOBS)
    tag: str = "ImageOCR"
    params: dict[str, Any] = Field(default={}, description="Parameters: schema <Tag>Params")
    template_id: str = Field("", description="A template in place of params")
    queue_id: str = Field("", description="Default: the queue of the tag's service")
    level: int = Field(0, ge=0, le=2, description="Higher runs earlier")
    user_data: str | None = Field(None, max_length=MAX_USER_DATA)
    callback: Callback = Callback()
    output: Output | None = None


class Submitted(Answer):
    """In the order of the objects, then the URLs."""

    items: list[JobView]


class RerunMatch(JobMatch):
    """Which ended jobs to run again, the failed ones when no state is named; `size` of them in one call."""

    state: list[JobState] = Field(default=_ENDED, min_length=1, description="Any of these final states")
    after: str = Field("", description="`next` of the call before")
    size: int = Field(100, ge=1, le=MAX_RERUNS)


class RerunView(Answer):
    job_id: str
    original_id: str


class Reruns(Answer):
    """What one call ran again; with `next` as `after` the following call goes on, null: no more match."""

    items: list[RerunView]
    count: int
    next: str | None


# --- the operations ------------------------------------------------------------------------------------------------


class JobsApi:
    """Jobs of all buckets."""

    group: ClassVar[str] = "jobs"

    def __init__(self, jobs: JobService, control: JobControl, operations: Mapping[str, Operation]) -> None:
        self._jobs = jobs
        self._control = control
        self._operations = operations

    @operation("GET", "/jobs")
    async def list_jobs(self, query: JobQuery) -> Page[JobView]:
        """List jobs, newest first."""
        wanted = replace(_filter(query), size=query.size, after=_read_after(query.after))
        page = await self._jobs.list_jobs(query.bucket, wanted)
        following = None
        if page.next_position:
            last, position = page.next_position
            following = write_position(instant_number(last.created_at), position)
        return Page(items=[job_view(job) for job in page.jobs], next=following)

    @operation("POST", "/jobs", status=201)
    async def submit_jobs(self, body: Submission) -> Submitted:
        """Submit jobs: all or none. When this answers, they survive a crash."""
        count = len(body.objects) + len(body.urls)
        if not 1 <= count <= MAX_JOBS:
            raise InvalidArgument(f"objects and urls name {count} inputs; 1 to {MAX_JOBS} are allowed")
        known = find_operation(body.tag, self._operations)
        params = None if body.template_id else read_params(known, body.params)
        requests = [
            JobRequest(
                tag=known.tag,
                input=source,
                params=params,
                template_id=body.template_id,
                queue_id=body.queue_id,
                level=body.level,
                user_data=body.user_data or None,
                callback=CallbackChoice(body.callback.url, body.callback.format),
                output=JobOutput(body.output.bucket, "", body.output.object) if body.output else None,
            )
            for source in _inputs(body)
        ]
        jobs = await self._jobs.submit_jobs(body.bucket, requests)
        return Submitted(items=[job_view(job) for job in jobs])

    @operation("POST", "/jobs/rerun")
    async def rerun_jobs(self, body: RerunMatch) -> Reruns:
        """Run ended jobs that match again, oldest first.

        Each becomes a new job with the same input, parameters and callback. Jobs created after the first call are
        left out of the following ones.
        """
        for state in body.state:
            if not state.is_final:
                raise InvalidArgument(f"state names {state}; only ended jobs can be run again")
        wanted = replace(_filter(body), size=body.size)
        if body.after:
            created, position, until = read_position(body.after, int, int, int)
            wanted = replace(wanted, after=(instant(created), position), created_until=instant(until))
        page = await self._control.rerun_matching(body.bucket, wanted)
        following = None
        if page.after:
            at, position = page.after
            following = write_position(instant_number(at), position, instant_number(page.until))
        return Reruns(items=[_rerun_view(rerun) for rerun in page.reruns], count=len(page.reruns), next=following)

    @operation("GET", "/jobs/{job_id}")
    async def show_job(self, job_id: str) -> JobDetails:
        """Show a job with its parameters, result and deliveries."""
        job, deliveries = await self._control.show_job(job_id)
        return JobDetails(
            **dict(job_view(job)),
            params=dict(job.params),
            template_id=job.template_id,
            template_name=job.template_name,
            callback=Callback.model_construct(url=job.callback.url, format=job.callback.format),
            output=Output.model_construct(object=job.output.key, bucket=job.output.bucket) if job.output else None,
            source_etag=job.source_etag,
            result=None if job.result is None else dict(job.result),
            deliveries=[delivery_view(delivery) for delivery in deliveries],
        )

    @operation("POST", "/jobs/{job_id}/cancel")
    async def cancel_job(self, job_id: str) -> JobView:
        """Cancel a waiting or running job; again is harmless.

        A running one is stopped where it runs: at once in this process, within a third of a lease elsewhere. No
        callback is sent.
        """
        return job_view(await self._control.cancel_job(job_id))

    @operation("POST", "/jobs/{job_id}/rerun", status=201)
    async def rerun_job(self, job_id: str) -> RerunView:
        """Run an ended job again, as a new job with the same input, parameters and callback."""
        return _rerun_view(await self._control.rerun_job(job_id))


def job_view(job: Job) -> JobView:
    return JobView(
        id=job.id,
        bucket=job.bucket,
        region=job.region,
        tag=job.tag,
        queue_id=job.queue_id,
        object=job.input.object_key,
        url=job.input.url,
        state=job.state,
        level=job.level,
        user_data=job.user_data,
        created_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.ended_at,
        attempts=job.attempts,
        code=job.code,
        message=job.message,
    )


def _rerun_view(rerun: Rerun) -> RerunView:
    return RerunView(job_id=rerun.job.id, original_id=rerun.original.id)


# --- reading -------------------------------------------------------------------------------------------------------


def read_params(known: Operation, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Parameters in the operation's JSON form, defaults filled in. Raises InvalidArgument naming the field."""
    declared = dict(declared_nodes(known.params))
    for name in data:
        if name not in declared:
            raise InvalidArgument(f"there is no params.{name} of {known.tag}; there are {', '.join(declared)}")
    try:
        value = known.params_value(data)
    except ValidationError as exc:
        raise InvalidArgument(f"params: {first_problem(exc, 'field')}") from exc
    for name, node in declared.items():
        number = getattr(value, name)
        if not isinstance(number, int):
            continue
        if (node.minimum is not None and number < node.minimum) or (node.maximum is not None and number > node.maximum):
            bounds = f"{node.minimum} or more" if node.maximum is None else f"from {node.minimum} to {node.maximum}"
            raise InvalidArgument(f"params.{name} is {number}; it must be {bounds}")
    return known.params_data(value)


def _inputs(body: Submission) -> list[JobInput]:
    for key in body.objects:
        check_key(key)
    for url in body.urls:
        if len(url) > MAX_URL or not url.lower().startswith(("http://", "https://")):
            raise InvalidArgument(
                f"urls has {url[:100]!r}; a URL starts with http:// or https:// and has at most {MAX_URL} characters"
            )
    return [JobInput(object_key=key) for key in body.objects] + [JobInput(url=url) for url in body.urls]


def _filter(match: JobMatch) -> JobFilter:
    if match.object and not match.bucket:
        raise InvalidArgument("object names a key of a bucket; send bucket too")
    return JobFilter(
        tag=match.tag,
        queue_id=match.queue,
        states=frozenset(match.state),
        created_from=match.created_from,
        created_until=match.created_to,
        object_key=match.object,
    )


def _read_after(token: str) -> tuple[datetime, int] | None:
    if not token:
        return None
    created, position = read_position(token, int, int)
    return instant(created), position
