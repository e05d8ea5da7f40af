"""The SQL of the deliverer: admit new deliveries, lease targets, hand out what is due, record attempts.

All statements walk an index, whatever lies behind it: `delivery_new`, `delivery_due`, `target_wake`. `next_us`,
`wake_us` and `open_until_us` are the steady clock's: what is due is neither hurried nor delayed when a clock is set.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, text

from cloudfinite.adapters.dialects import Both
from cloudfinite.adapters.schema_base import from_us, optional_time, optional_us, to_us
from cloudfinite.adapters.schema_deliveries import target
from cloudfinite.adapters.sql import Connection, Insert, SqlUnit, is_postgres
from cloudfinite.domain.delivery import (
    UNKNOWN_OUTCOME,
    Admission,
    Attempt,
    AttemptResult,
    Delivery,
    DeliveryState,
    Due,
    SigningSecret,
    Target,
    TargetLease,
    TargetState,
)

# --- new deliveries
_HELD_ELSEWHERE = """EXISTS (SELECT 1 FROM target WHERE target.url = delivery.url AND target.lease_owner IS NOT NULL
                             AND target.lease_owner <> :owner AND target.wake_us > :now)"""
_NEW_COLUMNS = ("seq", "id", "url")
_NEW = Both.of(f"""
    SELECT seq, id, url FROM delivery {{by:delivery_new}} WHERE state = 'waiting' AND sequence = 0
        AND NOT {_HELD_ELSEWHERE}
    ORDER BY seq LIMIT :n {{lock:FOR UPDATE OF delivery SKIP LOCKED}}""").as_one_row(_NEW_COLUMNS)
_NEW_GIVEN = Both.of(f"""
    SELECT seq, id, url FROM delivery WHERE id {{among:ids}} AND state || '' = 'waiting' AND sequence = 0
        AND NOT {_HELD_ELSEWHERE}
    ORDER BY seq {{lock:FOR UPDATE OF delivery SKIP LOCKED}}""").as_one_row(_NEW_COLUMNS)
_NUMBER = Both.of_rows(
    "UPDATE delivery SET sequence = {sequence}, holder = {holder} FROM {rows} WHERE delivery.seq = {seq}",
    sequence="bigint",
    holder="text",
    seq="bigint",
)

# --- targets
_ADD_TARGET = text("INSERT INTO target (url) VALUES (:url) ON CONFLICT (url) DO NOTHING")
# The order of URLs is that of their characters, as Python sorts them, whatever the database's own is.
_LOCK = Both.of('SELECT * FROM target WHERE url {among:urls} {lock:ORDER BY url COLLATE "C" FOR UPDATE}').as_one_row(
    target.c.keys()
)
_ADVANCE = Both.of_rows(
    "UPDATE target SET next_sequence = {next} FROM {rows} WHERE target.url = {url}", next="bigint", url="text"
)
_SET_WAKE = text("UPDATE target SET wake_us = :wake WHERE url = :url")
_LEASE = text("""
    UPDATE target SET lease_owner = :owner, lease_token = lease_token + 1, wake_us = :until
    WHERE url IN :urls RETURNING *""").bindparams(bindparam("urls", expanding=True))
_DUE_TARGETS = Both.of("""
    SELECT url FROM target {by:target_wake} WHERE wake_us <= :now ORDER BY wake_us LIMIT :n
    {lock:FOR UPDATE SKIP LOCKED}""")
_RENEW = Both.of("""
    UPDATE target SET wake_us = :until
    WHERE url IN (SELECT url FROM target WHERE lease_owner = :owner ORDER BY url {lock:COLLATE "C" FOR UPDATE})
    RETURNING *""")
_OWNED = text("SELECT url FROM target WHERE lease_owner = :owner")
_LEASED = text("SELECT url FROM target WHERE lease_owner IS NOT NULL")
_RELEASE = text("UPDATE target SET lease_owner = NULL, wake_us = :wake WHERE url = :url")
_HELD = text("SELECT url FROM target WHERE url = :url AND lease_owner = :owner AND lease_token = :token")
_LEARN = Both.of_rows(
    """
    UPDATE target SET state = {state}, paused_reason = {paused_reason}, failures_in_row = {failures_in_row},
        failing_since_us = {failing_since_us}, last_success_us = {last_success_us}, open_until_us = {open_until_us}
    FROM {rows} WHERE target.url = {url} AND lease_owner = {owner} AND lease_token = {token}""",
    state="text",
    paused_reason="text",
    failures_in_row="integer",
    failing_since_us="bigint",
    last_success_us="bigint",
    open_until_us="bigint",
    url="text",
    owner="text",
    token="bigint",
)
_NEXT_WAKE = text("SELECT min(wake_us) FROM target")

# --- due deliveries
_DUE = Both.of("""
    SELECT * FROM delivery {by:delivery_due} JOIN delivery_body ON delivery_id = id
    WHERE state = 'waiting' AND url = :url AND next_us <= :now AND sequence > 0 AND NOT id {among:exclude}
        AND EXISTS (SELECT 1 FROM target WHERE target.url = :url AND lease_owner = :owner)
    ORDER BY next_us, seq LIMIT :n""")
# An attempt of unknown outcome is no step of the schedule: a process that is killed again and again uses up none.
_HAND_OUT = Both.of("""
    UPDATE delivery SET holder = :owner,
        attempts = CASE WHEN holder <> :owner THEN attempts + 1 ELSE attempts END,
        replayed_after = CASE WHEN holder <> :owner THEN replayed_after + 1 ELSE replayed_after END
    WHERE id {among:ids}""")
_PUT_BACK = Both.of("UPDATE delivery SET holder = NULL WHERE id {among:ids} AND holder = :owner")
_NEXT_DUE = Both.of("""
    SELECT next_us FROM delivery {by:delivery_due} WHERE state = 'waiting' AND url = :url AND sequence > 0
        AND next_us > :after
    ORDER BY next_us LIMIT 1""")

# --- attempts
_ATTEMPT = Insert(
    "attempt", "delivery_id", "number", "started_us", "outcome", "status", "dns_us", "connect_us", "total_us",
    "response_head", "response_body", "message",
)  # fmt: skip
# Whoever made a POST tells the truth of it, lease or not: an answered delivery is delivered.
# `state || ''`: SQLite would rather walk all that wait than look up the few that are given.
_DELIVERED = Both.of("""
    UPDATE delivery SET state = :state, attempts = attempts + 1, ended_us = :now, holder = NULL
    WHERE id {among:ids} AND state <> :state""")
_RETRY = Both.of_rows(
    """
    UPDATE delivery SET attempts = attempts + 1, next_us = {next}, holder = NULL
    FROM {rows} WHERE delivery.id = {id} AND delivery.state || '' = 'waiting'""",
    id="text",
    next="bigint",
)
_END = Both.of("""
    UPDATE delivery SET state = :state, attempts = attempts + 1, ended_us = :now, holder = NULL
    WHERE id {among:ids} AND state || '' = 'waiting'""")

# --- figures
_WAITING = text("SELECT count(*) FROM delivery WHERE state = 'waiting'")
_OLDEST = text("SELECT created_us FROM delivery WHERE state = 'waiting' ORDER BY seq LIMIT 1")
_OLDEST_NEW = Both.of(f"""
    SELECT next_us FROM delivery {{by:delivery_new}} WHERE state = 'waiting' AND sequence = 0
        AND NOT {_HELD_ELSEWHERE} ORDER BY seq LIMIT 1""")
_SILENT_HOLDER = Both.of("""
    SELECT min(wake_us) FROM target {by:target_wake} WHERE wake_us <= :before
        AND lease_owner IS NOT NULL AND lease_owner <> :owner
        AND EXISTS (SELECT 1 FROM delivery WHERE state = 'waiting' AND url = target.url AND next_us <= :now)""")

_A_SECOND_US = 1_000_000
_LOCKED = 256  # targets in one statement


class SqlTargetRows:
    """The part of `ports.DeliveryRows` that the deliverer uses."""

    def __init__(self, unit: SqlUnit) -> None:
        self._unit = unit

    @property
    def _db(self) -> Connection:
        return self._unit.connection

    @property
    def _now_us(self) -> int:
        return to_us(self._unit.now)

    @property
    def _steady_us(self) -> int:
        return to_us(self._unit.steady)

    @property
    def _ahead_us(self) -> int:
        """By how much the steady clock is before the other one: not at all until that one is set."""
        if is_postgres(self._db):
            return 0
        ahead = self._steady_us - self._now_us
        return ahead if abs(ahead) > _A_SECOND_US else 0

    def _execute(self, statement: Both, **values: Any) -> Any:
        return statement.execute(self._db, **values)

    # --- admit ------------------------------------------------------------------------------------------------------

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
        values = {"owner": owner, "now": self._steady_us}
        rows = _NEW_GIVEN.rows(self._db, ids=list(ids), **values) if ids else self._oldest_new(limit, values)
        new: dict[str, list[Row[Any]]] = {}
        for row in rows:
            new.setdefault(row.url, []).append(row)
        targets = self._ensure(new, leave)
        for url in leave:
            if (target := targets.get(url)) is not None and target.lease_owner == owner:
                self._release(target)
                if url in new:
                    targets |= self._lock([url])
        is_complete = bool(ids) or limit == 0 or len(rows) < limit
        sequences: dict[str, int] = {}
        leased = self._number(new, targets, owner, room, sequences, keep)
        leases = self._lease(leased, owner, lease) if leased else []
        return Admission(leases, sequences, is_complete, frozenset(() if ids else new))

    def _oldest_new(self, limit: int, values: Mapping[str, Any]) -> list[Row[Any]]:
        return _NEW.rows(self._db, n=limit, **values) if limit else []

    def _number(
        self,
        new: Mapping[str, Sequence[Row[Any]]],
        targets: Mapping[str, Row[Any]],
        owner: str,
        room: int,
        sequences: dict[str, int],
        keep: Collection[str],
    ) -> list[str]:
        """Give each new delivery the next number of its target; returns the targets to lease."""
        numbers: list[tuple[int, str | None, int]] = []
        advances: list[tuple[int, str]] = []
        leased: list[str] = []
        for url in sorted(new):
            is_ours = targets[url].lease_owner == owner
            if self._attend(targets[url], owner, can_lease=len(leased) < room):
                leased.append(url)
                is_ours = True
            sequence = targets[url].next_sequence
            for row in new[url]:
                numbers.append((sequence, owner if is_ours and row.id in keep else None, row.seq))
                sequences[row.id] = sequence
                sequence += 1
            advances.append((sequence, url))
        if numbers:
            _ADVANCE.execute_rows(self._db, advances)
            _NUMBER.execute_rows(self._db, numbers)
        return leased

    def _attend(self, target: Row[Any], owner: str, *, can_lease: bool) -> bool:
        """Whether to lease a target that got new deliveries; else see that it is woken for them in time."""
        now = self._steady_us
        is_leased = target.lease_owner is not None and (target.lease_owner == owner or target.wake_us > now)
        if is_leased or target.state != TargetState.ACTIVE:
            return False
        due = max(now, target.open_until_us or 0)
        if due == now and can_lease:
            return True
        if target.wake_us is None or target.wake_us > due:
            self._db.execute(_SET_WAKE, {"url": target.url, "wake": due})
        return False

    def _ensure(self, urls: Iterable[str], more: Iterable[str] = ()) -> dict[str, Row[Any]]:
        """Lock these targets, and make those of `urls` that are missing."""
        found = self._lock({*urls, *more})
        for url in sorted(urls):
            if url not in found:
                self._db.execute(_ADD_TARGET, {"url": url})
                found |= self._lock([url])
        return found

    def _lock(self, urls: Iterable[str]) -> dict[str, Row[Any]]:
        """The targets of these URLs that there are, locked in one order: else two transactions wait for each other."""
        ordered = sorted(urls)
        found: dict[str, Row[Any]] = {}
        for start in range(0, len(ordered), _LOCKED):
            found |= {row.url: row for row in _LOCK.rows(self._db, urls=ordered[start : start + _LOCKED])}
        return found

    # --- lease ------------------------------------------------------------------------------------------------------

    def lease_due(self, owner: str, lease: timedelta, limit: int) -> list[TargetLease]:
        urls = self._execute(_DUE_TARGETS, now=self._steady_us, n=limit).scalars().all()
        return self._lease(urls, owner, lease) if urls else []

    def _lease(self, urls: Sequence[str], owner: str, lease: timedelta) -> list[TargetLease]:
        values = {"urls": list(urls), "owner": owner, "until": self._steady_us + _span_us(lease)}
        return [TargetLease(self._read_target(row), owner, row.lease_token) for row in self._db.execute(_LEASE, values)]

    def renew(self, owner: str, lease: timedelta) -> dict[str, Target]:
        rows = self._execute(_RENEW, owner=owner, until=self._steady_us + _span_us(lease))
        return {row.url: self._read_target(row) for row in rows}

    def release_all(self, owner: str | None = None) -> None:
        statement, values = (_LEASED, {}) if owner is None else (_OWNED, {"owner": owner})
        for row in self._lock(self._db.execute(statement, values).scalars().all()).values():
            if row.lease_owner is not None and owner in (None, row.lease_owner):
                self._release(row)

    def _release(self, target: Row[Any]) -> None:
        """Read what waits only after the target is locked: an admission that ran beside us is seen then."""
        due = self._execute(_NEXT_DUE, url=target.url, after=-1).scalar()
        wake = None
        if due is not None and target.state == TargetState.ACTIVE:
            # Behind those that wait already: a long backlog is no title to the next turn.
            wake = max(due, target.open_until_us or 0, self._steady_us)
        self._db.execute(_RELEASE, {"url": target.url, "wake": wake})

    def next_wake(self) -> timedelta | None:
        wake = self._db.execute(_NEXT_WAKE).scalar()
        return None if wake is None else self._until(wake)

    def _until(self, at_us: int) -> timedelta:
        return timedelta(microseconds=max(0, at_us - self._steady_us))

    # --- take, record -----------------------------------------------------------------------------------------------

    def take_due(self, url: str, owner: str, limit: int, exclude: Sequence[str]) -> Due:
        now = self._steady_us
        rows = self._execute(_DUE, url=url, owner=owner, now=now, n=limit, exclude=list(exclude)).all()
        unknown = 0
        if rows:
            unknown = self._hand_out(rows, owner)
        due = [self._read_delivery(row, bytes(row.body), owner) for row in rows]
        if len(due) == limit:
            return Due(due, timedelta(0), unknown)
        following = self._execute(_NEXT_DUE, url=url, after=now).scalar()
        return Due(due, None if following is None else self._until(following), unknown)

    def _hand_out(self, rows: Sequence[Row[Any]], owner: str) -> int:
        """Note who has these from now on; returns how many somebody else may have sent without telling."""
        lost = [row for row in rows if _is_lost(row, owner)]
        words = f"{lost[0].holder} had it and ended before it told whether it was sent" if lost else ""
        attempts = [Attempt(row.id, row.attempts + 1, self._unit.now, UNKNOWN_OUTCOME, message=words) for row in lost]
        self._db.insert(_ATTEMPT, [_attempt_values(attempt) for attempt in attempts])
        self._execute(_HAND_OUT, ids=[row.id for row in rows], owner=owner)
        return len(lost)

    def put_back(self, owner: str, ids: Sequence[str]) -> None:
        if ids:
            self._execute(_PUT_BACK, ids=sorted(ids), owner=owner)

    def record(self, results: Sequence[AttemptResult], leases: Sequence[TargetLease], as_of: datetime) -> set[str]:
        self._db.insert(_ATTEMPT, [_attempt_values(result.attempt) for result in results])
        self._follow(sorted(results, key=lambda result: result.attempt.delivery_id))
        ordered = sorted(leases, key=lambda lease: lease.target.url)
        learnt = [self._target_values(lease, as_of) for lease in ordered]
        if not learnt or _LEARN.execute_rows(self._db, learnt).rowcount == len(learnt):
            return set()
        return {lease.target.url for lease in ordered if not self._is_held(lease)}

    def _is_held(self, lease: TargetLease) -> bool:
        values = {"url": lease.target.url, "owner": lease.owner, "token": lease.token}
        return self._db.execute(_HELD, values).scalar() is not None

    def _follow(self, results: Sequence[AttemptResult]) -> None:
        ended: dict[DeliveryState, list[str]] = {}
        for result in results:
            ended.setdefault(result.state, []).append(result.attempt.delivery_id)
        if ended.pop(DeliveryState.WAITING, None):
            now = self._steady_us
            waiting = [result for result in results if result.state is DeliveryState.WAITING]
            _RETRY.execute_rows(self._db, [(one.attempt.delivery_id, now + _span_us(one.wait)) for one in waiting])
        for state, ids in ended.items():
            statement = _DELIVERED if state is DeliveryState.DELIVERED else _END
            self._execute(statement, ids=ids, now=self._now_us, state=state.value)

    # --- figures ----------------------------------------------------------------------------------------------------

    def late(self, owner: str, silence: timedelta, lease: timedelta) -> timedelta:
        now = self._steady_us
        wake = self._db.execute(_NEXT_WAKE).scalar()
        new = self._execute(_OLDEST_NEW, owner="", now=now).scalar()
        before = now + _span_us(lease - silence)
        silent = self._execute(_SILENT_HOLDER, owner=owner, now=now, before=before).scalar()
        heard = None if silent is None else silent - _span_us(lease)
        late_us = max((now - at for at in (wake, new, heard) if at is not None), default=0)
        return timedelta(microseconds=max(0, late_us))

    def backlog(self) -> tuple[int, datetime | None]:
        oldest = self._db.execute(_OLDEST).scalar()
        return self._db.execute(_WAITING).scalar_one(), optional_time(oldest)

    # --- rows and values --------------------------------------------------------------------------------------------

    def _read_delivery(self, row: Row[Any], body: bytes, owner: str = "") -> Delivery:
        """With an owner, as it is once it was handed out to that one."""
        lost = bool(owner) and _is_lost(row, owner)
        return Delivery(
            id=row.id,
            job_id=row.job_id,
            bucket=row.bucket,
            url=row.url,
            content_type=row.content_type,
            body=body,
            created_at=from_us(row.created_us),
            next_at=from_us(row.next_us - self._ahead_us),
            request_id=row.request_id,
            event=row.event,
            state=DeliveryState(row.state),
            attempts=row.attempts + lost,
            replayed_after=row.replayed_after + lost,
            sequence=row.sequence,
            ended_at=optional_time(row.ended_us),
        )

    def _read_target(self, row: Row[Any]) -> Target:
        is_open = row.open_until_us is not None
        return Target(
            url=row.url,
            state=TargetState(row.state),
            paused_reason=row.paused_reason,
            failures_in_row=row.failures_in_row,
            open_until=from_us(row.open_until_us - self._ahead_us) if is_open else None,
            last_success_at=optional_time(row.last_success_us),
            failing_since=optional_time(row.failing_since_us),
            next_sequence=row.next_sequence,
            secrets=read_secrets(row.secrets),
            rate_per_s=row.rate_per_s,
        )

    def _target_values(self, lease: TargetLease, as_of: datetime) -> tuple[Any, ...]:
        """In the order of `_LEARN`."""
        target = lease.target
        until = target.open_until
        return (
            target.state.value,
            target.paused_reason,
            target.failures_in_row,
            optional_us(target.failing_since),
            optional_us(target.last_success_at),
            None if until is None else self._steady_us + _span_us(until - as_of),
            target.url,
            lease.owner,
            lease.token,
        )


def _is_lost(row: Row[Any], owner: str) -> bool:
    return row.holder is not None and row.holder != owner


def _span_us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


def read_secrets(words: str) -> tuple[SigningSecret, ...]:
    return tuple(
        SigningSecret(base64.b64decode(item["sealed"]), optional_time(item["until_us"])) for item in json.loads(words)
    )


def secrets_text(secrets: Sequence[SigningSecret]) -> str:
    return json.dumps(
        [
            {"sealed": base64.b64encode(secret.sealed).decode(), "until_us": optional_us(secret.until)}
            for secret in secrets
        ]
    )


def _attempt_values(attempt: Attempt) -> tuple[Any, ...]:
    """In the order of `_ATTEMPT`."""
    return (
        attempt.delivery_id,
        attempt.number,
        to_us(attempt.started_at),
        attempt.outcome,
        attempt.status,
        round(attempt.dns_s * 1e6),
        round(attempt.connect_s * 1e6),
        round(attempt.total_s * 1e6),
        attempt.response_head,
        attempt.response_body,
        attempt.message,
    )
