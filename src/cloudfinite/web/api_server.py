"""The JSON API's view of the server itself: buckets, access keys, statistics, settings and health."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field

from cloudfinite.domain.stats import Counts, StatKey
from cloudfinite.errors import InvalidArgument
from cloudfinite.ports import Clock
from cloudfinite.service.access import Keyring
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


class KeyView(Answer):
    secret_id: str


class Keys(Answer):
    """Oldest first."""

    items: list[KeyView]


class NewKey(Question):
    """What is left out is made up."""

    secret_id: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    secret_key: str = Field("", max_length=128, pattern=r"^[!-~]*$")


class KeyPair(Answer):
    """The secret key is shown here and nowhere else."""

    secret_id: str
    secret_key: str


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

    def __init__(
        self, buckets: BucketService, keyring: Keyring, stats: Stats, clock: Clock, info: Callable[[], ServerInfo]
    ) -> None:
        self._buckets = buckets
        self._keyring = keyring
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
        views = [BucketView(name=one.name, region=one.region, created_at=one.created_at) for one in page]
        return Page(items=views, next=following)

    @operation("GET", "/keys")
    async def list_keys(self) -> Keys:
        """List the ids of the access keys."""
        return Keys(items=[KeyView(secret_id=secret_id) for secret_id in self._keyring.ids()])

    @operation("POST", "/keys", status=201)
    async def add_key(self, body: NewKey) -> KeyPair:
        """Add an access key; the answer is the only place that shows its secret."""
        secret_id, secret_key = await self._keyring.create(body.secret_id, body.secret_key)
        return KeyPair(secret_id=secret_id, secret_key=secret_key)

    @operation("DELETE", "/keys/{secret_id}")
    async def remove_key(self, secret_id: str) -> KeyView:
        """Remove an access key; what it signs is refused from now on.

        The key of the settings comes back at the next start. The last key cannot be removed.
        """
        await self._keyring.remove(secret_id)
        return KeyView(secret_id=secret_id)

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
