"""What changes under way: secrets, limits, removed targets, a clock that is set, a store that is silent (O-5, R-21)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from tests.support.delivery_desk import QUICK, SECRET, SETTINGS, desk_on, statuses
from tests.support.fault_server import Peer, answer_ok, fault_server, never_answer

from cloudfinite.adapters.store import SqliteStore, steady_clock, system_clock
from cloudfinite.domain.delivery import DeliveryState, RetrySchedule, TargetState
from cloudfinite.domain.objects import Bucket
from cloudfinite.errors import InvalidArgument, NoSuchBucket, ServiceUnavailable, TargetNotFound
from cloudfinite.ports import Store
from cloudfinite.service.delivery_metrics import BacklogMetrics
from cloudfinite.service.delivery_watch import DeliveryWatch
from cloudfinite.service.targets import TargetLimits

HOUR = timedelta(hours=1)
NO_OVERLAP = timedelta(0)


class SetClock:
    """The wall's clock of a machine whose owner sets it."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
async def sqlite_store(tmp_path: Path) -> AsyncIterator[Store]:
    """On the real clock: what is due becomes due."""
    store = SqliteStore(tmp_path / "store.db", synchronous="OFF")
    yield store
    await store.close()


def is_signed(peer: Peer, secret: str) -> bool:
    try:
        Webhook(secret).verify(peer.body, peer.headers)
    except WebhookVerificationError:
        return False
    return True


async def until(holds: Callable[[], bool], limit_s: float = 5.0) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():
            await asyncio.sleep(0.005)


# --- secrets (O-5) -------------------------------------------------------------------------------------------------


async def test_secret_rotated_during_the_ladder_signs_the_next_try(store: Store) -> None:
    async with (
        fault_server(statuses(500, 200)) as receiver,
        desk_on(store, replace(SETTINGS, schedule=RetrySchedule.of([0, 0.4]))) as desk,
    ):
        (made,) = await desk.put(receiver.url)
        await receiver.wait_for(1)
        secret = await desk.service.rotate_secret(receiver.url, HOUR)
        await desk.wait_ended(made)
        first, second = receiver.requests
        assert is_signed(first, SECRET) and not is_signed(first, secret)
        assert is_signed(second, SECRET) and is_signed(second, secret)
        assert first.body == second.body and first.headers["webhook-id"] == second.headers["webhook-id"]


async def test_bucket_secret_signs_for_all_targets_without_their_own(store: Store) -> None:
    async with fault_server() as receiver, desk_on(store) as desk:
        await store.run(lambda tx: tx.buckets.ensure(Bucket("b-1", "r", tx.now)))
        await desk.put(receiver.url)
        await desk.wait_delivered(1)
        own = await desk.service.rotate_secret(receiver.url + "/own", NO_OVERLAP)
        of_bucket = await desk.service.rotate_bucket_secret("b-1", NO_OVERLAP)
        await until(lambda: desk.signer._buckets != {})
        await desk.put(receiver.url)
        await desk.put(receiver.url + "/own")
        await desk.wait_delivered(3)
        before, *after = receiver.requests
        plain, special = sorted(after, key=lambda peer: len(peer.path))
        found = [[is_signed(peer, secret) for secret in (SECRET, of_bucket, own)] for peer in (before, plain, special)]
        assert found == [[True, False, False], [False, True, False], [False, False, True]]


async def test_bucket_secret_is_known_before_the_first_attempt_after_a_restart(sqlite_store: Store) -> None:
    await sqlite_store.run(lambda tx: tx.buckets.ensure(Bucket("b-1", "r", tx.now)))
    async with fault_server() as receiver:
        async with desk_on(sqlite_store) as desk:
            secret = await desk.service.rotate_bucket_secret("b-1", NO_OVERLAP)
        async with desk_on(sqlite_store, owner="later") as desk:
            await desk.put(receiver.url)
            await desk.wait_delivered(1)
            assert is_signed(receiver.requests[0], secret)


async def test_dropped_secret_lets_the_installation_sign_again(sqlite_store: Store) -> None:
    async with fault_server() as receiver, desk_on(sqlite_store) as desk:
        own = await desk.service.rotate_secret(receiver.url, NO_OVERLAP)
        await desk.service.drop_secret(receiver.url, NO_OVERLAP)
        await desk.put(receiver.url)
        await desk.wait_delivered(1)
        assert is_signed(receiver.requests[0], SECRET) and not is_signed(receiver.requests[0], own)


async def test_secrets_of_what_does_not_exist_are_refused(sqlite_store: Store) -> None:
    async with desk_on(sqlite_store) as desk:
        with pytest.raises(NoSuchBucket):
            await desk.service.rotate_bucket_secret("nobody-1", HOUR)
        with pytest.raises(TargetNotFound):
            await desk.service.drop_secret("http://nobody.example/", HOUR)
        with pytest.raises(InvalidArgument):
            await desk.service.rotate_secret("http://x.example/", HOUR, "whsec_short")


