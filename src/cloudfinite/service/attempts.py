"""One attempt: the POST with its headers, and what its end means for the delivery.

Wire: our choice – the vendor documents neither headers nor retries of job callbacks. 2xx delivers, redirects are not
followed, everything else is tried again by the schedule, except 410.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import structlog

from cloudfinite import __version__
from cloudfinite.domain.delivery import Attempt, AttemptResult, Delivery, DeliveryState, RetrySchedule, Target
from cloudfinite.errors import DeliveryFailed
from cloudfinite.ports import Answer, CallbackSender, Clock
from cloudfinite.service.signing import Signer
from cloudfinite.wire.webhooks import (
    ATTEMPT_HEADER,
    ID_HEADER,
    SEQUENCE_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
)

log = structlog.get_logger()

USER_AGENT = f"cloudfinite/{__version__}"
LONGEST_WAIT = timedelta(hours=24)  # of a Retry-After
KEPT_BODY_BYTES = 4_096
_KEPT_HEAD_CHARS = 4_096
_KEPT_VALUE_CHARS = 512
_GONE = 410
_WAITERS = frozenset({429, 503})  # the answers whose Retry-After counts


class Ending(NamedTuple):
    """How an attempt ended. `reason` is DeliveryFailed's, "" with an answer."""

    attempt: Attempt
    reason: str = ""
    is_success: bool = False
    is_gone: bool = False
    hold: timedelta | None = None

    @property
    def is_refused(self) -> bool:
        return self.reason == "refused_by_policy"

    @property
    def metric(self) -> str:
        """The class for Prometheus: few values, whatever a receiver answers."""
        if self.reason or self.is_success:
            return self.reason or "delivered"
        return f"http_{self.attempt.status // 100}xx"


def callback_headers(delivery: Delivery, target: Target, signer: Signer, at: datetime) -> dict[str, str]:
    return {
        "Content-Type": delivery.content_type,
        "User-Agent": USER_AGENT,
        "x-ci-request-id": delivery.request_id,
        ID_HEADER: delivery.id,
        TIMESTAMP_HEADER: str(int(at.timestamp())),
        SIGNATURE_HEADER: signer.signature(target, delivery.bucket, delivery.id, at, delivery.body),
        ATTEMPT_HEADER: str(delivery.attempts + 1),
        SEQUENCE_HEADER: str(delivery.sequence),
    }


async def make_attempt(
    delivery: Delivery, target: Target, sender: CallbackSender, signer: Signer, clock: Clock
) -> Ending:
    """POST once; every failure becomes the attempt's outcome."""
    started_at, started = clock(), time.perf_counter()
    try:
        headers = callback_headers(delivery, target, signer, started_at)
        answer = await sender.post(delivery.url, headers, delivery.body)
    except DeliveryFailed as exc:
        reason, message = exc.reason, exc.message
    except Exception as exc:
        log.exception("delivery.crashed", delivery_id=delivery.id, job_id=delivery.job_id)
        reason, message = "internal", f"unexpected: {type(exc).__name__}"
    else:
        return _answered(delivery, answer, started_at)
    attempt = Attempt(
        delivery_id=delivery.id,
        number=delivery.attempts + 1,
        started_at=started_at,
        outcome=reason,
        total_s=time.perf_counter() - started,
        message=_kept_text(message),
    )
    return Ending(attempt, reason)


def _answered(delivery: Delivery, answer: Answer, started_at: datetime) -> Ending:
    is_success = 200 <= answer.status < 300
    attempt = Attempt(
        delivery_id=delivery.id,
        number=delivery.attempts + 1,
        started_at=started_at,
        outcome="delivered" if is_success else f"http_{answer.status}",
        status=answer.status,
        dns_s=answer.dns_s,
        connect_s=answer.connect_s,
        total_s=answer.total_s,
        response_head=_head_text(answer.headers),
        response_body=answer.body[:KEPT_BODY_BYTES],
        message=_answer_message(answer),
    )
    hold = retry_after(answer.headers, started_at) if answer.status in _WAITERS else None
    return Ending(attempt, is_success=is_success, is_gone=answer.status == _GONE, hold=hold)


def _answer_message(answer: Answer) -> str:
    if answer.body_error:
        return f"the answer's body ended early: {answer.body_error}"
    if 300 <= answer.status < 400:
        return "redirects are not followed"
    if 400 <= answer.status < 500:
        return "the receiver refuses it"
    return ""


def _head_text(headers: Sequence[tuple[str, str]]) -> str:
    return _kept_text("\n".join([f"{name}: {value[:_KEPT_VALUE_CHARS]}" for name, value in headers]))


def _kept_text(text: str) -> str:
    """PostgreSQL keeps no NUL in texts."""
    return text.replace("\0", "\ufffd")[:_KEPT_HEAD_CHARS]


def retry_after(headers: Sequence[tuple[str, str]], now: datetime) -> timedelta | None:
    """The wait that `Retry-After` asks for, at most 24 hours; None when it is absent or nonsense."""
    found: Mapping[str, str] = {name.lower(): value.strip() for name, value in headers}
    text = found.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=min(int(text[:12]), 1_000_000)), LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return min(max(at - now, timedelta(0)), LONGEST_WAIT)


def follow_up(delivery: Delivery, ending: Ending, schedule: RetrySchedule, jitter: float) -> AttemptResult:
    """What becomes of the delivery: delivered, refused, failed, or waiting for the schedule's next step."""
    if ending.is_success:
        return AttemptResult(ending.attempt, DeliveryState.DELIVERED)
    if ending.is_refused:
        return AttemptResult(ending.attempt, DeliveryState.REFUSED)
    delay = schedule.delay(ending.attempt.number - delivery.replayed_after, jitter)
    if ending.is_gone or delay is None:
        return AttemptResult(ending.attempt, DeliveryState.FAILED)
    return AttemptResult(ending.attempt, DeliveryState.WAITING, max(delay, ending.hold or delay))
