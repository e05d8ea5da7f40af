"""The JSON API's deliveries and their targets: list, show, send again, pause, resume, limit, test; and who signs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import Field

from cloudfinite.domain.delivery import (
    MAX_URL_CHARS,
    Attempt,
    Delivery,
    DeliveryFilter,
    DeliveryState,
    SigningSecret,
    Target,
    TargetState,
)
from cloudfinite.domain.job import CallbackFormat
from cloudfinite.ports import Clock
from cloudfinite.service.deliveries import DeliveryService
from cloudfinite.web.api_routes import Answer, Page, PageQuery, Question, Time, operation, read_position, write_position

_MAX_OVERLAP_S = 30 * 86_400
_MAX_REASON_CHARS = 200
_MAX_SECRET_CHARS = 200
_MAX_RATE_PER_S = 10_000


# --- what goes in and out ------------------------------------------------------------------------------------------


class DeliveryView(Answer):
    """A delivery as lists show it. `next_at` is when the next attempt is due while it waits."""

    id: str = Field(description="The webhook-id of every attempt")
    job_id: str
    bucket: str
    url: str
    event: str
    state: DeliveryState
    attempts: int
    sequence: int = Field(description="The target's gap-free number, 0 until it is first taken up")
    created_at: Time
    next_at: Time | None
    ended_at: Time | None


class AttemptView(Answer):
    """One POST. `outcome` is delivered, http_<status>, why there was no answer, or unknown.

    Unknown: a process may have sent it, and ended before it told.
    """

    number: int
    started_at: Time
    outcome: str
    status: int
    dns_s: float
    connect_s: float
    total_s: float
    message: str
    response_head: str
    response_body: str = Field(description="The first 4 KB, as UTF-8")


class DeliveryDetails(DeliveryView):
    """A delivery with the bytes every attempt sends, as UTF-8 text, and its attempts, oldest first."""

    request_id: str
    content_type: str
    body: str
    tries: list[AttemptView]


class DeliveryQuery(PageQuery):
    job: str = Field("", description="Job id")
    url: str = Field("", max_length=MAX_URL_CHARS)
    state: list[DeliveryState] = Field(default=[], description="Any of these states")
    created_from: Time | None = Field(None, alias="from", description="Created then or later")


class ReplayMatch(Question):
    """All that failed or was refused at a target since then."""

    url: str = Field(max_length=MAX_URL_CHARS)
    since: Time


class Replayed(Answer):
    count: int


class TargetView(Answer):
    """A URL that callbacks go to. While the breaker is open, nothing but a probe is sent before `open_until`."""

    url: str
    state: TargetState
    paused_reason: str
    failures_in_row: int
    open_until: Time | None
    failing_since: Time | None
    last_success_at: Time | None
    last_sequence: int
    rate_per_s: float = Field(description="POSTs started per second at most; 0: no limit")
    own_secrets: int = Field(description="How many secrets of its own sign; 0: its bucket's or the installation's do")


class TargetQuery(Question):
    url: str = Field(max_length=MAX_URL_CHARS)


class PauseTarget(TargetQuery):
    reason: str = Field("paused by an operator", max_length=_MAX_REASON_CHARS)


class LimitTarget(TargetQuery):
    rate_per_s: float = Field(ge=0, le=_MAX_RATE_PER_S, description="POSTs started per second at most; 0: no limit")


class Cancelled(Answer):
    count: int


class Overlap(Question):
    """What signed before signs too until the overlap ends."""

    overlap_s: int = Field(86_400, ge=0, le=_MAX_OVERLAP_S)

    @property
    def span(self) -> timedelta:
        return timedelta(seconds=self.overlap_s)


class NewBucketSecret(Overlap):
    """`secret` is made up unless given."""

    secret: str = Field("", max_length=_MAX_SECRET_CHARS, description="whsec_ and base64 text")


class RotateSecret(NewBucketSecret, TargetQuery):
    """`secret` is made up unless given; what signed before signs too until the overlap ends."""


class DropSecret(Overlap, TargetQuery):
    """What signed before signs too until the overlap ends."""


class NewSecret(Answer):
    """Shown once."""

    url: str
    secret: str


class BucketSecret(Answer):
    """Shown once."""

    bucket: str
    secret: str


class BucketSigning(Answer):
    """How a bucket's callbacks are signed, where their targets have no secrets of their own."""

    bucket: str
    own_secrets: int = Field(description="How many secrets of its own sign; 0: the installation's do")


