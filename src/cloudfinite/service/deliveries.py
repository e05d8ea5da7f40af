"""Which callback a job's end has, and what operators do with deliveries and their targets.

Functions whose first argument is a transaction are whole transactions, or parts of one, run by `Store.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cloudfinite.domain.delivery import (
    MAX_URL_CHARS,
    Attempt,
    Delivery,
    DeliveryFilter,
    DeliveryState,
    SigningSecret,
    Target,
)
from cloudfinite.domain.execution import Execution
from cloudfinite.domain.ids import new_delivery_id, new_request_id
from cloudfinite.domain.job import CallbackFormat, Job, JobState
from cloudfinite.domain.queue import Queue
from cloudfinite.errors import DeliveryNotFound, NoSuchBucket, TargetNotFound
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.signing import Signer
from cloudfinite.wire.nodes import Node, to_json, to_xml
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.shapes import callback_body

EVENT = "TaskFinish"
TEST_EVENT = "Test"
NO_CALLBACK = "no"
_REPLAYED = 500  # per transaction
_CANCELLED = 500


def effective_callback(
    job: Job, find_queue: Callable[[str], Queue | None], run: Execution | None = None
) -> tuple[str, CallbackFormat] | None:
    """(URL, format) of a job's notification: its own nodes, else its queue's setting; None when none is sent.

    The setting of the workflow, where it has one, stands in for the queue's. Wire: Cloud Infinite API documentation,
    "Submit OCR Task" (`CallBack`, `CallBackFormat`) and "Update Queue" (`NotifyConfig`): the job's node wins, each by
    itself; `no` sends nothing. "Create workflow", Start.Input.NotifyConfig; our choice – one that is off sends nothing.
    """
    if job.state not in (JobState.SUCCESS, JobState.FAILED):
        return None
    if run is not None and run.notify is not None:
        return (run.notify.url, run.notify.format) if run.notify.sends(EVENT) else None
    own = job.callback
    if own.url and own.format:
        return None if own.url.lower() == NO_CALLBACK else (own.url, own.format)
    queue = find_queue(job.queue_id)
    notify = queue.notify if queue is not None and queue.notify.sends(EVENT) else None
    url = own.url or (notify.url if notify else "")
    if not url or url.lower() == NO_CALLBACK:
        return None
    return url, own.format or (notify.format if notify else CallbackFormat.XML)


def plan_delivery(
    job: Job,
    find_queue: Callable[[str], Queue | None],
    operation: Operation,
    now: datetime,
    run: Execution | None = None,
) -> Delivery | None:
    """The notification of a job that has just ended, as a step of `run` perhaps; None when nobody is to be told."""
    chosen = effective_callback(job, find_queue, run)
    if chosen is None:
        return None
    url, form = chosen
    body = callback_body(job, operation, form, wrapped=operation.wraps_json, run=run)
    return plan_notice(job.id, job.bucket, url, body, EVENT, now)


def plan_notice(
    subject_id: str, bucket: str, url: str, content: tuple[str, bytes], event: str, now: datetime
) -> Delivery:
    """The notification of a job or a run. Its content (type, body) is final: every attempt sends these bytes."""
    content_type, body = content
    # Checked at submit; a queue or job from elsewhere must still be able to end.
    is_callable = len(url.encode()) <= MAX_URL_CHARS
    return Delivery(
        id=new_delivery_id(),
        job_id=subject_id,
        bucket=bucket,
        url=url if is_callable else url.encode()[:MAX_URL_CHARS].decode(errors="ignore"),
        content_type=content_type,
        body=body,
        created_at=now,
        next_at=now,
        request_id=new_request_id(now),
        event=event,
        state=DeliveryState.WAITING if is_callable else DeliveryState.REFUSED,
        ended_at=None if is_callable else now,
    )


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """One page of deliveries, newest first; `before` is the filter value of the following page, None on the last."""

    deliveries: list[Delivery]
    before: int | None


class DeliveryService:
    """What operators do.

    `on_change` tells the deliverer: deliveries just committed, URLs whose targets changed; neither: look at everything.
    """

    def __init__(
        self,
        store: Store,
        signer: Signer,
        check_url: Callable[[str], object],
        on_change: Callable[[Sequence[Delivery], Sequence[str]], None],
    ) -> None:
        self._store = store
        self._signer = signer
        self._check_url = check_url
        self._on_change = on_change

    async def list_deliveries(self, wanted: DeliveryFilter) -> DeliveryPage:
        """Without their bodies."""
        rows = await self._store.read(lambda tx: tx.deliveries.select(wanted))
        return DeliveryPage([delivery for delivery, _ in rows], rows[-1][1] if len(rows) == wanted.size else None)

    async def show_delivery(self, delivery_id: str) -> tuple[Delivery, list[Attempt]]:
        """The delivery with its body, and all its attempts. Raises DeliveryNotFound."""
        return await self._store.read(show_delivery, delivery_id)

    async def replay_delivery(self, delivery_id: str) -> None:
        """Send it again now, same id and bytes. Raises DeliveryNotFound."""
        urls = await self._store.run(lambda tx: tx.deliveries.replay([delivery_id]))
        if not urls:
            raise DeliveryNotFound(f"the delivery {delivery_id} does not exist")
        self._on_change((), sorted(urls))

    async def replay_failed(self, url: str, since: datetime) -> int:
        """Send again all that failed or was refused at a target since then; returns how many."""
        count = 0
        while replayed := await self._store.run(replay_some, url, since, _REPLAYED):
            count += replayed
            self._on_change((), (url,))
        return count

    async def list_targets(self, after: str = "", limit: int = 100) -> list[Target]:
        return await self._store.read(lambda tx: tx.deliveries.targets(after, limit))

    async def find_target(self, url: str) -> Target | None:
        """None: nothing was taken up for this URL yet."""
        return await self._store.read(lambda tx: tx.deliveries.target(url))

    async def show_target(self, url: str) -> Target:
        """Raises TargetNotFound."""
        target = await self.find_target(url)
        if target is None:
            raise TargetNotFound(f"nothing was ever sent to {url}")
        return target

    async def pause_target(self, url: str, reason: str = "paused by an operator") -> Target:
        """Raises TargetNotFound."""
        return self._changed(url, await self._store.run(lambda tx: tx.deliveries.pause(url, reason)))

    async def resume_target(self, url: str) -> Target:
        """Send all that waits, now. Raises TargetNotFound."""
        return self._changed(url, await self._store.run(lambda tx: tx.deliveries.resume(url)))

    def _changed(self, url: str, target: Target | None) -> Target:
        if target is None:
            raise TargetNotFound(f"nothing was ever sent to {url}")
        self._on_change((), (url,))
        return target

    async def limit_target(self, url: str, rate_per_s: float) -> Target:
        """Start at most so many POSTs per second, 0 for no limit; also for a URL that nothing was sent to yet."""
        self._check_url(url)
        return self._changed(url, await self._store.run(set_rate, url, rate_per_s))

    async def remove_target(self, url: str) -> int:
        """Cancel all that waits, and forget the target; returns how many were cancelled. Raises TargetNotFound.

        What is under way is recorded as it ends. A later delivery to the URL makes a new target.
        """
        await self.pause_target(url, "being removed")
        count = 0
        while True:
            cancelled = await self._store.run(lambda tx: tx.deliveries.cancel(url, _CANCELLED))
            count += cancelled
            if cancelled < _CANCELLED:
                break
        self._on_change((), (url,))
        return count

    async def rotate_secret(self, url: str, overlap: timedelta, secret: str = "") -> str:
        """Give a target a signing secret of its own (a new one, unless given); what signed before stays for a while."""
        self._check_url(url)
        secret = secret or self._signer.new_secret()
        await self._store.run(rotate_secret, self._signer, url, secret, overlap)
        self._on_change((), (url,))
        return secret

    async def drop_secret(self, url: str, overlap: timedelta) -> Target:
        """Let a target's bucket or the installation sign again; its own secret signs too for a while."""
        target = await self._store.run(drop_secret, self._signer, url, overlap)
        return self._changed(url, target)

    async def bucket_secrets(self, bucket: str) -> Sequence[SigningSecret]:
        """Raises NoSuchBucket."""
        return await self._store.read(bucket_secrets, bucket)

    async def rotate_bucket_secret(self, bucket: str, overlap: timedelta, secret: str = "") -> str:
        """As `rotate_secret`, for all targets of a bucket's callbacks that have none of their own."""
        secret = secret or self._signer.new_secret()
        await self._store.run(rotate_bucket_secret, self._signer, bucket, secret, overlap)
        self._on_change((), ())
        return secret

    async def drop_bucket_secret(self, bucket: str, overlap: timedelta) -> Sequence[SigningSecret]:
        """Let the installation sign a bucket's callbacks again; its own secret signs too for a while."""
        await self._store.run(rotate_bucket_secret, self._signer, bucket, "", overlap)
        self._on_change((), ())
        return await self.bucket_secrets(bucket)

    async def send_test(self, url: str, form: CallbackFormat = CallbackFormat.XML) -> Delivery:
        """Send a small event of its own kind. Raises InvalidArgument when the URL may not be called."""
        self._check_url(url)
        delivery = await self._store.run(insert_test, url, form)
        self._on_change((delivery,), ())
        return delivery


