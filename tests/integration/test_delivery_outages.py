"""Receivers that are down for an hour and for three days, on a clock that the test moves: everything arrives."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cloudfinite.adapters.seal import AesSeal
from cloudfinite.adapters.store import SqliteStore
from cloudfinite.domain.delivery import Delivery, DeliveryFilter, DeliveryState, RetrySchedule
from cloudfinite.domain.ids import new_delivery_id
from cloudfinite.errors import DeliveryFailed
from cloudfinite.ports import Answer
from cloudfinite.service.deliverer import Deliverer, DelivererSettings
from cloudfinite.service.signing import Signer
from cloudfinite.service.targets import TargetLimits
from cloudfinite.wire.webhooks import new_secret

URLS = [f"http://receiver/{number}" for number in range(3)]
DELIVERIES = 60
LADDER_ALONE = TargetLimits(failures_in_row=1_000_000, window_attempts=1_000_000)


@dataclass
class Outage:
    """The clock, and receivers that cannot be reached before `ends_s` of it."""

    ends_s: float
    now_s: float = 0.0
    tried: Counter[str] = field(default_factory=Counter)  # by URL, during the outage
    arrived: Counter[str] = field(default_factory=Counter)  # by delivery

    def clock(self) -> datetime:
        return datetime(2026, 1, 5, tzinfo=UTC) + timedelta(seconds=self.now_s)

    def monotonic(self) -> float:
        return 1_000 + self.now_s

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        if self.now_s < self.ends_s:
            self.tried[url] += 1
            raise DeliveryFailed("connect", "refused")
        self.arrived[headers["webhook-id"]] += 1
        return Answer(status=200, headers=[], body=b"", is_cut=False, total_s=0.0)


@pytest.mark.parametrize(
    ("hours", "step_s", "limits"),
    [
        pytest.param(1, 30, TargetLimits(), id="an hour"),
        pytest.param(72, 1_800, TargetLimits(), id="three days"),
        pytest.param(72, 1_800, LADDER_ALONE, id="three days without a breaker"),
    ],
)
async def test_everything_arrives_after_an_outage(
    tmp_path: Path, hours: int, step_s: int, limits: TargetLimits
) -> None:
    outage = Outage(hours * 3600)
    store = SqliteStore(tmp_path / "store.db", clock=outage.clock, synchronous="OFF")
    # The lease outlasts it all: its renewal goes by the real clock.
    settings = DelivererSettings(RetrySchedule.default(is_strict=True), limits, lease=timedelta(days=30))
    signer = Signer([new_secret()], AesSeal("test"))
    deliverer = Deliverer(
        store, outage, signer, "me", settings, CollectorRegistry(), clock=outage.clock, monotonic=outage.monotonic
    )
    at = outage.clock()
    made = [
        Delivery(new_delivery_id(), "j", "b-1", URLS[number % 3], "application/xml", b"<x/>", at, at)
        for number in range(DELIVERIES)
    ]
    await store.run(lambda tx: [tx.deliveries.insert(one) for one in made])
    deliverer.start()
    try:
        while (await store.read(lambda tx: tx.deliveries.backlog()))[0]:
            assert outage.now_s <= outage.ends_s + 2 * 86_400
            deliverer.wake()
            await settle(deliverer)
            outage.now_s += step_s
        wanted = DeliveryFilter(size=DELIVERIES)
        ended = [one for one, _ in await store.read(lambda tx: tx.deliveries.select(wanted))]
    finally:
        await deliverer.stop()
        await store.close()
    assert {one.state for one in ended} == {DeliveryState.DELIVERED}
    assert outage.arrived == {one.id: 1 for one in made}
    if limits is not LADDER_ALONE:
        # Those that were under way when the breaker opened; then one probe each time.
        assert max(outage.tried.values()) <= 5 + 4 + outage.ends_s / step_s


async def settle(deliverer: Deliverer) -> None:
    """Until nothing has happened for some turns of the loop."""
    quiet = 0
    while quiet < 4:
        before = deliverer._looks
        await asyncio.sleep(0.001)
        under_way = any(held.in_flight or held.unrecorded for held in deliverer._holdings)
        is_busy = under_way or deliverer._holdings.is_restless or deliverer._looks != before
        quiet = 0 if is_busy else quiet + 1