# --- limits, removal -----------------------------------------------------------------------------------------------


async def test_rate_of_a_target_holds_from_now_on(store: Store) -> None:
    async with fault_server() as receiver, desk_on(store) as desk:
        await desk.service.limit_target(receiver.url, 20)
        started = time.monotonic()
        await desk.put(receiver.url, 12)
        await desk.wait_delivered(12)
        assert time.monotonic() - started > 10 / 20
        await desk.service.limit_target(receiver.url, 0)
        started = time.monotonic()
        await desk.put(receiver.url, 40)
        await desk.wait_delivered(52)
        assert time.monotonic() - started < 40 / 20


async def test_removed_target_cancels_what_waits_and_starts_anew(store: Store) -> None:
    slow = replace(SETTINGS, schedule=RetrySchedule.of([0, 600]))
    async with fault_server(statuses(500, 200)) as receiver, desk_on(store, slow) as desk:
        (made,) = await desk.put(receiver.url)
        await desk.wait_until(made, lambda one: one.attempts == 1)
        assert await desk.service.remove_target(receiver.url) == 1
        shown, attempts = await desk.get(made)
        assert shown.state is DeliveryState.CANCELLED and len(attempts) == 1
        with pytest.raises(TargetNotFound):
            await desk.service.show_target(receiver.url)
        (later,) = await desk.put(receiver.url)
        assert (await desk.wait_ended(later)).sequence == 1
        assert (await desk.get(made))[0].state is DeliveryState.CANCELLED


async def test_attempt_under_way_while_its_target_is_removed_is_recorded(sqlite_store: Store) -> None:
    answer = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await answer.wait()
        await peer.answer(200)

    async with fault_server(wait) as receiver, desk_on(sqlite_store) as desk:
        (made,) = await desk.put(receiver.url)
        await receiver.wait_for(1)
        await desk.service.remove_target(receiver.url)
        answer.set()
        # It was received: that is what the receiver must be believed to know.
        await desk.wait_until(made, lambda one: one.state is DeliveryState.DELIVERED)
        assert len((await desk.get(made))[1]) == 1


# --- a clock that is set (R-21) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, -1])
async def test_retries_keep_their_time_when_the_clock_is_set(tmp_path: Path, hours: int) -> None:
    clock = SetClock()
    store = SqliteStore(tmp_path / "store.db", clock=clock, steady=steady_clock(), synchronous="OFF")
    settings = replace(SETTINGS, schedule=RetrySchedule.of([0, 0.5]), lease=timedelta(seconds=0.4))
    async with fault_server(statuses(500, 200)) as receiver, desk_on(store, settings, clock=clock) as desk:
        (made,) = await desk.put(receiver.url)
        await desk.wait_until(made, lambda one: one.attempts == 1)
        failed = time.monotonic()
        clock.ahead = timedelta(hours=hours)
        await desk.wait_ended(made)
        assert 0.4 < time.monotonic() - failed < 2
        first, second = (int(peer.headers["webhook-timestamp"]) for peer in receiver.requests)
        assert abs(second - first - 3_600 * hours) < 5  # signed with the time that receivers compare with theirs
    await store.close()


@pytest.mark.parametrize("hours", [1, -1])
async def test_open_breaker_keeps_its_time_when_the_clock_is_set(tmp_path: Path, hours: int) -> None:
    clock = SetClock()
    store = SqliteStore(tmp_path / "store.db", clock=clock, steady=steady_clock(), synchronous="OFF")
    limits = TargetLimits(failures_in_row=1, quiet_s=0, probe_s=0.6)
    settings = replace(SETTINGS, limits=limits, schedule=RetrySchedule.of([0, 0.01, 0.01]))
    async with fault_server(statuses(500, 200)) as receiver, desk_on(store, settings, clock=clock) as desk:
        (made,) = await desk.put(receiver.url)
        await desk.wait_until(made, lambda one: one.attempts == 1)
        opened = time.monotonic()
        clock.ahead = timedelta(hours=hours)
        (fresh,) = await desk.put(receiver.url)
        for one in (made, fresh):
            assert (await desk.wait_ended(one)).state is DeliveryState.DELIVERED
        assert 0.5 < time.monotonic() - opened < 2
    await store.close()


async def test_clock_behind_the_databases_neither_holds_nor_hurries_probes(postgres_store: Store) -> None:
    clock = SetClock()
    clock.ahead = -HOUR
    limits = TargetLimits(failures_in_row=1, quiet_s=0, probe_s=0.3)
    settings = replace(SETTINGS, limits=limits, schedule=RetrySchedule.of([0] + [0.01] * 50))
    async with fault_server(statuses(500)) as receiver, desk_on(postgres_store, settings, clock=clock) as desk:
        made = await desk.put(receiver.url, 5)
        await receiver.wait_for(1)
        await asyncio.sleep(1.0)
        assert 2 <= len(receiver.requests) <= 4 + 4
        receiver.behaviour = answer_ok
        for one in made:
            await desk.wait_ended(one)