def show_delivery(tx: Transaction, delivery_id: str) -> tuple[Delivery, list[Attempt]]:
    delivery = tx.deliveries.get(delivery_id)
    if delivery is None:
        raise DeliveryNotFound(f"the delivery {delivery_id} does not exist")
    return delivery, tx.deliveries.attempts(delivery_id)


def replay_some(tx: Transaction, url: str, since: datetime, limit: int) -> int:
    ids = tx.deliveries.ended(url, since, limit)
    tx.deliveries.replay(ids)
    return len(ids)


def rotate_secret(tx: Transaction, signer: Signer, url: str, secret: str, overlap: timedelta) -> None:
    old = tx.deliveries.lock_secrets(url)
    tx.deliveries.set_secrets(url, signer.rotated(old, secret, tx.now, overlap))


def drop_secret(tx: Transaction, signer: Signer, url: str, overlap: timedelta) -> Target | None:
    if tx.deliveries.target(url) is None:
        return None
    rotate_secret(tx, signer, url, "", overlap)
    return tx.deliveries.target(url)


def bucket_secrets(tx: Transaction, bucket: str) -> Sequence[SigningSecret]:
    if tx.buckets.get(bucket) is None:
        raise NoSuchBucket(f"the bucket {bucket} does not exist", resource=bucket)
    return tx.deliveries.all_bucket_secrets().get(bucket, ())


def rotate_bucket_secret(tx: Transaction, signer: Signer, bucket: str, secret: str, overlap: timedelta) -> None:
    bucket_secrets(tx, bucket)
    old = tx.deliveries.lock_bucket_secrets(bucket)
    tx.deliveries.set_bucket_secrets(bucket, signer.rotated(old, secret, tx.now, overlap))


def set_rate(tx: Transaction, url: str, rate_per_s: float) -> Target | None:
    tx.deliveries.set_rate(url, rate_per_s)
    return tx.deliveries.target(url)


def insert_test(tx: Transaction, url: str, form: CallbackFormat) -> Delivery:
    root = Node("Response", (Node("EventName", TEST_EVENT),))
    is_json = form is CallbackFormat.JSON
    delivery = Delivery(
        id=new_delivery_id(),
        job_id="",
        bucket="",
        url=url,
        content_type="application/json" if is_json else "application/xml",
        body=to_json(root) if is_json else to_xml(root),
        created_at=tx.now,
        next_at=tx.now,
        request_id=new_request_id(tx.now),
        event=TEST_EVENT,
    )
    tx.deliveries.insert(delivery)
    return delivery
