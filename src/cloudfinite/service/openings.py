"""Which services are open for a bucket, and whether the bucket is bound at all. Everything starts open and bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloudfinite.domain.objects import BINDING, Bucket, Switch
from cloudfinite.domain.queue import SERVICES
from cloudfinite.errors import NoSuchBucket, ServiceClosed
from cloudfinite.ports import Store, Transaction
from cloudfinite.service.queues import QueueLimits, ensure_queue
from cloudfinite.wire.routing import same_region


@dataclass(frozen=True, slots=True)
class OpenFilter:
    """Which buckets a list gives; what is empty does not narrow it. names: whole ones. prefix: how names begin."""

    regions: Sequence[str] = ()
    names: Sequence[str] = ()
    prefix: str = ""

    def takes(self, bucket: Bucket) -> bool:
        return (
            bucket.name.startswith(self.prefix)
            and (not self.names or bucket.name in self.names)
            and (not self.regions or any(same_region(bucket.region, region) for region in self.regions))
        )


class OpeningService:
    """Opens and closes services, binds and unbinds buckets. Doing either twice is harmless."""

    def __init__(self, store: Store, limits: QueueLimits) -> None:
        self._store = store
        self._limits = limits

    async def open_service(self, bucket: str, service: str) -> Bucket:
        """Take the service's jobs; its queue is made, and an unbound bucket bound. Raises NoSuchBucket."""
        return await self._store.run(_open, bucket, service, self._limits)

    async def close_service(self, bucket: str, service: str) -> Bucket:
        """Take no more jobs of the service; those accepted run to their end. Raises NoSuchBucket."""
        return await self._store.run(_turn, bucket, [service], False)

    async def list_open(self, service: str, wanted: OpenFilter) -> list[Bucket]:
        """The buckets for which the service is open, by name."""
        buckets = await self._store.read(lambda tx: tx.buckets.all())
        return [bucket for bucket in buckets if bucket.is_open(service) and wanted.takes(bucket)]

    async def bind(self, bucket: str, *, is_bound: bool) -> Bucket:
        """Raises NoSuchBucket. An unbound bucket takes no jobs and no synchronous calls; its objects stay in reach."""
        return await self._store.run(_turn, bucket, [BINDING], is_bound)

    async def is_bound(self, bucket: str) -> bool:
        """Raises NoSuchBucket."""
        return (await self._store.read(_get, bucket)).is_on(BINDING)

    async def check_bound(self, bucket: str) -> None:
        """Raises NoSuchBucket, ServiceClosed."""
        if not await self.is_bound(bucket):
            raise _unbound(bucket)


def check_open(bucket: Bucket, service: str) -> None:
    """Raises ServiceClosed, saying what would open it."""
    if not bucket.is_on(BINDING):
        raise _unbound(bucket.name)
    if not bucket.is_on(service):
        path = SERVICES[service].bucket_path
        raise ServiceClosed(f"the service {service} is closed for the bucket {bucket.name}; POST /{path} opens it")


def _unbound(bucket: str) -> ServiceClosed:
    return ServiceClosed(f"the bucket {bucket} is not bound to Cloud Infinite; PUT / on its pic host binds it")


# --- transactions --------------------------------------------------------------------------------------------------


def _get(tx: Transaction, name: str) -> Bucket:
    bucket = tx.buckets.get(name)
    if bucket is None:
        raise NoSuchBucket(f"the bucket {name} does not exist")
    return bucket


def _turn(tx: Transaction, name: str, switches: Sequence[str], is_on: bool) -> Bucket:
    bucket = tx.buckets.lock(name)
    if bucket is None:
        raise NoSuchBucket(f"the bucket {name} does not exist")
    turned = {switch: Switch(is_on, tx.now) for switch in switches if bucket.is_on(switch) is not is_on}
    if turned:
        bucket = replace(bucket, switches={**bucket.switches, **turned})
        tx.buckets.replace(bucket)
    return bucket


def _open(tx: Transaction, name: str, service: str, limits: QueueLimits) -> Bucket:
    bucket = _turn(tx, name, [BINDING, service], True)
    ensure_queue(tx, name, service, limits)
    return bucket
