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
    Target,
)
from cloudfinite.domain.ids import new_delivery_id, new_request_id
from cloudfinite.domain.job import CallbackFormat, Job, JobState
from cloudfinite.domain.queue import Queue
from cloudfinite.errors import DeliveryNotFound, TargetNotFound
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.signing import Signer
from cloudfinite.wire.nodes import Node, to_json, to_xml
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.shapes import callback_body

EVENT = "TaskFinish"
TEST_EVENT = "Test"
NO_CALLBACK = "no"
_REPLAYED = 500  # per transaction


def effective_callback(job: Job, find_queue: Callable[[str], Queue | None]) -> tuple[str, CallbackFormat] | None:
    """(URL, format) of a job's notification: its own nodes, else its queue's setting; None when none is sent.

    Wire: Cloud Infinite API documentation, "Submit OCR Task" (`CallBack`, `CallBackFormat`) and "Update Queue"
    (`NotifyConfig`): the job's node wins, each by itself; `no` sends nothing.
    """
    if job.state not in (JobState.SUCCESS, JobState.FAILED):
        return None
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
    job: Job, find_queue: Callable[[str], Queue | None], operation: Operation, now: datetime
) -> Delivery | None:
    """The notification of a job that has just ended, or None. Its body is final: every attempt sends these bytes."""
    chosen = effective_callback(job, find_queue)
    if chosen is None:
        return None
    url, form = chosen
    content_type, body = callback_body(job, operation, form, wrapped=operation.wraps_json)
    # Checked at submit; a queue or job from elsewhere must still be able to end.
    is_callable = len(url.encode()) <= MAX_URL_CHARS
    return Delivery(
        id=new_delivery_id(),
        job_id=job.id,
        bucket=job.bucket,
        url=url if is_callable else url.encode()[:MAX_URL_CHARS].decode(errors="ignore"),
        content_type=content_type,
        body=body,
        created_at=now,
        next_at=now,
        request_id=new_request_id(now),
        event=EVENT,
        state=DeliveryState.WAITING if is_callable else DeliveryState.REFUSED,
        ended_at=None if is_callable else now,
    )


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """One page of deliveries, newest first; `before` is the filter value of the following page, None on the last."""

    deliveries: list[Delivery]
    before: int | None


class DeliveryService:
    """What operators do. `on_change` tells the deliverer: deliveries just committed, URLs whose targets changed."""

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

    async def show_target(self, url: str) -> Target:
        """Raises TargetNotFound."""
        target = await self._store.read(lambda tx: tx.deliveries.target(url))
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

    async def rotate_secret(self, url: str, overlap: timedelta, secret: str = "") -> str:
        """Give a target a signing secret of its own (a new one, unless given); its last one signs too for a while."""
        secret = secret or self._signer.new_secret()
        await self._store.run(rotate_secret, self._signer, url, secret, overlap)
        self._on_change((), (url,))
        return secret

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
    target = tx.deliveries.target(url)
    old = target.secrets if target else ()
    tx.deliveries.set_secrets(url, signer.rotated(old, secret, tx.now, overlap))


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
