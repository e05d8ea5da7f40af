"""The SQL of deliveries: insert, read, list, and what operators do with them.

What the deliverer does – admit, lease, take, record – is in `store_targets`, which this class extends.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import Row, bindparam, select, text

from cloudfinite.adapters.dialects import Both
from cloudfinite.adapters.schema_base import from_us, optional_us, to_us
from cloudfinite.adapters.schema_deliveries import delivery
from cloudfinite.adapters.sql import Insert
from cloudfinite.adapters.store_targets import SqlTargetRows, read_secrets, secrets_text
from cloudfinite.domain.delivery import Attempt, Delivery, DeliveryFilter, DeliveryState, SigningSecret, Target

_INTO = Insert(
    "delivery", "id", "job_id", "bucket", "url", "event", "content_type", "request_id", "state", "created_us",
    "next_us", "ended_us",
)  # fmt: skip
_INTO_BODIES = Insert("delivery_body", "delivery_id", "body")
_GET = text("SELECT * FROM delivery JOIN delivery_body ON delivery_id = id WHERE id = :id")
_ATTEMPTS = text("SELECT * FROM attempt WHERE delivery_id = :id ORDER BY seq")

_REPLAY = text("""
    UPDATE delivery SET next_us = :now, ended_us = NULL, state = 'waiting',
        replayed_after = CASE WHEN state = 'waiting' THEN replayed_after ELSE attempts END
    WHERE id IN :ids RETURNING url""").bindparams(bindparam("ids", expanding=True))
_ENDED = text("""
    SELECT id FROM delivery WHERE url = :url AND state = :state AND created_us >= :since ORDER BY seq LIMIT :n""")
_PURGED = text("SELECT id FROM delivery WHERE state = :state AND created_us < :before ORDER BY seq LIMIT :n")
_DELETE = text("DELETE FROM delivery WHERE id IN :ids").bindparams(bindparam("ids", expanding=True))
_DELETE_ATTEMPTS = text("DELETE FROM attempt WHERE delivery_id IN :ids").bindparams(bindparam("ids", expanding=True))
_DELETE_BODIES = text("DELETE FROM delivery_body WHERE delivery_id IN :ids").bindparams(
    bindparam("ids", expanding=True)
)

_TARGET = text("SELECT * FROM target WHERE url = :url")
_TARGETS = text("SELECT * FROM target WHERE url > :after ORDER BY url LIMIT :n")
_PAUSE = text("""
    UPDATE target SET state = 'paused', paused_reason = :reason, lease_owner = NULL, wake_us = NULL
    WHERE url = :url""")
_RESUME = text("""
    UPDATE target SET state = 'active', paused_reason = '', failures_in_row = 0, failing_since_us = NULL,
                      open_until_us = NULL, lease_owner = NULL
    WHERE url = :url""")
# Those that failed before, due already or not: each takes its place by age among those that were never tried.
_HURRY = text("""
    UPDATE delivery SET next_us = CASE WHEN created_us < :now THEN created_us ELSE :now END
    WHERE url = :url AND state = 'waiting' AND attempts > 0""")
_WAKE = text("""
    UPDATE target SET open_until_us = NULL, wake_us = :now
    WHERE url = :url AND state = 'active' AND lease_owner IS NULL""")
_SET_RATE = text("UPDATE target SET rate_per_s = :rate WHERE url = :url")
_REMOVE_TARGET = text("DELETE FROM target WHERE url = :url")
_CANCEL = text("""
    UPDATE delivery SET state = 'cancelled', ended_us = :now
    WHERE seq IN (SELECT seq FROM delivery WHERE url = :url AND state = 'waiting' ORDER BY seq LIMIT :n)""")
_SET_SECRETS = text("UPDATE target SET secrets = :secrets WHERE url = :url")
_BUCKET_SECRETS = text("SELECT bucket, secrets FROM bucket_signing")
_ADD_BUCKET_SECRETS = text("INSERT INTO bucket_signing (bucket) VALUES (:bucket) ON CONFLICT (bucket) DO NOTHING")
_LOCK_BUCKET_SECRETS = Both.of("SELECT secrets FROM bucket_signing WHERE bucket = :bucket {lock:FOR UPDATE}")
_SET_BUCKET_SECRETS = text("UPDATE bucket_signing SET secrets = :secrets WHERE bucket = :bucket")

_ENDED_STATES = (DeliveryState.FAILED, DeliveryState.REFUSED)
_LISTED = select(delivery)


class SqlDeliveryRows(SqlTargetRows):
    """`ports.DeliveryRows` on a SQL connection."""

    def insert(self, *deliveries: Delivery) -> None:
        ahead_us = self._ahead_us
        rows = [
            (
                item.id,
                item.job_id,
                item.bucket,
                item.url,
                item.event,
                item.content_type,
                item.request_id,
                item.state.value,
                to_us(item.created_at),
                to_us(item.next_at) + ahead_us,
                optional_us(item.ended_at),
            )
            for item in deliveries
        ]
        self._db.insert(_INTO, rows)
        self._db.insert(_INTO_BODIES, [(item.id, item.body) for item in deliveries])

    def get(self, delivery_id: str) -> Delivery | None:
        row = self._db.execute(_GET, {"id": delivery_id}).one_or_none()
        return self._read_delivery(row, bytes(row.body)) if row else None

    def select(self, wanted: DeliveryFilter) -> list[tuple[Delivery, int]]:
        # One query per state, each limited and in index order, then merged: nothing is ever sorted whole.
        pages = [self._page(wanted, state) for state in wanted.states or DeliveryState]
        rows = islice(merge(*pages, key=lambda row: -int(row.seq)), wanted.size)
        return [(self._read_delivery(row, b""), row.seq) for row in rows]

    def _page(self, wanted: DeliveryFilter, state: DeliveryState) -> list[Row[Any]]:
        query = _LISTED.where(delivery.c.state == text(f"'{state}'"))
        if wanted.job_id:
            query = query.where(delivery.c.job_id == wanted.job_id)
        if wanted.url:
            query = query.where(delivery.c.url == wanted.url)
        if wanted.created_from:
            query = query.where(delivery.c.created_us >= to_us(wanted.created_from))
        if wanted.before is not None:
            query = query.where(delivery.c.seq < wanted.before)
        return list(self._db.execute(query.order_by(delivery.c.seq.desc()).limit(wanted.size)))

    def attempts(self, delivery_id: str) -> list[Attempt]:
        return [
            Attempt(
                delivery_id=row.delivery_id,
                number=row.number,
                started_at=from_us(row.started_us),
                outcome=row.outcome,
                status=row.status,
                dns_s=row.dns_us / 1e6,
                connect_s=row.connect_us / 1e6,
                total_s=row.total_us / 1e6,
                response_head=row.response_head,
                response_body=bytes(row.response_body),
                message=row.message,
            )
            for row in self._db.execute(_ATTEMPTS, {"id": delivery_id})
        ]

    # --- for operators ----------------------------------------------------------------------------------------------

    def target(self, url: str) -> Target | None:
        row = self._db.execute(_TARGET, {"url": url}).one_or_none()
        return self._read_target(row) if row else None

    def targets(self, after: str = "", limit: int = 100) -> list[Target]:
        return [self._read_target(row) for row in self._db.execute(_TARGETS, {"after": after, "n": limit})]

    def pause(self, url: str, reason: str) -> Target | None:
        self._db.execute(_PAUSE, {"url": url, "reason": reason})
        return self.target(url)

    def resume(self, url: str) -> Target | None:
        if not self._lock([url]):
            return None
        self._db.execute(_RESUME, {"url": url})
        self._db.execute(_HURRY, {"url": url, "now": self._steady_us})
        self._wake([url])
        return self.target(url)

    def lock_secrets(self, url: str) -> tuple[SigningSecret, ...]:
        return read_secrets(self._ensure([url])[url].secrets)

    def set_secrets(self, url: str, secrets: Sequence[SigningSecret]) -> None:
        self._ensure([url])
        self._db.execute(_SET_SECRETS, {"url": url, "secrets": secrets_text(secrets)})

    def all_bucket_secrets(self) -> dict[str, tuple[SigningSecret, ...]]:
        return {row.bucket: read_secrets(row.secrets) for row in self._db.execute(_BUCKET_SECRETS)}

    def lock_bucket_secrets(self, bucket: str) -> tuple[SigningSecret, ...]:
        self._db.execute(_ADD_BUCKET_SECRETS, {"bucket": bucket})
        return read_secrets(self._execute(_LOCK_BUCKET_SECRETS, bucket=bucket).scalar_one())

    def set_bucket_secrets(self, bucket: str, secrets: Sequence[SigningSecret]) -> None:
        self.lock_bucket_secrets(bucket)
        self._db.execute(_SET_BUCKET_SECRETS, {"bucket": bucket, "secrets": secrets_text(secrets)})

    def set_rate(self, url: str, rate_per_s: float) -> None:
        self._ensure([url])
        self._db.execute(_SET_RATE, {"url": url, "rate": rate_per_s})

    def cancel(self, url: str, limit: int) -> int:
        # Who numbers a delivery holds this lock: all that are numbered are seen here, and the others make a new target.
        if not self._lock([url]):
            return 0
        values = {"url": url, "now": self._now_us, "n": limit}
        count: int = self._db.execute(_CANCEL, values).rowcount
        if count < limit:
            self._db.execute(_REMOVE_TARGET, {"url": url})
        return count

    def replay(self, ids: Sequence[str]) -> set[str]:
        if not ids:
            return set()
        urls = set(self._db.execute(_REPLAY, {"ids": sorted(ids), "now": self._steady_us}).scalars())
        self._wake(urls)
        return urls

    def _wake(self, urls: Iterable[str]) -> None:
        for url in sorted(urls):
            self._db.execute(_WAKE, {"url": url, "now": self._steady_us})

    def ended(self, url: str, since: datetime, limit: int) -> list[str]:
        found: list[str] = []
        for state in _ENDED_STATES:
            values = {"url": url, "state": state.value, "since": to_us(since), "n": limit - len(found)}
            found += self._db.execute(_ENDED, values).scalars()
        return found

    def purge(self, before: datetime, limit: int) -> int:
        found: list[str] = []
        for state in DeliveryState:
            if state is DeliveryState.WAITING:
                continue
            values = {"state": state.value, "before": to_us(before), "n": limit - len(found)}
            found += self._db.execute(_PURGED, values).scalars()
        if found:
            self._db.execute(_DELETE_ATTEMPTS, {"ids": found})
            self._db.execute(_DELETE_BODIES, {"ids": found})
            self._db.execute(_DELETE, {"ids": found})
        return len(found)
