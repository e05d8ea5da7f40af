"""The deliverer of one process over a real SQLite file, without a server around it, for `bench.deliver`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client import CollectorRegistry

from cloudfinite.adapters.names import NameLookup
from cloudfinite.adapters.outbound import OutboundClient, OutboundLimits
from cloudfinite.adapters.policy import OutboundPolicy
from cloudfinite.adapters.seal import AesSeal
from cloudfinite.adapters.store import open_store, system_clock
from cloudfinite.app.process import spare_collections
from cloudfinite.domain.delivery import Delivery, RetrySchedule
from cloudfinite.domain.ids import new_delivery_id
from cloudfinite.ports import Store
from cloudfinite.service.deliverer import Deliverer, DelivererSettings
from cloudfinite.service.deliveries import DeliveryService
from cloudfinite.service.signing import Signer
from cloudfinite.wire.webhooks import new_secret

BODY = b"<Response>" + b"<Text>4 KB, as a page of text has</Text>" * 103 + b"</Response>"
LIST = 100  # deliveries in one transaction: at this rate twice as many jobs end between two commits


@dataclass
class Desk:
    store: Store
    deliverer: Deliverer
    service: DeliveryService
    registry: CollectorRegistry
    put_at: dict[str, float] = field(default_factory=dict)

    async def put(self, urls: Sequence[str]) -> None:
        """Commit one delivery to each URL, and tell the deliverer."""
        at = system_clock()
        made = [Delivery(new_delivery_id(), "j", "b-1", url, "application/xml", BODY, at, at, "req") for url in urls]
        now = time.monotonic()
        await self.store.run(lambda tx: tx.deliveries.insert(*made))
        self.put_at |= {delivery.id: now for delivery in made}
        self.deliverer.wake(made)

    async def put_many(self, urls: Sequence[str], count: int) -> None:
        """In lists that are put side by side, as jobs end: who puts them is not to be what is measured."""
        order = [urls[number % len(urls)] for number in range(count)]
        await asyncio.gather(*(self.put(order[start : start + LIST]) for start in range(0, count, LIST)))

    def ended(self, outcome: str = "delivered") -> int:
        """Attempts with this end so far."""
        name = "cloudfinite_delivery_attempts_total"
        return int(self.registry.get_sample_value(name, {"outcome": outcome}) or 0)

    @property
    def in_flight(self) -> int:
        return int(self.registry.get_sample_value("cloudfinite_deliveries_in_flight") or 0)

    async def wait_recorded(self, count: int) -> None:
        """Until so many were delivered, and none waits in the store."""
        while self.ended() < count:
            await asyncio.sleep(0.01)
        while (await self.store.read(lambda tx: tx.deliveries.backlog()))[0]:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def desk_in(folder: Path, *, total_s: float = 15.0) -> AsyncIterator[Desk]:
    """All but `total_s` is as `serve` has it."""
    store = open_store("", folder)
    limits = OutboundLimits(total_s=total_s)
    client = OutboundClient(OutboundPolicy(is_strict=False), NameLookup(limits.dns_s), limits=limits)
    signer = Signer([new_secret()], AesSeal("bench"))
    registry = CollectorRegistry()
    settings = DelivererSettings(RetrySchedule.default(is_strict=True), slots=client.capacity)
    deliverer = Deliverer(store, client, signer, "bench", settings, registry, clock=system_clock)
    service = DeliveryService(store, signer, lambda url: None, lambda made, urls: deliverer.wake(made, urls))
    deliverer.start()
    spare_collections()  # as `serve` does
    try:
        yield Desk(store, deliverer, service, registry)
    finally:
        await deliverer.stop()
        await client.close()
        await store.close()
