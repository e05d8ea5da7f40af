"""The composition root: builds the adapters, hands them to the services, and runs them as one process."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from cloudfinite.adapters.backup import write_backup
from cloudfinite.adapters.data_folder import DataFolder
from cloudfinite.adapters.names import Lookup, NameLookup, system_lookup
from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.adapters.outbound import OutboundClient, OutboundLimits
from cloudfinite.adapters.policy import OutboundPolicy
from cloudfinite.adapters.pool import ChildLimits, ChildPool
from cloudfinite.adapters.postgres import plain_postgres_url
from cloudfinite.adapters.seal import AesSeal
from cloudfinite.adapters.storages import StorageAccess, open_storages, remote_names
from cloudfinite.adapters.store import open_store, system_clock
from cloudfinite.adapters.wakeups import LocalWakeups
from cloudfinite.app.surface import Surface
from cloudfinite.domain.delivery import Delivery, RetrySchedule
from cloudfinite.domain.job import Job, JobState
from cloudfinite.domain.ocr import PictureLimits
from cloudfinite.errors import SetupError
from cloudfinite.operations import load, operations
from cloudfinite.ports import EngineSpec, Storage, Topic, Wakeups
from cloudfinite.service.access import Keyring
from cloudfinite.service.backup import BackupService
from cloudfinite.service.batch_runner import BatchRunner
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.changes import ChangeFeed
from cloudfinite.service.deliverer import Deliverer, DelivererSettings
from cloudfinite.service.delivery_metrics import BacklogMetrics
from cloudfinite.service.delivery_watch import DeliveryWatch
from cloudfinite.service.dispatch import Dispatcher, DispatchSettings
from cloudfinite.service.housekeeping import Housekeeping
from cloudfinite.service.jobs import Ends
from cloudfinite.service.loops import Loop
from cloudfinite.service.object_files import ObjectFiles
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.outputs import Outputs
from cloudfinite.service.previews import CHILD_MODULE as PREVIEW_MODULE
from cloudfinite.service.queues import QueueLimits
from cloudfinite.service.runs import Progress
from cloudfinite.service.signing import Signer
from cloudfinite.service.sources import Sources
from cloudfinite.service.stats import Stats
from cloudfinite.service.targets import TargetLimits
from cloudfinite.service.triggers import Triggers
from cloudfinite.service.uploads import UploadService
from cloudfinite.settings import Settings
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.webhooks import new_secret

log = structlog.get_logger()

_HOUSEKEEPING_S = 60.0
_DAY_S = 86_400.0
_KEYS_S = 10.0


class App:
    """One process of the server. `start` returns when it takes requests; `stop` drains and closes everything."""

    def __init__(self, settings: Settings, lookup: Lookup = system_lookup) -> None:
        """lookup: how names of receivers and inputs become addresses."""
        self.settings = settings
        self._lookup = lookup
        self.url = ""
        self.stack = AsyncExitStack()  # closes in reverse: what is started last takes work first
        self.registry = CollectorRegistry()
        self._loops: list[Loop] = []
        self.feed = ChangeFeed()
        # New at each start: what an earlier one leased is not ours.
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    async def start(self) -> None:
        """Raises SetupError saying what to change; nothing is left running then."""
        try:
            await self._start()
        except BaseException:
            await self.stack.aclose()
            raise

    async def stop(self) -> None:
        """Take no more requests, let running jobs and attempts end. Nothing accepted is lost."""
        await self.stack.aclose()

    @property
    def key_pair(self) -> tuple[str, str] | None:
        """The first key pair."""
        return self.keyring.first()

    # --- in the order of starting -----------------------------------------------------------------------------------

    async def _start(self) -> None:
        settings = self.settings
        _check_roles(settings)
        load(settings.operation_modules)
        self.operations = _with_envelope(operations(), settings.callback_envelope)
        self.limits = QueueLimits(settings.queue_max_size, settings.queue_max_concurrent)
        self.folder = DataFolder(settings.data)
        if not settings.database:
            self.folder.own()
        self.stack.callback(self.folder.release)
        self.store = open_store(settings.database, settings.data)
        self.stack.push_async_callback(self.store.close)
        await self._prepare_access()
        await self._start_wakeups()
        await self._start_objects()
        await self._start_deliveries()
        await self._start_work()
        self.wakeups.listen(Topic.JOBS, self.dispatcher.wake)
        self.url = await Surface(self).listen()
        self.folder.announce(self.url)

    async def _prepare_access(self) -> None:
        """Keys and buckets of the settings."""
        settings = self.settings
        self._seal = AesSeal(settings.encryption_key or self.folder.secret("secret.key"))
        self.keyring = Keyring(self.store, self._seal, system_clock)
        await self.keyring.load()
        if bool(settings.secret_id) != bool(settings.secret_key):
            raise SetupError("secret_id and secret_key go together", "set both, or none for a development pair")
        if settings.secret_id:
            await self.keyring.ensure(settings.secret_id, settings.secret_key)
        elif self.keyring.first() is None:
            if not settings.is_loopback:
                raise SetupError(
                    f"listening on {settings.host} needs access keys",
                    "set CLOUDFINITE_SECRET_ID and CLOUDFINITE_SECRET_KEY",
                )
            await self.keyring.create()
        if settings.database:
            # Keys that another process added or removed.
            self._keep(Loop("keys.load", self.keyring.load, _pause(_KEYS_S)))
        self.buckets = BucketService(
            self.store,
            settings.storage_urls(),
            is_fixed=bool(settings.database) and settings.keeps_all_elsewhere and not settings.shared_objects,
        )
        for name, region in settings.bucket_list():
            await self.buckets.ensure_bucket(name, region)

    async def _start_objects(self) -> None:
        files = LocalObjects(self.folder.objects)
        self.stack.callback(files.close)
        storages = await self._open_storages()
        if self.settings.database and not self.buckets.is_fixed:
            await self._check_objects_shared()
        stored = ObjectFiles(self.store, files, storages, limit_bytes=self.settings.object_limit_bytes)
        self.objects = ObjectService(stored, on_created=self.tell_created)
        self.uploads = UploadService(stored, self.tell_created)
        is_ours = not self.settings.database
        self.backups = BackupService(stored, partial(write_backup, self.folder.path)) if is_ours else None
        self._keep(Loop("objects.garbage", self._collect_garbage, _pause(_HOUSEKEEPING_S)))
        self._keep(Loop("objects.orphans", self._collect_orphans, _pause(_DAY_S)))
        self._keep(Housekeeping(self.store, timedelta(days=self.settings.keep_days)).loop)
        self.stats = Stats(self.store)
        self.stats.loop.start()
        self._loops.append(self.stats.loop)
        self.stack.push_async_callback(self.stats.close)

    async def _open_storages(self) -> Mapping[str, Storage]:
        """The storages that keep buckets. Raises SetupError when one does not, or objects would fall out of sight."""
        settings = self.settings
        accesses = {name: StorageAccess(**table.model_dump()) for name, table in settings.storages.items()}
        urls = settings.storage_urls()
        storages = open_storages(urls, accesses, system_clock, ca_file=settings.ca_file)
        for storage in storages.values():
            self.stack.push_async_callback(storage.close)
            await storage.check()
        self.event_buckets = remote_names(urls, accesses) | settings.event_buckets
        self.silent_buckets = {
            name for name, storage in storages.items() if not storage.tells_creations and not storage.is_read_only
        }
        await self.buckets.check_places()
        return storages

    async def _check_objects_shared(self) -> None:
        """Raises SetupError when this database's objects lie in another folder than ours."""
        ours = self.folder.secret("objects/id")
        first = await self.store.run(lambda tx: tx.keep_mark("objects", ours))
        if ours != first:
            raise SetupError(
                f"the objects of this database are in another folder: {self.folder.objects / 'id'} is {ours}, "
                f"the database expects {first}",
                "give all processes on one database the same data folder, on storage that their machines share",
            )

    async def _collect_garbage(self) -> None:
        await self.objects.collect_garbage()

    async def _collect_orphans(self) -> None:
        await self.objects.collect_orphans()

    async def _start_wakeups(self) -> None:
        self.wakeups: Wakeups = _open_wakeups(self.settings.database)
        await self.wakeups.start()
        self.stack.push_async_callback(self.wakeups.close)

    async def _start_deliveries(self) -> None:
        """The way out, and the deliverer that uses it in the roles that send callbacks."""
        settings = self.settings
        self.policy = OutboundPolicy(
            is_strict=settings.is_strict, allow_hosts=settings.allow_hosts, allow_cidrs=settings.allow_cidrs
        )
        limits = OutboundLimits(
            connect_s=settings.callback_connect_s, total_s=settings.callback_total_s, sockets=_socket_limit()
        )
        self._outbound = OutboundClient(
            self.policy,
            NameLookup(limits.dns_s, self._lookup),
            limits=limits,
            ca_file=settings.ca_file,
            proxy=settings.proxy,
            client_certificates={host: Path(file) for host, file in settings.client_certificates.items()},
        )
        self.stack.push_async_callback(self._outbound.close)
        secret = settings.callback_secret or self.folder.secret("webhook.secret", new_secret)
        self.signer = Signer([part.strip() for part in secret.split(",")], self._seal)
        schedule = RetrySchedule.of(settings.retry_schedule_s) if settings.retry_schedule_s else None
        how = DelivererSettings(
            schedule or RetrySchedule.default(is_strict=settings.is_strict),
            TargetLimits(concurrency=settings.target_concurrency),
            slots=self._outbound.capacity,
            lease=timedelta(seconds=settings.lease_s),
            poll=timedelta(seconds=settings.poll_s),
        )
        self._watch = DeliveryWatch(
            self.store,
            BacklogMetrics(self.registry),
            system_clock,
            owner=self._owner,
            lease=how.lease,
            renew=how.renew,
        )
        self._keep(self._watch.loop)
        self._deliverer = Deliverer(
            self.store,
            self._outbound,
            self.signer,
            self._owner,
            how,
            self.registry,
            clock=system_clock,
            on_held_elsewhere=lambda: self.wakeups.tell_others(Topic.DELIVERIES),
        )
        if not settings.database:
            await self._deliverer.recover()
        if settings.role in ("all", "deliver"):
            self.wakeups.listen(Topic.DELIVERIES, self._deliverer.wake)
            self._deliverer.start()
            self._loops += self._deliverer.loops
            self.stack.push_async_callback(self._deliverer.stop)

    async def _start_work(self) -> None:
        """The children, and the dispatcher that feeds them in the roles that run jobs."""
        settings = self.settings
        picture_limits = PictureLimits(size_bytes=settings.input_limit_bytes)
        self.pool = ChildPool(
            settings.child_count,
            EngineSpec(settings.ocr_engine, settings.ocr_options, picture_limits),
            modules=[*settings.operation_modules, PREVIEW_MODULE],
            limits=ChildLimits(
                wall_s=settings.run_limit_s,
                cpu_s=int(settings.run_limit_s) + 1,
                data_bytes=settings.child_memory_mb * 1024 * 1024,
            ),
        )
        await self.pool.start()
        self.stack.push_async_callback(self.pool.close)
        self.sources = Sources(self.objects, self._outbound, self.folder.scratch, settings.input_limit_bytes)
        self.dispatcher = Dispatcher(
            self.store,
            self.pool,
            self.sources,
            Outputs(self.objects, self.folder.scratch),
            self.operations,
            owner=self._owner,
            settings=DispatchSettings(
                lease=timedelta(seconds=settings.lease_s),
                drain=timedelta(seconds=settings.drain_s),
                poll=timedelta(seconds=settings.poll_s),
            ),
            on_claimed=self._publish,
            on_finished=self._tell_finished,
            registry=self.registry,
        )
        if not settings.database:
            recovered = await self.dispatcher.recover()
            if recovered:
                log.info("app.recovered", jobs=recovered)
        if settings.child_count:
            self.dispatcher.start()
            self._loops += self.dispatcher.loops
            self.stack.push_async_callback(self.dispatcher.stop)
        if settings.role in ("all", "worker"):
            self._start_triggers()
            await self._start_batches()

    def _start_triggers(self) -> None:
        poll = timedelta(seconds=self.settings.poll_s)
        triggers = Triggers(self.store, self.operations, self.limits, poll, self.tell_progress)
        self.wakeups.listen(Topic.EVENTS, triggers.wake)
        self._keep(triggers.loop)

    async def _start_batches(self) -> None:
        settings = self.settings
        runner = BatchRunner(
            self.store,
            self.objects,
            self.operations,
            self.limits,
            self._owner,
            timedelta(seconds=settings.lease_s),
            timedelta(seconds=settings.poll_s),
            self.tell_progress,
        )
        if not settings.database:
            await runner.recover()
        self.wakeups.listen(Topic.BATCHES, runner.wake)
        runner.loop.start()
        self._loops.append(runner.loop)
        self.stack.push_async_callback(runner.stop)

    def tell_created(self) -> None:
        self.wakeups.send(Topic.EVENTS)

    def tell_submitted(self, jobs: Sequence[Job]) -> None:
        self.wakeups.send(Topic.JOBS)
        self.note_submitted(jobs)

    def note_submitted(self, jobs: Sequence[Job]) -> None:
        self.stats.count_submitted(jobs)
        self._publish(jobs)

    def _tell_finished(self, ends: Ends) -> None:
        self.stats.count_ended(ends.jobs)
        self._publish(ends.jobs)
        if any(job.state is JobState.SUBMITTED for job in ends.jobs):
            self.wakeups.send(Topic.JOBS)  # given back: another process may have room for them
        self.tell_progress(Progress(ends.started, ends.deliveries))

    def tell_progress(self, progress: Progress) -> None:
        """What runs of workflows brought is durable."""
        if progress.jobs:
            self.tell_submitted(progress.jobs)
        if progress.deliveries:
            self.tell_deliveries(progress.deliveries, ())

    def tell_cancelled(self, job: Job) -> None:
        self.dispatcher.stop_job(job.id)
        self._publish([job])

    def tell_deliveries(self, deliveries: Sequence[Delivery], urls: Sequence[str]) -> None:
        """Deliveries just committed, and URLs whose targets an operator changed."""
        if self.settings.role == "all":
            self._deliverer.wake(deliveries, urls)
            if not deliveries:
                self.wakeups.tell_others(Topic.DELIVERIES)
        else:
            self.wakeups.send(Topic.DELIVERIES)

    def _publish(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.feed.publish(job.id)
            if job.step_of:
                self.feed.publish(job.step_of.run_id)

    def _keep(self, loop: Loop) -> None:
        """Run a background loop until the stop."""
        loop.start()
        self._loops.append(loop)
        self.stack.push_async_callback(loop.stop)

    def problems(self) -> list[str]:
        """Why this process is not ready: one sentence each."""
        found = [
            f"{loop.name} failed {loop.failures_in_row} times in a row" for loop in self._loops if not loop.is_healthy
        ]
        if self._watch.is_stalled or self._deliverer.is_stalled:
            found.append("due callbacks are not being sent")
        if self.pool.trouble:
            found.append(f"no operation can run: {self.pool.trouble}")
        return found


def _with_envelope(known: Mapping[str, Operation], envelope: str) -> Mapping[str, Operation]:
    """The operations with the setting's JSON envelope; "tag" leaves each as its page shows."""
    if envelope == "tag":
        return known
    return {tag: replace(operation, wraps_json=envelope == "wrapped") for tag, operation in known.items()}


def _open_wakeups(database: str) -> Wakeups:
    if not database:
        return LocalWakeups()
    from cloudfinite.adapters.wakeups_postgres import PostgresWakeups  # its driver is 6 MB that SQLite does without

    return PostgresWakeups(plain_postgres_url(database))


def _check_roles(settings: Settings) -> None:
    """Raises SetupError for roles that could not see one another's rows or objects."""
    if settings.role == "all":
        return
    if not settings.database:
        raise SetupError(
            f"--role {settings.role} needs a database that the other roles see",
            "give --database postgresql://…, or run the role all",
        )
    if not settings.shared_objects and not settings.keeps_all_elsewhere:
        raise SetupError(
            f"--role {settings.role} needs objects that the other roles see",
            "put the data folder on shared storage and set shared_objects = true, or keep all buckets at s3://…",
        )


def _socket_limit() -> int:
    """Outgoing sockets: half of what the process may open, at most 1,000."""
    import resource

    return min(1_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def _pause(seconds: float) -> Callable[[], Awaitable[None]]:
    async def pause() -> None:
        await asyncio.sleep(seconds)

    return pause
