"""The deliverer over a real store and real sockets: nothing is lost, repeats are identical, nobody delays another."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook
from tests.support.delivery_desk import LIMITS, SECRET, SETTINGS, Desk, desk_on, insert, statuses
from tests.support.fault_server import FaultServer, Peer, answer_ok, fault_server, never_answer

from cloudfinite.adapters.store import SqliteStore, system_clock
from cloudfinite.domain.delivery import Delivery, DeliveryState, RetrySchedule, TargetState
from cloudfinite.domain.ids import new_delivery_id
from cloudfinite.domain.job import CallbackFormat
from cloudfinite.errors import ServiceUnavailable
from cloudfinite.ports import Store
from cloudfinite.service.targets import TargetLimits


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[Store]:
    """On the real clock: what is due becomes due."""
    store = SqliteStore(tmp_path / "store.db", synchronous="OFF")
    yield store
    await store.close()


# --- one delivery --------------------------------------------------------------------------------------------------


async def test_delivery_arrives_signed_with_its_headers(store: Store) -> None:
    async with fault_server() as receiver, desk_on(store) as desk:
        (made,) = await desk.put(receiver.url + "/cb")
        await desk.wait_ended(made)
        (peer,) = receiver.requests
        headers = peer.headers
        Webhook(SECRET).verify(peer.body, headers)
        assert headers["webhook-id"] == made.id and headers["x-ci-request-id"] == "req"
        assert headers["content-type"] == "application/xml" and headers["user-agent"].startswith("cloudfinite/")
        assert (headers["cloudfinite-attempt"], headers["cloudfinite-sequence"]) == ("1", "1")
        assert peer.body == made.body


async def test_failed_attempts_are_repeated_with_the_same_id_and_bytes(store: Store) -> None:
    async with fault_server(statuses(500, 302, 404, 200)) as receiver, desk_on(store) as desk:
        (made,) = await desk.put(receiver.url)
        ended = await desk.wait_ended(made)
        assert (ended.state, ended.attempts) == (DeliveryState.DELIVERED, 4)
        assert {(peer.headers["webhook-id"], peer.body) for peer in receiver.requests} == {(made.id, made.body)}
        assert [peer.headers["cloudfinite-attempt"] for peer in receiver.requests] == ["1", "2", "3", "4"]
        assert {peer.headers["cloudfinite-sequence"] for peer in receiver.requests} == {"1"}
        _, attempts = await desk.get(made)
        assert [one.outcome for one in attempts] == ["http_500", "http_302", "http_404", "delivered"]
        assert attempts[0].response_body == b"said" and "Content-Length: 4" in attempts[0].response_head
        assert (desk.count("http_5xx"), desk.count("delivered")) == (1, 1)


async def test_used_up_schedule_ends_failed(sqlite_store: Store) -> None:
    async with fault_server(statuses(500)) as receiver, desk_on(sqlite_store) as desk:
        (made,) = await desk.put(receiver.url)
        ended = await desk.wait_ended(made)
        assert (ended.state, ended.attempts, len(receiver.requests)) == (DeliveryState.FAILED, 4, 4)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
async def test_every_2xx_delivers(sqlite_store: Store, status: int) -> None:
    async with fault_server(statuses(status)) as receiver, desk_on(sqlite_store) as desk:
        (made,) = await desk.put(receiver.url)
        assert (await desk.wait_ended(made)).state is DeliveryState.DELIVERED


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 403, 404, 415, 422, 429, 500, 502, 503, 504])
async def test_other_answers_are_retried(sqlite_store: Store, status: int) -> None:
    async with fault_server(statuses(status, 200)) as receiver, desk_on(sqlite_store) as desk:
        (made,) = await desk.put(receiver.url)
        assert (await desk.wait_ended(made)).attempts == 2


async def test_gone_ends_the_delivery_and_pauses_the_target(sqlite_store: Store) -> None:
    async with fault_server(statuses(410, 200)) as receiver, desk_on(sqlite_store) as desk:
        (made,) = await desk.put(receiver.url)
        assert (await desk.wait_ended(made)).state is DeliveryState.FAILED
        (later,) = await desk.put(receiver.url)
        await desk.wait_until(later, lambda one: one.sequence == 2)
        (target,) = await desk.service.list_targets()
        assert target.state is TargetState.PAUSED and "410" in target.paused_reason
        assert len(receiver.requests) == 1
        await desk.service.resume_target(receiver.url)
        await desk.wait_ended(later)
        await desk.service.replay_delivery(made.id)
        assert (await desk.wait_until(made, lambda one: one.state is DeliveryState.DELIVERED)).attempts == 2


async def test_refused_address_is_not_retried_and_says_what_would_allow_it(sqlite_store: Store) -> None:
    async with desk_on(sqlite_store) as desk:
        (made,) = await desk.put("http://198.18.0.1/cb")
        ended = await desk.wait_ended(made)
        _, attempts = await desk.get(made)
        assert ended.state is DeliveryState.REFUSED
        assert [one.outcome for one in attempts] == ["refused_by_policy"] and "allow_cidrs" in attempts[0].message


async def test_receivers_wish_to_wait_holds_back_others_too(sqlite_store: Store) -> None:
    behaviour = statuses(503, 200, headers="Retry-After: 1\r\n")
    async with fault_server(behaviour) as receiver, desk_on(sqlite_store) as desk:
        (first,) = await desk.put(receiver.url)
        await receiver.wait_for(1)
        await desk.wait_until(first, lambda one: one.attempts == 1)
        started = time.monotonic()
        (second,) = await desk.put(receiver.url)
        await desk.wait_ended(second)
        assert time.monotonic() - started > 0.8
        await desk.wait_ended(first)
        assert [len(receiver.requests), (await desk.get(second))[0].attempts] == [3, 1]


async def test_error_in_the_sender_is_an_attempt_and_is_retried(sqlite_store: Store) -> None:
    class Broken:
        calls = 0

        async def post(self, url: str, headers: object, body: bytes) -> object:
            self.calls += 1
            raise RuntimeError("a bug")

    broken = Broken()
    async with desk_on(sqlite_store, sender=broken) as desk:  # type: ignore[arg-type]
        (made,) = await desk.put("http://127.0.0.1:1/")
        assert ((await desk.wait_ended(made)).state, broken.calls) == (DeliveryState.FAILED, 4)


# --- crash, restart, several deliverers ----------------------------------------------------------------------------


async def test_deliveries_that_nobody_told_of_are_found(store: Store) -> None:
    async with fault_server() as receiver:
        async with desk_on(store) as desk:
            await desk.put(receiver.url, 300, is_told=False)
            await desk.wait_delivered(300)
        assert sorted(int(peer.headers["cloudfinite-sequence"]) for peer in receiver.requests) == list(range(1, 301))


async def test_restart_resumes_what_waited(sqlite_store: Store) -> None:
    async with fault_server(statuses(500)) as receiver:
        patient = replace(SETTINGS, schedule=RetrySchedule.of([0, 0.6]))
        async with desk_on(sqlite_store, patient, owner="first") as desk:
            (made,) = await desk.put(receiver.url)
            await desk.wait_until(made, lambda one: one.attempts == 1)
        receiver.behaviour = answer_ok
        async with desk_on(sqlite_store, patient, owner="second") as desk:
            assert (await desk.wait_ended(made)).state is DeliveryState.DELIVERED
            assert len(receiver.requests) == 2


async def test_crash_between_answer_and_commit_repeats_the_same_callback(sqlite_store: Store) -> None:
    class NeverRecords:
        """A store whose process dies before it commits an attempt."""

        def __getattr__(self, name: str) -> object:
            return getattr(sqlite_store, name)

        async def run(self, work: Callable[..., object], *args: object) -> object:
            if work.__name__ == "record":
                await asyncio.Event().wait()
            return await sqlite_store.run(work, *args)

    hasty = replace(SETTINGS, drain=timedelta(0))
    async with fault_server() as receiver:
        async with desk_on(NeverRecords(), hasty, owner="first") as desk:  # type: ignore[arg-type]
            (made,) = await desk.put(receiver.url)
            await receiver.wait_for(1)
        async with desk_on(sqlite_store, owner="second") as desk:
            await desk.deliverer.recover()
            await desk.wait_ended(made)
            await asyncio.sleep(0)
        first, second = receiver.requests
        assert [peer.headers["cloudfinite-attempt"] for peer in (first, second)] == ["1", "2"]
        same = ("webhook-id", "cloudfinite-sequence", "x-ci-request-id")
        assert [first.headers[name] for name in same] == [second.headers[name] for name in same]
        assert first.body == second.body


async def test_stop_lets_attempts_under_way_end_and_starts_no_more(sqlite_store: Store) -> None:
    release = asyncio.Event()

    async def slow(peer: Peer) -> None:
        await release.wait()
        await peer.answer()

    async with fault_server(slow) as receiver, desk_on(sqlite_store) as desk:
        made = await desk.put(receiver.url, 10)
        await receiver.wait_for(4)
        stopping = asyncio.create_task(desk.deliverer.stop())
        await asyncio.sleep(0.02)
        release.set()
        await stopping
        states = [(await desk.get(one))[0].state for one in made]
        assert states.count(DeliveryState.DELIVERED) == 4 == len(receiver.requests)


async def test_store_that_is_away_loses_nothing_and_needs_no_restart(sqlite_store: Store) -> None:
    class Flaky:
        is_away = False

        def __getattr__(self, name: str) -> object:
            return getattr(sqlite_store, name)

        async def run(self, work: Callable[..., object], *args: object) -> object:
            if self.is_away:
                raise ServiceUnavailable("away")
            return await sqlite_store.run(work, *args)

    flaky = Flaky()
    async with fault_server() as receiver, desk_on(flaky) as desk:  # type: ignore[arg-type]
        await desk.put(receiver.url, 5)
        await receiver.wait_for(1)
        flaky.is_away = True
        now = system_clock()
        made = [
            Delivery(new_delivery_id(), "j", "b", receiver.url, "application/xml", b"<y/>", now, now) for _ in range(20)
        ]
        await sqlite_store.run(insert, made)
        desk.deliverer.wake(made)
        await asyncio.sleep(0.3)
        flaky.is_away = False
        await desk.wait_delivered(25)
        assert len({peer.headers["webhook-id"] for peer in receiver.requests}) == 25 == len(receiver.requests)


async def test_two_deliverers_share_the_work_and_send_nothing_twice(postgres_store: Store) -> None:
    async with (
        fault_server() as receiver,
        desk_on(postgres_store, owner="a") as one,
        desk_on(postgres_store, owner="b") as two,
    ):
        for n in range(10):
            for desk in (one, two):
                await desk.put(f"{receiver.url}/t{n}", 10)
        await one.wait_delivered(200)
        ids = [peer.headers["webhook-id"] for peer in receiver.requests]
        assert len(ids) == 200 == len(set(ids))
        for n in range(10):
            numbers = [int(p.headers["cloudfinite-sequence"]) for p in receiver.requests if p.path == f"/t{n}"]
            assert sorted(numbers) == list(range(1, 21))


async def test_dead_deliverers_targets_are_taken_over_when_their_lease_ends(postgres_store: Store) -> None:
    short = timedelta(seconds=0.5)
    async with fault_server() as receiver:
        now = await postgres_store.read(lambda tx: tx.now)
        made = Delivery(new_delivery_id(), "j", "b", receiver.url, "application/xml", b"<x/>", now, now)
        await postgres_store.run(insert, [made])
        await postgres_store.run(lambda tx: tx.deliveries.admit("dead", short, 10, 10))
        async with desk_on(postgres_store) as desk:
            assert (await desk.wait_ended(made)).state is DeliveryState.DELIVERED


# --- limits and fairness -------------------------------------------------------------------------------------------


async def test_at_most_four_attempts_at_once_per_target(sqlite_store: Store) -> None:
    running = peak = 0

    async def slow(peer: Peer) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.01)
        running -= 1
        await peer.answer()

    async with fault_server(slow) as receiver, desk_on(sqlite_store) as desk:
        await desk.put(receiver.url, 60)
        await desk.wait_delivered(60)
        assert peak == 4


async def test_rate_limit_holds_and_is_used(sqlite_store: Store) -> None:
    arrivals: list[float] = []

    async def note(peer: Peer) -> None:
        arrivals.append(time.monotonic())
        await peer.answer()

    rate = 10  # slow enough for a machine that other tests use too; `bench/deliver.py` measures others
    limited = replace(SETTINGS, limits=replace(LIMITS, rate_per_s=rate))
    async with fault_server(note) as receiver, desk_on(sqlite_store, limited) as desk:
        await desk.put(receiver.url, 30)
        await desk.wait_delivered(30)
    busiest = max(sum(at <= other < at + 1 for other in arrivals) for at in arrivals)
    assert busiest <= rate + 2  # one for the limit's own, one for what the way to the receiver adds
    assert (len(arrivals) - 1) / (arrivals[-1] - arrivals[0]) >= 0.8 * rate


async def test_hundred_black_holes_do_not_delay_a_good_receiver(sqlite_store: Store) -> None:
    settings = replace(SETTINGS, slots=150)
    async with (
        fault_server(never_answer, backlog=500) as hole,
        fault_server() as good,
        desk_on(sqlite_store, settings, total_s=1.5) as desk,
    ):
        await desk.put(good.url)  # it is known as one that answers
        await desk.wait_delivered(1)
        alone = await good_latencies(desk, good, 40)
        for n in range(100):
            await desk.put(f"{hole.url}/{n}", 3)
        await hole.wait_for(100)
        beside = await good_latencies(desk, good, 40)
        assert percentile(beside, 0.95) <= max(2 * percentile(alone, 0.95), 0.1)


async def good_latencies(desk: Desk, receiver: FaultServer, count: int) -> list[float]:
    found = []
    for _ in range(count):
        before = len(receiver.requests)
        started = time.monotonic()
        await desk.put(receiver.url)
        await receiver.wait_for(before + 1)
        found.append(time.monotonic() - started)
    return found


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


async def test_more_silent_receivers_than_sockets_starve_nobody(sqlite_store: Store) -> None:
    settings = replace(SETTINGS, slots=20)
    async with (
        fault_server(never_answer, backlog=500) as hole,
        fault_server() as good,
        desk_on(sqlite_store, settings, total_s=0.5) as desk,
    ):
        for n in range(60):
            await desk.put(f"{hole.url}/{n}", 2)
        (made,) = await desk.put(good.url)
        await desk.wait_ended(made, limit_s=60)  # unknown like the others, in its turn
        assert max(await good_latencies(desk, good, 10)) < 0.3


async def test_open_breaker_costs_no_attempts_and_closes_by_a_probe(sqlite_store: Store) -> None:
    limits = TargetLimits(failures_in_row=3, quiet_s=0.0, probe_s=0.3)
    settings = replace(SETTINGS, limits=limits, schedule=RetrySchedule.of([0] + [0.01] * 20))
    async with fault_server(statuses(500)) as receiver, desk_on(sqlite_store, settings) as desk:
        made = await desk.put(receiver.url, 50)
        await receiver.wait_for(3)
        await asyncio.sleep(0.7)
        # At most those in flight together when it opened, then one probe each time.
        assert len(receiver.requests) <= 3 + 4 + 3
        receiver.behaviour = answer_ok
        await desk.wait_delivered(50)
        shown = [await desk.get(one) for one in made]
        posts, rows = sum(one.attempts for one, _ in shown), sum(len(attempts) for _, attempts in shown)
        assert posts == rows == len(receiver.requests)


async def test_target_without_success_for_long_is_paused_and_says_so(sqlite_store: Store) -> None:
    settings = replace(SETTINGS, limits=replace(LIMITS, give_up=timedelta(0)))
    async with fault_server(statuses(500)) as receiver, desk_on(sqlite_store, settings) as desk:
        (made,) = await desk.put(receiver.url)
        await desk.wait_until(made, lambda one: one.attempts == 1)
        async with asyncio.timeout(5):
            while (target := (await desk.service.list_targets())[0]).state is not TargetState.PAUSED:
                await asyncio.sleep(0.01)
        assert "no success since" in target.paused_reason
        assert (await desk.get(made))[0].state is DeliveryState.WAITING


# --- operators -----------------------------------------------------------------------------------------------------


async def test_paused_target_gets_nothing_until_it_is_resumed(store: Store) -> None:
    async with fault_server() as receiver, desk_on(store) as desk:
        await desk.put(receiver.url)
        await desk.wait_delivered(1)
        await desk.service.pause_target(receiver.url)
        (made,) = await desk.put(receiver.url)
        await desk.wait_until(made, lambda one: one.sequence == 2)
        assert len(receiver.requests) == 1
        await desk.service.resume_target(receiver.url)
        assert (await desk.wait_ended(made)).state is DeliveryState.DELIVERED


async def test_all_failed_of_a_target_can_be_replayed(sqlite_store: Store) -> None:
    once = replace(SETTINGS, schedule=RetrySchedule.of([0]))
    async with fault_server(statuses(500)) as receiver, desk_on(sqlite_store, once) as desk:
        made = await desk.put(receiver.url, 5)
        for one in made:
            await desk.wait_ended(one)
        receiver.behaviour = answer_ok
        since = datetime.now(made[0].created_at.tzinfo) - timedelta(days=9_000)
        assert await desk.service.replay_failed(receiver.url, since) == 5
        await desk.wait_delivered(5)


async def test_rotated_secret_and_the_old_one_both_sign_during_the_overlap(sqlite_store: Store) -> None:
    async with fault_server() as receiver, desk_on(sqlite_store) as desk:
        await desk.put(receiver.url)
        await desk.wait_delivered(1)
        first = await desk.service.rotate_secret(receiver.url, timedelta(hours=1))
        second = await desk.service.rotate_secret(receiver.url, timedelta(hours=1))
        await desk.put(receiver.url)
        await desk.wait_delivered(2)
        peer = receiver.requests[-1]
        for secret in (first, second):
            Webhook(secret).verify(peer.body, peer.headers)
        assert len(peer.headers["webhook-signature"].split()) == 3  # the installation's still, too


async def test_test_event_is_delivered_like_any_other(sqlite_store: Store) -> None:
    async with fault_server() as receiver, desk_on(sqlite_store) as desk:
        made = await desk.service.send_test(receiver.url, CallbackFormat.JSON)
        await desk.wait_ended(made)
        assert receiver.requests[0].body == b'{"Response":{"EventName":"Test"}}'


def test_http_date_of_a_retry_after_is_read() -> None:
    from cloudfinite.service.attempts import LONGEST_WAIT, retry_after

    now = system_clock().replace(microsecond=0)
    forms = {
        "120": timedelta(seconds=120),
        "0": timedelta(0),
        format_datetime(now + timedelta(seconds=90), usegmt=True): timedelta(seconds=90),
        format_datetime(now - timedelta(hours=1), usegmt=True): timedelta(0),
        "99999999999999999999": LONGEST_WAIT,
        "-1": None,
        "1e9": None,
        "soon": None,
        "": None,
    }
    assert {text: retry_after([("Retry-After", text)], now) for text in forms} == forms
