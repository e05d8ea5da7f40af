"""The JSON API's view of the server itself: buckets, statistics, settings and health."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from cloudfinite.domain.objects import Acl, Bucket
from cloudfinite.domain.stats import Counts, StatKey
from cloudfinite.errors import InvalidArgument
from cloudfinite.ports import Clock
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.stats import Stats
from cloudfinite.web.api_routes import (
    Answer,
    Page,
    PageQuery,
    Question,
    Time,
    instant,
    instant_number,
    operation,
    read_position,
    write_position,
)

_STATS_ROWS = 5_000
_STATS_SPAN = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)


class BucketView(Answer):
    name: str
    region: str
    created_at: Time
    acl: Acl


class BucketChange(Question):
    """What is left out stays as it is."""

    acl: Acl | None = Field(None, description="public-read: anybody may read objects, without a signature")


class Children(Answer):
    """Processes that run operations. `trouble` is why some do not become ready, empty when all is well."""

    total: int
    ready: int
    trouble: str


class ServerInfo(Answer):
    """This process. `problems` are why it is not ready: one sentence each; secrets among the settings are masked."""

    version: str
    role: str
    database: str
    url: str
    started_at: Time
    tags: list[str]
    children: Children
    problems: list[str]
    settings: dict[str, Any]


class StatQuery(Question):
    """The last hour unless told; minutes from `from` until before `to`."""

    bucket: str = ""
    start: Time | None = Field(None, alias="from")
    end: Time | None = Field(None, alias="to")
    after: str = ""


class StatView(Answer):
    """Counts of one minute. `waited_ms` and `ran_ms` are sums over the jobs that ended in it."""

    minute_at: Time
    bucket: str
    queue_id: str
    tag: str
    submitted: int
    succeeded: int
    failed: int
    waited_ms: int
    ran_ms: int


class ServerApi:
    """The server itself."""

    group: ClassVar[str] = "server"

    def __init__(self, buckets: BucketService, stats: Stats, clock: Clock, info: Callable[[], ServerInfo]) -> None:
        self._buckets = buckets
        self._stats = stats
        self._clock = clock
        self._info = info

    @operation("GET", "/server")
    async def show_server(self) -> ServerInfo:
        """Show what this process is, how it is set up, and what ails it."""
        return self._info()

    @operation("GET", "/buckets")
    async def list_buckets(self, query: PageQuery) -> Page[BucketView]:
        """List buckets by name."""
        after = read_position(query.after, str)[0] if query.after else ""
        rest = [bucket for bucket in await self._buckets.list_buckets() if bucket.name > after]
        page = rest[: query.size]
        following = write_position(page[-1].name) if len(rest) > query.size else None
        return Page(items=[_bucket_view(one) for one in page], next=following)

    @operation("PATCH", "/buckets/{bucket}")
    async def change_bucket(self, bucket: str, body: BucketChange) -> BucketView:
        """Say who may read a bucket's objects without a signature: nobody (private), or anybody (public-read)."""
        if body.acl is None:
            return _bucket_view(await self._buckets.find_bucket(bucket))
        return _bucket_view(await self._buckets.set_acl(bucket, body.acl))

    @operation("GET", "/stats")
    async def list_stats(self, query: StatQuery) -> Page[StatView]:
        """List counters per minute, bucket, queue and tag, oldest first; some seconds late."""
        end = query.end or self._clock()
        start = query.start or end - _STATS_SPAN
        if query.after:
            start = instant(*read_position(query.after, int))
        rows = await self._stats.select(start, end, query.bucket, _STATS_ROWS)
        following = None
        if len(rows) == _STATS_ROWS:
            rows = _whole_minutes(rows)
            following = write_position(instant_number(rows[-1][0].minute_at + _MINUTE))
        return Page(items=[_stat_view(*row) for row in rows], next=following)


def _bucket_view(bucket: Bucket) -> BucketView:
    return BucketView(name=bucket.name, region=bucket.region, created_at=bucket.created_at, acl=bucket.acl)


def _whole_minutes(rows: Sequence[tuple[StatKey, Counts]]) -> list[tuple[StatKey, Counts]]:
    """Without the last minute, which the page may have cut. Raises InvalidArgument when there is no other one."""
    last = rows[-1][0].minute_at
    whole = [row for row in rows if row[0].minute_at < last]
    if not whole:
        raise InvalidArgument(f"one minute has more than {_STATS_ROWS} counters; name a bucket")
    return whole


def _stat_view(key: StatKey, counts: Counts) -> StatView:
    return StatView(
        minute_at=key.minute_at,
        bucket=key.bucket,
        queue_id=key.queue_id,
        tag=key.tag,
        submitted=counts.submitted,
        succeeded=counts.succeeded,
        failed=counts.failed,
        waited_ms=counts.waited_ms,
        ran_ms=counts.ran_ms,
    )