async def test_five_days_of_failures_are_not_counted_by_a_set_clock(tmp_path: Path) -> None:
    clock = SetClock()
    store = SqliteStore(tmp_path / "store.db", clock=clock, steady=steady_clock(), synchronous="OFF")
    async with fault_server(statuses(500, 500, 200)) as receiver, desk_on(store, clock=clock) as desk:
        (made,) = await desk.put(receiver.url)
        await receiver.wait_for(1)
        clock.ahead = timedelta(days=20_000)  # a machine without a battery that finds out what year it is
        await desk.wait_ended(made)
        assert (await desk.service.show_target(receiver.url)).state is TargetState.ACTIVE
    await store.close()


# --- stalls (O-2) --------------------------------------------------------------------------------------------------


def watch_on(store: Store, owner: str = "api", lease_s: float = 10.0) -> tuple[DeliveryWatch, CollectorRegistry]:
    registry = CollectorRegistry()
    lease = timedelta(seconds=lease_s)
    return (
        DeliveryWatch(store, BacklogMetrics(registry), system_clock, owner=owner, lease=lease, renew=lease / 5),
        registry,
    )


async def test_what_nobody_sends_turns_the_watch_red_within_five_seconds(store: Store) -> None:
    watch, registry = watch_on(store)
    async with fault_server() as receiver, desk_on(store) as desk:
        await desk.deliverer.stop()
        watch.loop.start()
        await desk.put(receiver.url, is_told=False)
        put = time.monotonic()
        await until(lambda: watch.is_stalled, 5.0)
        assert time.monotonic() - put > 2.9  # not at once: a busy moment is no stall
        assert registry.get_sample_value("cloudfinite_deliveries_pending") is not None
        await watch.loop.stop()


async def test_frozen_deliverers_targets_turn_the_others_red_within_five_seconds(postgres_store: Store) -> None:
    watch, _ = watch_on(postgres_store)
    async with fault_server(never_answer) as receiver, desk_on(postgres_store) as desk:
        watch.loop.start()
        await desk.put(receiver.url)
        await receiver.wait_for(1)
        await asyncio.sleep(2.5)
        assert not watch.is_stalled  # it waits for a slow receiver, and renews its lease
        for loop in desk.deliverer.loops:
            await loop.stop()  # as SIGSTOP does
        await until(lambda: watch.is_stalled, 5.0)
        await watch.loop.stop()


async def test_store_that_does_not_answer_turns_watch_and_deliverer_red(sqlite_store: Store) -> None:
    class Silent:
        """A store whose answers never come, from the moment it is told so."""

        is_silent = False

        async def run(self, *given: object) -> object:
            return await self._ask(sqlite_store.run, *given)

        async def read(self, *given: object) -> object:
            return await self._ask(sqlite_store.read, *given)

        async def _ask(self, ask: Callable[..., object], *given: object) -> object:
            if self.is_silent:
                await asyncio.Event().wait()
            return await ask(*given)  # type: ignore[misc]

    silent = Silent()
    watch, _ = watch_on(silent)  # type: ignore[arg-type]  # it has what both use
    async with fault_server() as receiver, desk_on(silent, replace(SETTINGS, drain=timedelta(seconds=0.1))) as desk:  # type: ignore[arg-type]
        watch.loop.start()
        await desk.put(receiver.url)
        await desk.wait_delivered(1)
        assert not desk.deliverer.is_stalled and not watch.is_stalled
        silent.is_silent = True
        desk.deliverer.wake()
        await until(lambda: desk.deliverer.is_stalled and watch.is_stalled, 5.0)
        silent.is_silent = False
        await watch.loop.stop()


async def test_attempts_that_cannot_be_recorded_are_a_stall_until_they_are(sqlite_store: Store) -> None:
    class Full:
        """A store that can be read and not be written to, as on a full disk."""

        is_full = False
        read = sqlite_store.read

        async def run(self, *given: object) -> object:
            if self.is_full:
                raise ServiceUnavailable("the disk is full")
            return await sqlite_store.run(*given)  # type: ignore[arg-type]

    full = Full()
    answer = asyncio.Event()

    async def wait(peer: Peer) -> None:
        await answer.wait()
        await peer.answer(200)

    async with fault_server(wait) as receiver, desk_on(full, replace(SETTINGS, schedule=QUICK)) as desk:  # type: ignore[arg-type]
        (made,) = await desk.put(receiver.url)
        await receiver.wait_for(1)
        full.is_full = True
        answer.set()
        await until(lambda: desk.deliverer.is_stalled, 5.0)
        full.is_full = False
        assert (await desk.wait_ended(made)).state is DeliveryState.DELIVERED
        await until(lambda: not desk.deliverer.is_stalled)
        assert len(receiver.requests) == 1