class TestTarget(TargetQuery):
    format: CallbackFormat = CallbackFormat.XML


# --- the operations ------------------------------------------------------------------------------------------------


class DeliveriesApi:
    """Deliveries of all buckets."""

    group: ClassVar[str] = "deliveries"

    def __init__(self, deliveries: DeliveryService) -> None:
        self._deliveries = deliveries

    @operation("GET", "/deliveries")
    async def list_deliveries(self, query: DeliveryQuery) -> Page[DeliveryView]:
        """List deliveries, newest first, without their bodies."""
        wanted = DeliveryFilter(
            job_id=query.job,
            url=query.url,
            states=frozenset(query.state),
            created_from=query.created_from,
            before=read_position(query.after, int)[0] if query.after else None,
            size=query.size,
        )
        page = await self._deliveries.list_deliveries(wanted)
        following = None if page.before is None else write_position(page.before)
        return Page(items=[delivery_view(delivery) for delivery in page.deliveries], next=following)

    @operation("POST", "/deliveries/replay")
    async def replay_deliveries(self, body: ReplayMatch) -> Replayed:
        """Send again all that failed or was refused at a target since a time; same ids, same bytes."""
        return Replayed(count=await self._deliveries.replay_failed(body.url, body.since))

    @operation("GET", "/deliveries/{delivery_id}")
    async def show_delivery(self, delivery_id: str) -> DeliveryDetails:
        """Show a delivery with its body and its attempts."""
        return await self._details(delivery_id)

    @operation("POST", "/deliveries/{delivery_id}/replay")
    async def replay_delivery(self, delivery_id: str) -> DeliveryDetails:
        """Send a delivery again now, whatever became of it; same id, same bytes."""
        await self._deliveries.replay_delivery(delivery_id)
        return await self._details(delivery_id)

    async def _details(self, delivery_id: str) -> DeliveryDetails:
        delivery, attempts = await self._deliveries.show_delivery(delivery_id)
        return DeliveryDetails(
            **dict(delivery_view(delivery)),
            request_id=delivery.request_id,
            content_type=delivery.content_type,
            body=delivery.body.decode("utf-8", "replace"),
            tries=[_attempt_view(attempt) for attempt in attempts],
        )


class TargetsApi:
    """Targets: the URLs that deliveries go to."""

    group: ClassVar[str] = "targets"

    def __init__(self, deliveries: DeliveryService, clock: Clock) -> None:
        self._deliveries = deliveries
        self._clock = clock

    def _view(self, target: Target) -> TargetView:
        return target_view(target, self._clock())

    @operation("GET", "/targets")
    async def list_targets(self, query: PageQuery) -> Page[TargetView]:
        """List targets in the order of their URLs."""
        after = read_position(query.after, str)[0] if query.after else ""
        targets = await self._deliveries.list_targets(after, query.size)
        following = write_position(targets[-1].url) if len(targets) == query.size else None
        return Page(items=[self._view(target) for target in targets], next=following)

    @operation("GET", "/target")
    async def show_target(self, query: TargetQuery) -> TargetView:
        """Show a target."""
        return self._view(await self._deliveries.show_target(query.url))

    @operation("POST", "/target/pause")
    async def pause_target(self, body: PauseTarget) -> TargetView:
        """Send nothing to a target until it is resumed; what waits keeps waiting."""
        return self._view(await self._deliveries.pause_target(body.url, body.reason))

    @operation("POST", "/target/resume")
    async def resume_target(self, body: TargetQuery) -> TargetView:
        """Send to a target again, all that waits at once."""
        return self._view(await self._deliveries.resume_target(body.url))

    @operation("POST", "/target/rate")
    async def limit_target(self, body: LimitTarget) -> TargetView:
        """Limit how many POSTs a target gets per second; also before anything is sent to it."""
        return self._view(await self._deliveries.limit_target(body.url, body.rate_per_s))

    @operation("DELETE", "/target")
    async def remove_target(self, query: TargetQuery) -> Cancelled:
        """Forget a target: all that waits for it is cancelled. A later delivery to its URL makes a new one."""
        return Cancelled(count=await self._deliveries.remove_target(query.url))

    @operation("POST", "/target/secret")
    async def rotate_secret(self, body: RotateSecret) -> NewSecret:
        """Give a target a signing secret of its own; the answer is the only place that shows it."""
        return NewSecret(url=body.url, secret=await self._deliveries.rotate_secret(body.url, body.span, body.secret))

    @operation("DELETE", "/target/secret")
    async def drop_secret(self, query: DropSecret) -> TargetView:
        """Let a target's bucket or the installation sign again; its own secret signs too for a while."""
        return self._view(await self._deliveries.drop_secret(query.url, query.span))

    @operation("POST", "/target/test", status=201)
    async def test_target(self, body: TestTarget) -> DeliveryView:
        """Send a small event of the kind Test to a URL."""
        return delivery_view(await self._deliveries.send_test(body.url, body.format))


