"""A store with deliveries and a deliverer that sends them over real sockets, for the tests of both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

from prometheus_client import CollectorRegistry
from tests.support.fault_server import Behaviour, Peer

from cloudfinite.adapters.names import NameLookup
from cloudfinite.adapters.outbound import OutboundClient, OutboundLimits
from cloudfinite.adapters.policy import OutboundPolicy
from cloudfinite.adapters.seal import AesSeal
from cloudfinite.adapters.store import system_clock
from cloudfinite.domain.delivery import Attempt, Delivery, DeliveryFilter, DeliveryState, RetrySchedule
from cloudfinite.domain.ids import new_delivery_id
from cloudfinite.ports import CallbackSender, Clock, Store, Transaction
from cloudfinite.service.deliverer import Deliverer, DelivererSettings
from cloudfinite.service.deliveries import DeliveryService
from cloudfinite.service.signing import Signer
from cloudfinite.service.targets import TargetLimits
from cloudfinite.wire.webhooks import new_secret

SECRET = new_secret()
SEAL = AesSeal("test")
QUICK = RetrySchedule.of([0, 0.05, 0.05, 0.05])
LIMITS = TargetLimits(failures_in_row=100)
SETTINGS = DelivererSettings(QUICK, LIMITS, slots=100, poll=timedelta(seconds=0.5))


class Desk:
    """A store with deliveries, and a deliverer that sends them."""

    def __init__(
        self, store: Store, sender: CallbackSender, settings: DelivererSettings, owner: str, clock: Clock
    ) -> None:
        self.store = store
        self.signer = Signer([SECRET], SEAL)
        self.registry = CollectorRegistry()
        self.deliverer = Deliverer(store, sender, self.signer, owner, settings, self.registry, clock=clock)
        self.service = DeliveryService(
            store, self.signer, lambda url: None, lambda deliveries, urls: self.deliverer.wake(deliveries, urls)
        )

    async def put(self, url: str, count: int = 1, *, is_told: bool = True) -> list[Delivery]:
        """Commit deliveries as the end of jobs does."""
        now = await self.store.read(lambda tx: tx.now)
        made = [
            Delivery(new_delivery_id(), f"j{n}", "b-1", url, "application/xml", b'{"n":%d}' % n, now, now, "req")
            for n in range(count)
        ]
        await self.store.run(insert, made)
        if is_told:
            self.deliverer.wake(made)
        return made

    async def get(self, one: Delivery) -> tuple[Delivery, list[Attempt]]:
        return await self.service.show_delivery(one.id)

    async def wait_until(self, one: Delivery, holds: Callable[[Delivery], bool], limit_s: float = 10) -> Delivery:
        async with asyncio.timeout(limit_s):
            while not holds((found := await self.get(one))[0]):
                await asyncio.sleep(0.005)
        return found[0]

    async def wait_ended(self, one: Delivery, limit_s: float = 10) -> Delivery:
        return await self.wait_until(one, lambda found: found.state is not DeliveryState.WAITING, limit_s)

    async def wait_delivered(self, count: int, limit_s: float = 20) -> None:
        wanted = DeliveryFilter(states=frozenset({DeliveryState.DELIVERED}), size=100_000)
        async with asyncio.timeout(limit_s):
            while len((await self.service.list_deliveries(wanted)).deliveries) < count:
                await asyncio.sleep(0.01)

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("cloudfinite_delivery_attempts_total", {"outcome": outcome}) or 0


def insert(tx: Transaction, deliveries: Sequence[Delivery]) -> None:
    for one in deliveries:
        tx.deliveries.insert(one)


@asynccontextmanager
async def desk_on(
    store: Store,
    settings: DelivererSettings = SETTINGS,
    *,
    owner: str = "me",
    total_s: float = 5.0,
    sender: CallbackSender | None = None,
    clock: Clock = system_clock,
) -> AsyncIterator[Desk]:
    limits = OutboundLimits(total_s=total_s)
    client = OutboundClient(OutboundPolicy(is_strict=False), NameLookup(1.0), limits=limits)
    desk = Desk(store, sender or client, settings, owner, clock)
    desk.deliverer.start()
    try:
        yield desk
    finally:
        await desk.deliverer.stop()
        await client.close()


def statuses(*answers: int, headers: str = "") -> Behaviour:
    """Answer with these, one after another, the last for ever."""
    left = list(answers)

    async def behave(peer: Peer) -> None:
        status = left.pop(0) if len(left) > 1 else left[0]
        await peer.answer(status, b"" if status == 204 else b"said", headers)

    return behave
