"""DeliveryRows on both databases: numbering, leases, what is due, records, and what operators do."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from cloudfinite.adapters.store import PostgresStore, SqliteStore
from cloudfinite.domain.delivery import (
    Attempt,
    AttemptResult,
    Delivery,
    DeliveryFilter,
    DeliveryState,
    SigningSecret,
    Target,
    TargetLease,
    TargetState,
)
from cloudfinite.domain.ids import new_delivery_id
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.outbox import Wanted, look

LEASE = timedelta(seconds=10)
NOW = datetime(2026, 1, 5, 2, 0, tzinfo=UTC)  # where the test's clock stands; long ago for PostgreSQL's
URL = "http://hooks.example/ci"


def delivery(url: str = URL, *, age_s: float = 0, **changes: object) -> Delivery:
    at = NOW - timedelta(seconds=age_s)
    made = Delivery(new_delivery_id(), "j1", "b-1", url, "application/xml", b"<x/>", created_at=at, next_at=at)
    return made._replace(**changes)


def insert(tx: Transaction, *deliveries: Delivery) -> None:
    for one in deliveries:
        tx.deliveries.insert(one)


async def insert_new(store: Store, count: int = 1, url: str = URL) -> list[Delivery]:
    made = [delivery(url, age_s=count - n) for n in range(count)]
    await store.run(insert, *made)
    return made


async def admit(store: Store, owner: str = "me", room: int = 10, ids: Sequence[str] = ()) -> dict[str, int]:
    return (await store.run(lambda tx: tx.deliveries.admit(owner, LEASE, room, 100, ids))).sequences


async def lease_due(store: Store, owner: str = "me") -> list[TargetLease]:
    return await store.run(lambda tx: tx.deliveries.lease_due(owner, LEASE, 10))


async def take(
    store: Store, exclude: Sequence[str] = (), limit: int = 10, owner: str = "me"
) -> tuple[list[str], timedelta | None]:
    found = await store.run(lambda tx: tx.deliveries.take_due(URL, owner, limit, exclude))
    return [one.id for one in found.deliveries], found.wait


async def release(store: Store, owner: str = "me") -> None:
    await store.run(lambda tx: tx.deliveries.release_all(owner))


def result(one: Delivery, state: DeliveryState, wait_s: float = 0, outcome: str = "http_500") -> AttemptResult:
    return AttemptResult(
        Attempt(one.id, one.attempts + 1, NOW, outcome, 500, 0.1, 0.2, 0.3, "A: b", b"\xff\0x", "why"),
        state,
        timedelta(seconds=wait_s),
    )


async def record(store: Store, results: Sequence[AttemptResult], leases: Sequence[TargetLease] = ()) -> set[str]:
    return await store.run(lambda tx: tx.deliveries.record(results, leases, tx.now))


async def get(store: Store, one: Delivery) -> Delivery:
    found = await store.read(lambda tx: tx.deliveries.get(one.id))
    assert found is not None
    return found


async def test_delivery_is_stored_whole(store: Store) -> None:
    made = delivery(request_id="r", event="Test", body=bytes(range(256)))
    await store.run(insert, made)
    assert await get(store, made) == made


async def test_admission_numbers_without_gaps_per_target(store: Store) -> None:
    first = await insert_new(store, 3)
    other = await insert_new(store, 1, "http://other.example/")
    numbers = await admit(store)
    assert [numbers[one.id] for one in (*first, *other)] == [1, 2, 3, 1]
    more = await insert_new(store, 2)
    again = await admit(store, ids=[one.id for one in (*more, *first)])
    assert [again[one.id] for one in more] == [4, 5] and len(again) == 2


async def test_admission_in_parts_says_whether_it_is_complete(store: Store) -> None:
    await insert_new(store, 5)
    found = [await store.run(lambda tx: tx.deliveries.admit("me", LEASE, 1, 3)) for _ in range(2)]
    assert [(len(one.sequences), one.is_complete) for one in found] == [(3, False), (2, True)]


async def test_target_is_leased_by_one_deliverer_at_a_time(store: Store) -> None:
    await insert_new(store)
    await admit(store)
    assert await lease_due(store, "other") == []
    await insert_new(store)
    assert await admit(store, "other") == {}  # its holder admits it
    assert len(await admit(store)) == 1


async def test_released_target_is_leased_again_when_something_is_due(store: Store) -> None:
    (made,) = await insert_new(store)
    await admit(store)
    await release(store)
    (lease,) = await lease_due(store, "other")
    assert (lease.target.url, lease.owner, lease.token) == (URL, "other", 2)
    await record(store, [result(made, DeliveryState.DELIVERED)], [lease])
    await release(store, "other")
    assert await lease_due(store) == []
    assert await store.read(lambda tx: tx.deliveries.next_wake()) is None


async def hand_out(store: Store, made: Sequence[Delivery], owner: str) -> None:
    """Number them, and give them to the owner at once."""
    ids = [one.id for one in made]
    await store.run(lambda tx: tx.deliveries.admit(owner, LEASE, 100, 0, ids, keep=ids))


async def outcomes(store: Store, one: Delivery) -> list[tuple[int, str]]:
    found = await store.read(lambda tx: tx.deliveries.attempts(one.id))
    return [(attempt.number, attempt.outcome) for attempt in found]


async def test_what_a_dead_owner_had_gets_an_attempt_of_unknown_outcome_that_costs_no_step(store: Store) -> None:
    had, new = await insert_new(store, 2)
    await hand_out(store, [had], "dead")
    await admit(store, "dead")  # the other one is numbered only: nobody can have sent it
    await store.run(lambda tx: tx.deliveries.release_all())
    await lease_due(store)
    found = await store.run(lambda tx: tx.deliveries.take_due(URL, "me", 10, []))
    assert found.unknown == 1
    assert [(one.id, one.attempts, one.replayed_after) for one in found.deliveries] == [(had.id, 1, 1), (new.id, 0, 0)]
    assert await take(store) == ([had.id, new.id], None)  # by the same owner again: nothing is told twice
    assert (await outcomes(store, had), await outcomes(store, new)) == ([(1, "unknown")], [])
    await record(store, [result(found.deliveries[0], DeliveryState.DELIVERED, outcome="delivered")])
    assert await outcomes(store, had) == [(1, "unknown"), (2, "delivered")]
    assert (await get(store, had)).attempts == 2


async def test_what_was_put_back_or_recorded_leaves_no_unknown_outcome(store: Store) -> None:
    back, ended = await insert_new(store, 2)
    await hand_out(store, [back, ended], "first")
    await record(store, [result(ended, DeliveryState.WAITING)])
    await store.run(lambda tx: tx.deliveries.put_back("other", [ended.id]))  # not its own: nothing happens
    await store.run(lambda tx: tx.deliveries.put_back("first", [back.id]))
    await store.run(lambda tx: tx.deliveries.release_all())
    await lease_due(store)
    found = await store.run(lambda tx: tx.deliveries.take_due(URL, "me", 10, []))
    assert (found.unknown, {one.id for one in found.deliveries}) == (0, {back.id, ended.id})


async def test_nothing_is_handed_out_to_who_does_not_hold_the_target(store: Store) -> None:
    await insert_new(store, 2)
    await admit(store, "holder")
    assert (await take(store, owner="other"))[0] == []
    assert len((await take(store, owner="holder"))[0]) == 2


async def test_retry_is_due_only_after_its_wait(store: Store) -> None:
    (made,) = await insert_new(store)
    await admit(store)
    await record(store, [result(made, DeliveryState.WAITING, wait_s=60)])
    found, wait = await take(store)
    assert found == [] and wait is not None and 50 < wait.total_seconds() <= 60
    assert (await get(store, made)).attempts == 1
    await release(store)
    assert await lease_due(store) == []
    wake = await store.read(lambda tx: tx.deliveries.next_wake())
    assert wake is not None and 50 < wake.total_seconds() <= 60


async def test_due_deliveries_come_oldest_first_and_without_known_ones(store: Store) -> None:
    made = await insert_new(store, 5)
    await admit(store)
    ids = [one.id for one in made]
    assert await take(store, limit=2) == (ids[:2], timedelta(0))
    assert await take(store, exclude=ids[:2]) == (ids[2:], None)


async def test_unadmitted_deliveries_are_not_taken(store: Store) -> None:
    await insert_new(store)
    assert await take(store) == ([], None)


async def test_attempts_are_kept_in_order_with_all_they_tell(store: Store) -> None:
    (made,) = await insert_new(store)
    await admit(store)
    results = [result(made, DeliveryState.WAITING), result(made, DeliveryState.DELIVERED, outcome="delivered")]
    for one in results:
        await record(store, [one])
    assert await store.read(lambda tx: tx.deliveries.attempts(made.id)) == [one.attempt for one in results]
    stored = await get(store, made)
    assert (stored.state, stored.attempts, stored.body) == (DeliveryState.DELIVERED, 2, made.body)


async def test_what_the_holder_learnt_is_kept_with_the_target(store: Store) -> None:
    await insert_new(store)
    admitted = await store.run(lambda tx: tx.deliveries.admit("me", LEASE, 1, 10))
    learnt = replace(
        admitted.leases[0].target,
        failures_in_row=3,
        failing_since=NOW,
        last_success_at=NOW - timedelta(days=1),
        open_until=NOW + timedelta(seconds=30),
        next_sequence=2,
    )
    assert await record(store, [], [replace(admitted.leases[0], target=learnt)]) == set()
    assert await store.read(lambda tx: tx.deliveries.target(URL)) == learnt


async def test_lost_lease_changes_no_target_but_attempts_count(store: Store) -> None:
    (made,) = await insert_new(store)
    lease = (await store.run(lambda tx: tx.deliveries.admit("me", LEASE, 1, 10))).leases[0]
    await release(store)
    (newer,) = await lease_due(store, "other")
    stale = replace(lease, target=replace(lease.target, failures_in_row=9))
    assert await record(store, [result(made, DeliveryState.DELIVERED)], [stale]) == {URL}
    assert (await get(store, made)).state is DeliveryState.DELIVERED
    assert len(await store.read(lambda tx: tx.deliveries.attempts(made.id))) == 1
    assert await store.read(lambda tx: tx.deliveries.target(URL)) == newer.target


async def test_renewal_tells_which_targets_are_still_ours(store: Store) -> None:
    await insert_new(store, 1)
    await insert_new(store, 1, "http://other.example/")
    await admit(store)
    await store.run(lambda tx: tx.deliveries.pause(URL, "why"))
    assert set(await store.run(lambda tx: tx.deliveries.renew("me", LEASE))) == {"http://other.example/"}


async def test_open_target_is_not_leased_before_its_time(sqlite_store: Store, clock: object) -> None:
    (made,) = await insert_new(sqlite_store)
    lease = (await sqlite_store.run(lambda tx: tx.deliveries.admit("me", LEASE, 1, 10))).leases[0]
    opened = replace(lease, target=replace(lease.target, open_until=NOW + timedelta(seconds=30)))
    await record(sqlite_store, [result(made, DeliveryState.WAITING)], [opened])
    await release(sqlite_store)
    await insert_new(sqlite_store)
    await admit(sqlite_store)
    assert await lease_due(sqlite_store) == []
    clock.advance(31)  # type: ignore[attr-defined]
    assert len(await lease_due(sqlite_store)) == 1


async def test_expired_lease_is_taken_over(sqlite_store: Store, clock: object) -> None:
    await insert_new(sqlite_store)
    await admit(sqlite_store, "dead")
    clock.advance(9)  # type: ignore[attr-defined]
    assert await lease_due(sqlite_store) == []
    clock.advance(2)  # type: ignore[attr-defined]
    assert [lease.owner for lease in await lease_due(sqlite_store)] == ["me"]


async def test_paused_target_keeps_its_deliveries_until_resumed(store: Store) -> None:
    made = await insert_new(store, 2)
    await admit(store)
    await record(store, [result(made[0], DeliveryState.WAITING, wait_s=3600)])
    paused = await store.run(lambda tx: tx.deliveries.pause(URL, "broken"))
    assert paused is not None and (paused.state, paused.paused_reason) == (TargetState.PAUSED, "broken")
    await insert_new(store)
    assert len(await admit(store)) == 1  # numbered, in their order
    assert await lease_due(store) == []
    resumed = await store.run(lambda tx: tx.deliveries.resume(URL))
    assert resumed is not None and resumed.state is TargetState.ACTIVE
    assert len(await lease_due(store)) == 1
    assert len((await take(store))[0]) == 3  # the retry that was an hour away too


async def test_resumed_target_gets_its_oldest_deliveries_first(store: Store) -> None:
    """Those that failed as well: due already, or an hour away."""
    made = await insert_new(store, 4)
    await admit(store)
    for one, wait_s in ((made[0], 0), (made[2], 3600)):
        await record(store, [result(one, DeliveryState.WAITING, wait_s)])
    await store.run(lambda tx: tx.deliveries.pause(URL, "broken"))
    await store.run(lambda tx: tx.deliveries.resume(URL))
    await lease_due(store)
    assert (await take(store))[0] == [one.id for one in made]


async def test_replay_gives_an_ended_delivery_a_fresh_schedule(store: Store) -> None:
    made = await insert_new(store, 3)
    await admit(store)
    await record(store, [result(one, DeliveryState.FAILED) for one in made[:2]])
    await record(store, [result(made[2], DeliveryState.DELIVERED)])
    await release(store)
    failed = await store.read(lambda tx: tx.deliveries.ended(URL, NOW - timedelta(days=1), 10))
    assert failed == [one.id for one in made[:2]]
    assert await store.read(lambda tx: tx.deliveries.ended(URL, NOW + timedelta(days=1), 10)) == []
    assert await store.run(lambda tx: tx.deliveries.replay([*failed, "unknown"])) == {URL}
    again = await get(store, made[0])
    assert (again.state, again.attempts, again.replayed_after, again.sequence) == (DeliveryState.WAITING, 1, 1, 1)
    assert len(await lease_due(store)) == 1


async def test_lists_are_paged_newest_first_and_filtered(store: Store) -> None:
    made = await insert_new(store, 5)
    await insert_new(store, 1, "http://other.example/")
    await admit(store)
    await record(store, [result(made[1], DeliveryState.FAILED)])

    async def listed(wanted: DeliveryFilter) -> list[tuple[Delivery, int]]:
        return await store.read(lambda tx: tx.deliveries.select(wanted))

    first = await listed(DeliveryFilter(url=URL, size=3))
    rest = await listed(DeliveryFilter(url=URL, size=3, before=first[-1][1]))
    assert [one.id for one, _ in first + rest] == [one.id for one in reversed(made)]
    failed = await listed(DeliveryFilter(states=frozenset({DeliveryState.FAILED})))
    assert [(one.id, one.body) for one, _ in failed] == [(made[1].id, b"")]
    assert len(await listed(DeliveryFilter(job_id="j1"))) == 6
    assert await listed(DeliveryFilter(job_id="none")) == []


async def test_secrets_are_kept_with_a_new_or_known_target(store: Store) -> None:
    secrets = (SigningSecret(b"\0new"), SigningSecret(b"old", NOW))
    await store.run(lambda tx: tx.deliveries.set_secrets(URL, secrets))
    assert await store.read(lambda tx: tx.deliveries.targets()) == [Target(URL, secrets=secrets)]


async def test_secrets_of_buckets_are_kept_beside_one_another(store: Store) -> None:
    secrets = (SigningSecret(b"new"), SigningSecret(b"", NOW))
    await store.run(lambda tx: tx.deliveries.set_bucket_secrets("b-1", secrets))
    assert await store.run(lambda tx: tx.deliveries.lock_bucket_secrets("b-2")) == ()
    assert await store.run(lambda tx: tx.deliveries.lock_bucket_secrets("b-1")) == secrets
    assert await store.read(lambda tx: tx.deliveries.all_bucket_secrets()) == {"b-1": secrets, "b-2": ()}


async def test_rate_is_kept_with_a_new_or_known_target(store: Store) -> None:
    for rate in (2.5, 0.0):
        await store.run(lambda tx, rate=rate: tx.deliveries.set_rate(URL, rate))  # type: ignore[misc]
        assert await store.read(lambda tx: tx.deliveries.target(URL)) == Target(URL, rate_per_s=rate)


async def test_cancelling_ends_what_waits_in_parts_and_then_the_target(store: Store) -> None:
    made = await insert_new(store, 5)
    await insert_new(store, 1, "http://other.example/")
    await admit(store, ids=[one.id for one in made[:3]])
    await record(store, [result(made[0], DeliveryState.DELIVERED)])
    assert [await store.run(lambda tx: tx.deliveries.cancel(URL, 3)) for _ in range(2)] == [3, 1]
    assert [(await get(store, one)).state.value for one in made] == ["delivered"] + ["cancelled"] * 4
    assert await store.read(lambda tx: tx.deliveries.target(URL)) is None
    assert await store.run(lambda tx: tx.deliveries.cancel(URL, 3)) == 0
    assert (await store.read(lambda tx: tx.deliveries.backlog()))[0] == 1


async def test_breaker_is_told_by_the_holders_clock_and_kept_by_the_stores(store: Store) -> None:
    await insert_new(store)
    lease = (await store.run(lambda tx: tx.deliveries.admit("me", LEASE, 1, 10))).leases[0]
    theirs = datetime(2001, 1, 1, tzinfo=UTC)
    opened = replace(lease, target=replace(lease.target, open_until=theirs + timedelta(seconds=30)))
    now = await store.run(lambda tx: (tx.deliveries.record([], [opened], theirs), tx.now)[1])
    target = await store.read(lambda tx: tx.deliveries.target(URL))
    assert target is not None and target.open_until is not None
    assert abs(target.open_until - now - timedelta(seconds=30)) < timedelta(seconds=1)


async def test_holder_that_is_silent_while_something_is_due_counts_as_late(sqlite_store: Store, clock: object) -> None:
    async def late(owner: str) -> float:
        silence = timedelta(seconds=4)
        return (await sqlite_store.read(lambda tx: tx.deliveries.late(owner, silence, LEASE))).total_seconds()

    (made,) = await insert_new(sqlite_store)
    await admit(sqlite_store, "frozen")
    clock.advance(3)  # type: ignore[attr-defined]
    assert await late("other") == 0
    clock.advance(2)  # type: ignore[attr-defined]
    assert (await late("other"), await late("frozen")) == (5, 0)
    await record(sqlite_store, [result(made, DeliveryState.WAITING, 60)])
    assert await late("other") == 0  # nothing is due


async def test_set_clock_moves_nothing_that_is_due(tmp_path: Path, clock: object) -> None:
    even = clock.at  # type: ignore[attr-defined]
    store = SqliteStore(tmp_path / "store.db", clock=clock, steady=lambda: even, synchronous="OFF")  # type: ignore[arg-type]
    (made,) = await insert_new(store)
    await admit(store)
    await record(store, [result(made, DeliveryState.WAITING, 60)])
    clock.advance(3_600)  # type: ignore[attr-defined]
    assert await take(store) == ([], timedelta(seconds=60))
    assert (await get(store, made)).next_at == clock.at + timedelta(seconds=60)  # type: ignore[attr-defined]
    clock.advance(-7_200)  # type: ignore[attr-defined]
    even += timedelta(seconds=61)
    assert (await take(store))[0] == [made.id]
    await store.close()


async def test_purge_removes_ended_deliveries_with_their_attempts(store: Store) -> None:
    made = await insert_new(store, 3)
    await admit(store)
    await record(store, [result(made[0], DeliveryState.DELIVERED), result(made[1], DeliveryState.FAILED)])
    later = NOW + timedelta(days=1)
    assert await store.run(lambda tx: tx.deliveries.purge(NOW - timedelta(days=1), 10)) == 0
    assert await store.run(lambda tx: tx.deliveries.purge(later, 10)) == 2
    assert await store.read(lambda tx: tx.deliveries.attempts(made[0].id)) == []
    assert [one.id for one, _ in await store.read(lambda tx: tx.deliveries.select(DeliveryFilter()))] == [made[2].id]


async def test_figures_tell_what_waits_and_what_is_nobodys(sqlite_store: Store, clock: object) -> None:
    made = await insert_new(sqlite_store, 2)
    clock.advance(7)  # type: ignore[attr-defined]
    assert await sqlite_store.read(lambda tx: tx.deliveries.backlog()) == (2, made[0].created_at)
    assert (await sqlite_store.read(lambda tx: tx.deliveries.late("", LEASE, LEASE))).total_seconds() == 9
    await admit(sqlite_store)
    assert await sqlite_store.read(lambda tx: tx.deliveries.late("", LEASE, LEASE)) == timedelta(0)


async def test_hot_statements_walk_their_index_after_analyze(sqlite_store: SqliteStore) -> None:
    # A table of a few rows would be walked whole, and rightly.
    await sqlite_store.run(insert, *(delivery(f"{URL}/{number % 300}") for number in range(900)))
    await sqlite_store.run(lambda tx: tx.deliveries.admit("me", LEASE, 1_000, 1_000))
    await insert_new(sqlite_store, 50)
    plans: dict[str, str] = {}

    def explain(tx: Transaction) -> None:
        db = tx.connection  # type: ignore[attr-defined]
        db.execute(text("ANALYZE"))
        from cloudfinite.adapters import store_targets

        values = {"url": URL, "now": 1, "n": 1, "exclude": "[]", "after": 0, "owner": "me", "rows": "[]"}
        values |= {"ids": "[]", "urls": "[]", "state": "delivered"}
        for name in (*walked, *given):
            statement = getattr(store_targets, name)
            words = getattr(statement, "sqlite", statement).text
            explained = text(f"EXPLAIN QUERY PLAN {words}")
            wanted = {name: value for name, value in values.items() if name in explained._bindparams}
            plans[name] = " ".join(row.detail for row in db.execute(explained, wanted))

    walked = ("_NEW", "_DUE", "_NEXT_DUE", "_DUE_TARGETS")
    given = (
        "_HAND_OUT",
        "_PUT_BACK",
        "_NEW_GIVEN",
        "_LOCK",
        "_NUMBER",
        "_ADVANCE",
        "_LEARN",
        "_DELIVERED",
        "_RETRY",
        "_END",
    )
    await sqlite_store.run(explain)
    assert all("USING" in plan for plan in plans.values()), plans
    assert "delivery_due (url=? AND next_us<?)" in plans["_DUE"]
    by_key = (
        "sqlite_autoindex_delivery_1 (id=?)",
        "INTEGER PRIMARY KEY (rowid=?)",
        "sqlite_autoindex_target_1 (url=?)",
    )
    assert all(any(key in plans[name] for key in by_key) for name in given), plans


async def test_two_deliverers_never_hold_the_same_target(postgres_store: Store) -> None:
    for n in range(20):
        await insert_new(postgres_store, 2, f"http://t{n}.example/")

    async def look(owner: str) -> set[str]:
        held: set[str] = set()
        for _ in range(10):
            admitted = await postgres_store.run(lambda tx: tx.deliveries.admit(owner, LEASE, 3, 7))
            leased = await postgres_store.run(lambda tx: tx.deliveries.lease_due(owner, LEASE, 3))
            held |= {lease.target.url for lease in (*admitted.leases, *leased)}
        return held

    held = await asyncio.gather(*(look(owner) for owner in ("a", "b", "c")))
    assert len(set.union(*held)) == 20 == sum(map(len, held))
    listed = await postgres_store.read(lambda tx: tx.deliveries.select(DeliveryFilter(size=100)))
    assert sorted(one.sequence for one, _ in listed) == [1] * 20 + [2] * 20


async def test_one_look_locks_targets_in_one_order_whatever_it_does_with_them(postgres_store: PostgresStore) -> None:
    """Else two deliverers wait for each other: one lets go of z and gets news for a, the other the other way round."""
    first, last = "http://a.example/", "http://z.example/"
    await insert_new(postgres_store, 1, first)
    await insert_new(postgres_store, 1, last)
    await admit(postgres_store)
    (news,) = await insert_new(postgres_store, 1, first)
    wanted = Wanted((news.id,), is_scan=False, room=10, fill=[], leave=[last])
    lock = text("SELECT 1 FROM target WHERE url = :url FOR UPDATE NOWAIT")
    waiting = text("SELECT 1 FROM pg_locks WHERE NOT granted")

    with postgres_store.engine.begin() as other:
        other.execute(lock, {"url": first})
        looking = asyncio.create_task(postgres_store.run(look, "me", LEASE, wanted))
        async with asyncio.timeout(10):
            while not other.execute(waiting).scalar():
                await asyncio.sleep(0.005)
        other.execute(lock, {"url": last})  # nothing behind what the look waits for is locked yet
    assert (await looking).admission.sequences == {news.id: 2}


@pytest.mark.parametrize("owner", ["me", None])
async def test_targets_of_dead_owners_can_be_freed_at_once(store: Store, owner: str | None) -> None:
    await insert_new(store)
    await admit(store)
    await store.run(lambda tx: tx.deliveries.release_all(owner))
    assert len(await lease_due(store, "other")) == 1