class BucketSigningApi:
    """Who signs the callbacks of a bucket: secrets of its own, or the installation's."""

    group: ClassVar[str] = "buckets"

    def __init__(self, deliveries: DeliveryService, clock: Clock) -> None:
        self._deliveries = deliveries
        self._clock = clock

    @operation("GET", "/buckets/{bucket}/secret")
    async def show_bucket_secret(self, bucket: str) -> BucketSigning:
        """Show whether a bucket's callbacks are signed with secrets of its own."""
        return self._signing(bucket, await self._deliveries.bucket_secrets(bucket))

    @operation("POST", "/buckets/{bucket}/secret")
    async def rotate_bucket_secret(self, bucket: str, body: NewBucketSecret) -> BucketSecret:
        """Sign a bucket's callbacks with a secret of its own; the answer is the only place that shows it."""
        secret = await self._deliveries.rotate_bucket_secret(bucket, body.span, body.secret)
        return BucketSecret(bucket=bucket, secret=secret)

    @operation("DELETE", "/buckets/{bucket}/secret")
    async def drop_bucket_secret(self, bucket: str, query: Overlap) -> BucketSigning:
        """Let the installation sign a bucket's callbacks again; its own secret signs too for a while."""
        return self._signing(bucket, await self._deliveries.drop_bucket_secret(bucket, query.span))

    def _signing(self, bucket: str, secrets: Sequence[SigningSecret]) -> BucketSigning:
        return BucketSigning(bucket=bucket, own_secrets=_count_own(secrets, self._clock()))


def delivery_view(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.id,
        job_id=delivery.job_id,
        bucket=delivery.bucket,
        url=delivery.url,
        event=delivery.event,
        state=delivery.state,
        attempts=delivery.attempts,
        sequence=delivery.sequence,
        created_at=delivery.created_at,
        next_at=delivery.next_at if delivery.state is DeliveryState.WAITING else None,
        ended_at=delivery.ended_at,
    )


def _attempt_view(attempt: Attempt) -> AttemptView:
    return AttemptView(
        number=attempt.number,
        started_at=attempt.started_at,
        outcome=attempt.outcome,
        status=attempt.status,
        dns_s=attempt.dns_s,
        connect_s=attempt.connect_s,
        total_s=attempt.total_s,
        message=attempt.message,
        response_head=attempt.response_head,
        response_body=attempt.response_body.decode("utf-8", "replace"),
    )


def target_view(target: Target, now: datetime) -> TargetView:
    return TargetView(
        url=target.url,
        state=target.state,
        paused_reason=target.paused_reason,
        failures_in_row=target.failures_in_row,
        open_until=target.open_until,
        failing_since=target.failing_since,
        last_success_at=target.last_success_at,
        last_sequence=target.next_sequence - 1,
        rate_per_s=target.rate_per_s,
        own_secrets=_count_own(target.secrets, now),
    )


def _count_own(secrets: Sequence[SigningSecret], now: datetime) -> int:
    return sum(bool(secret.sealed) and secret.is_valid(now) for secret in secrets)
