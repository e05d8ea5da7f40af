"""The composition root: builds the adapters, hands them to the services, and runs them as one process."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from cloudfinite import __version__
from cloudfinite.adapters.backup import write_backup
from cloudfinite.adapters.data_folder import DataFolder
from cloudfinite.adapters.names import NameLookup
from cloudfinite.adapters.objects import LocalObjects
from cloudfinite.adapters.outbound import OutboundClient, OutboundLimits
from cloudfinite.adapters.policy import OutboundPolicy
from cloudfinite.adapters.pool import ChildLimits, ChildPool
from cloudfinite.adapters.postgres import plain_postgres_url
from cloudfinite.adapters.seal import AesSeal
from cloudfinite.adapters.store import open_store, system_clock
from cloudfinite.adapters.wakeups import LocalWakeups, PostgresWakeups
from cloudfinite.domain.cors import LOCAL_PAGES
from cloudfinite.domain.delivery import Delivery, RetrySchedule
from cloudfinite.domain.job import Job, JobState
from cloudfinite.domain.ocr import PictureLimits
from cloudfinite.errors import SetupError
from cloudfinite.operations import load, operations
from cloudfinite.ports import EngineSpec, Topic, Wakeups
from cloudfinite.service.access import Keyring
from cloudfinite.service.backup import BackupService
from cloudfinite.service.buckets import BucketService
from cloudfinite.service.changes import ChangeFeed
from cloudfinite.service.deliverer import Deliverer, DelivererSettings
from cloudfinite.service.deliveries import DeliveryService
from cloudfinite.service.dispatch import Dispatcher, DispatchSettings
from cloudfinite.service.events import EventService
from cloudfinite.service.housekeeping import Housekeeping
from cloudfinite.service.job_control import JobControl
from cloudfinite.service.jobs import JobService
from cloudfinite.service.loops import Loop
from cloudfinite.service.object_files import ObjectFiles
from cloudfinite.service.objects import ObjectService
from cloudfinite.service.openings import OpeningService
from cloudfinite.service.previews import CHILD_MODULE as PREVIEW_MODULE
from cloudfinite.service.previews import PreviewService
from cloudfinite.service.process import ProcessService
from cloudfinite.service.queues import QueueLimits, QueueService
from cloudfinite.service.signing import Signer
from cloudfinite.service.sources import Sources
from cloudfinite.service.stats import Stats
from cloudfinite.service.targets import TargetLimits
from cloudfinite.service.templates import TemplateService
from cloudfinite.service.uploads import UploadService
from cloudfinite.settings import Settings
from cloudfinite.web.api import Api
from cloudfinite.web.api_backup import BackupApi
from cloudfinite.web.api_deliveries import DeliveriesApi, TargetsApi
from cloudfinite.web.api_jobs import JobsApi
from cloudfinite.web.api_queues import QueuesApi
from cloudfinite.web.api_server import Children, ServerApi, ServerInfo
from cloudfinite.web.buckets import BucketHandlers
from cloudfinite.web.console import Console, Welcome, inbox_subject
from cloudfinite.web.cors import CrossOrigin
from cloudfinite.web.events import EventPages
from cloudfinite.web.facts import StoreFacts
from cloudfinite.web.forms import FormHandlers
from cloudfinite.web.handlers import JobHandlers, ProcessHandlers, QueueHandlers, TemplateHandlers
from cloudfinite.web.inbox import Inbox
from cloudfinite.web.objects import ObjectHandlers
from cloudfinite.web.openings import OpeningHandlers
from cloudfinite.web.pages import OwnPages
from cloudfinite.web.request import Handler
from cloudfinite.web.routes import Handlers, Router
from cloudfinite.web.server import Edge, EdgeConfig
from cloudfinite.web.uploads import UploadHandlers
from cloudfinite.wire.operation import Operation
from cloudfinite.wire.routing import Hosts
from cloudfinite.wire.webhooks import new_secret

log = structlog.get_logger()

_HOUSEKEEPING_S = 60.0
_DAY_S = 86_400.0
_KEYS_S = 10.0
_EDGE_GRACE_S = 5.0


class App:
    """One process of the server. `start` returns when it takes requests; `stop` drains and closes everything."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = ""
        self._stack = AsyncExitStack()  # closes in reverse: what is started last takes work first
        self._registry = CollectorRegistry()
        self._loops: list[Loop] = []
        self._feed = ChangeFeed()
        # New at each start: what an earlier one leased is not ours.
        self._owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"

    async def start(self) -> None:
        """Raises SetupError saying what to change; nothing is left running then."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def stop(self) -> None:
        """Take no more requests, let running jobs and attempts end. Nothing accepted is lost."""
        await self._stack.aclose()

    @property
    def key_pair(self) -> tuple[str, str] | None:
        """The first key pair."""
        return self._keyring.first()

    # --- in the order of starting -----------------------------------------------------------------------------------

    async def _start(self) -> None:
        settings = self.settings
        _check_roles(settings)
        load(settings.operation_modules)
        self._operations = _with_envelope(operations(), settings.callback_envelope)
        self._folder = DataFolder(settings.data)
        if not settings.database:
            self._folder.own()
        self._stack.callback(self._folder.release)
        self._store = open_store(settings.database, settings.data)
        self._stack.push_async_callback(self._store.close)
        await self._prepare_access()
        await self._start_wakeups()
        await self._start_objects()
        await self._start_deliveries()
        await self._start_work()
        await self._listen()

    async def _prepare_access(self) -> None:
        """Keys and buckets of the settings."""
        settings = self.settings
        self._seal = AesSeal(settings.encryption_key or self._folder.secret("secret.key"))
        self._keyring = Keyring(self._store, self._seal)
        await self._keyring.load()
        if bool(settings.secret_id) != bool(settings.secret_key):
            raise SetupError("secret_id and secret_key go together", "set both, or none for a development pair")
        if settings.secret_id:
            await self._keyring.add(settings.secret_id, settings.secret_key)
        elif self._keyring.first() is None:
            if not settings.is_loopback:
                raise SetupError(
                    f"listening on {settings.host} needs access keys",
                    "set CLOUDFINITE_SECRET_ID and CLOUDFINITE_SECRET_KEY",
                )
            await self._keyring.create()
        if settings.database:
            # Keys that another process added or removed.
            self._keep(Loop("keys.load", self._keyring.load, _pause(_KEYS_S)))
        self._buckets = BucketService(self._store)
        for name, region in settings.bucket_list():
            await self._buckets.ensure_bucket(name, region)

    async def _start_objects(self) -> None:
        files = LocalObjects(self._folder.objects)
        self._stack.callback(files.close)
        if self.settings.database:
            await self._check_objects_shared()
        stored = ObjectFiles(self._store, files, limit_bytes=self.settings.object_limit_bytes)
        self._objects = ObjectService(stored, on_created=self._tell_created)
        self._uploads = UploadService(stored, self._tell_created)
        is_ours = not self.settings.database
        self._backups = BackupService(stored, partial(write_backup, self._folder.path)) if is_ours else None
        self._keep(Loop("objects.garbage", self._collect_garbage, _pause(_HOUSEKEEPING_S)))
        self._keep(Loop("objects.orphans", self._collect_orphans, _pause(_DAY_S)))
        self._keep(Housekeeping(self._store, timedelta(days=self.settings.keep_days)).loop)
        self._stats = Stats(self._store)
        self._stats.loop.start()
        self._loops.append(self._stats.loop)
        self._stack.push_async_callback(self._stats.close)

    async def _check_objects_shared(self) -> None:
        """Raises SetupError when this database's objects lie in another folder than ours."""
        ours = self._folder.secret("objects/id")
        first = await self._store.run(lambda tx: tx.keep_mark("objects", ours))
        if ours != first:
            raise SetupError(
                f"the objects of this database are in another folder: {self._folder.objects / 'id'} is {ours}, "
                f"the database expects {first}",
                "give all processes on one database the same data folder, on storage that their machines share",
            )

    async def _collect_garbage(self) -> None:
        await self._objects.collect_garbage()

    async def _collect_orphans(self) -> None:
        await self._objects.collect_orphans()

    async def _start_wakeups(self) -> None:
        url = self.settings.database
        self._wakeups: Wakeups = PostgresWakeups(plain_postgres_url(url)) if url else LocalWakeups()
        await self._wakeups.start()
        self._stack.push_async_callback(self._wakeups.close)

    async def _start_deliveries(self) -> None:
        """The way out, and the deliverer that uses it in the roles that send callbacks."""
        settings = self.settings
        self._policy = OutboundPolicy(
            is_strict=settings.is_strict, allow_hosts=settings.allow_hosts, allow_cidrs=settings.allow_cidrs
        )
        limits = OutboundLimits(
            connect_s=settings.callback_connect_s, total_s=settings.callback_total_s, sockets=_socket_limit()
        )
        self._outbound = OutboundClient(
            self._policy, NameLookup(limits.dns_s), limits=limits, ca_file=settings.ca_file, proxy=settings.proxy
        )
        self._stack.push_async_callback(self._outbound.close)
        secret = settings.callback_secret or self._folder.secret("webhook.secret", new_secret)
        self._signer = Signer([secret], self._seal)
        schedule = RetrySchedule.of(settings.retry_schedule_s) if settings.retry_schedule_s else None
        self._deliverer = Deliverer(
            self._store,
            self._outbound,
            self._signer,
            self._owner,
            DelivererSettings(
                schedule or RetrySchedule.default(is_strict=settings.is_strict),
                TargetLimits(concurrency=settings.target_concurrency),
                slots=self._outbound.capacity,
                lease=timedelta(seconds=settings.lease_s),
                poll=timedelta(seconds=settings.poll_s),
            ),
            self._registry,
            clock=system_clock,
            on_held_elsewhere=lambda: self._wakeups.tell_others(Topic.DELIVERIES),
        )
        if not settings.database:
            await self._deliverer.recover()
        if settings.role in ("all", "deliver"):
            self._wakeups.listen(Topic.DELIVERIES, self._deliverer.wake)
            self._deliverer.start()
            self._loops += self._deliverer.loops
            self._stack.push_async_callback(self._deliverer.stop)

    async def _start_work(self) -> None:
        """The children, and the dispatcher that feeds them in the roles that run jobs."""
        settings = self.settings
        picture_limits = PictureLimits(size_bytes=settings.input_limit_bytes)
        self._pool = ChildPool(
            settings.child_count,
            EngineSpec(settings.ocr_engine, settings.ocr_options, picture_limits),
            modules=[*settings.operation_modules, PREVIEW_MODULE],
            limits=ChildLimits(
                wall_s=settings.run_limit_s,
                cpu_s=int(settings.run_limit_s) + 1,
                data_bytes=settings.child_memory_mb * 1024 * 1024,
            ),
        )
        await self._pool.start()
        self._stack.push_async_callback(self._pool.close)
        self._sources = Sources(self._objects, self._outbound, self._folder.scratch, settings.input_limit_bytes)
        self._dispatcher = Dispatcher(
            self._store,
            self._pool,
            self._sources,
            self._operations,
            owner=self._owner,
            settings=DispatchSettings(
                lease=timedelta(seconds=settings.lease_s),
                drain=timedelta(seconds=settings.drain_s),
                poll=timedelta(seconds=settings.poll_s),
            ),
            on_claimed=self._publish,
            on_finished=self._tell_finished,
            registry=self._registry,
        )
        if not settings.database:
            recovered = await self._dispatcher.recover()
            if recovered:
                log.info("app.recovered", jobs=recovered)
        if settings.child_count:
            self._dispatcher.start()
            self._loops += self._dispatcher.loops
            self._stack.push_async_callback(self._dispatcher.stop)

    def _tell_created(self) -> None:
        self._wakeups.send(Topic.EVENTS)

    def _tell_submitted(self, jobs: Sequence[Job]) -> None:
        self._wakeups.send(Topic.JOBS)
        self._stats.count_submitted(jobs)
        self._publish(jobs)

    def _tell_finished(self, jobs: Sequence[Job], deliveries: Sequence[Delivery]) -> None:
        self._stats.count_ended(jobs)
        self._publish(jobs)
        if any(job.state is JobState.SUBMITTED for job in jobs):
            self._wakeups.send(Topic.JOBS)  # given back: another process may have room for them
        if not deliveries:
            return
        if self.settings.role == "all":
            self._deliverer.wake(deliveries)
        else:
            self._wakeups.send(Topic.DELIVERIES)

    def _tell_cancelled(self, job: Job) -> None:
        self._dispatcher.stop_job(job.id)
        self._publish([job])

    def _tell_deliveries(self, deliveries: Sequence[Delivery], urls: Sequence[str]) -> None:
        """Deliveries just committed, and URLs whose targets an operator changed."""
        if self.settings.role == "all":
            self._deliverer.wake(deliveries, urls)
        else:
            self._wakeups.send(Topic.DELIVERIES)

    def _publish(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._feed.publish(job.id)

    def _keep(self, loop: Loop) -> None:
        """Run a background loop until the stop."""
        loop.start()
        self._loops.append(loop)
        self._stack.push_async_callback(loop.stop)

    # --- the web ----------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        settings = self.settings
        buckets = settings.bucket_list()
        default_bucket, default_region = buckets[0] if buckets else ("", "")
        self._cors = CrossOrigin(self._buckets, () if settings.is_strict else (LOCAL_PAGES,))
        self._edge = Edge(
            Router(self._handlers(), StoreFacts(self._store)),
            self._keyring.secret_of,
            system_clock,
            EdgeConfig(
                hosts=Hosts(tuple(settings.host_suffixes), settings.hosts),
                default_bucket=default_bucket,
                default_region=default_region,
                admin_token=settings.admin_token or self._folder.secret("admin.token"),
            ),
            self._registry,
            self._cors.let_read,
        )
        try:
            addresses = await self._edge.start(settings.host, settings.port)
        except OSError as exc:
            raise SetupError(
                f"{settings.host}:{settings.port} cannot be listened on: {exc.strerror}",
                "give another --port, or --port 0 for a free one",
            ) from exc
        self._stack.push_async_callback(self._edge.close, _EDGE_GRACE_S)
        self._stack.callback(self._feed.close)  # first of all: each open page would hold up the edge's end
        host, port = addresses[0]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        for address in addresses:
            self._policy.add_listener(*address)
        self._folder.announce(self.url)

    def _handlers(self) -> Handlers:
        settings = self.settings
        limits = QueueLimits(settings.queue_max_size, settings.queue_max_concurrent)
        self._wakeups.listen(Topic.JOBS, self._dispatcher.wake)

        def wake() -> None:
            self._wakeups.send(Topic.JOBS)

        check_url = self._policy.check_url
        jobs = JobService(self._store, self._operations, limits, check_url, on_submitted=self._tell_submitted)
        queues = QueueService(self._store, limits, check_url, on_change=wake)
        openings = OpeningService(self._store, limits)
        process = ProcessService(self._sources, self._pool, settings.process_limit, openings.check_bound)
        return Handlers(
            jobs=JobHandlers(jobs, self._operations),
            queues=QueueHandlers(queues),
            templates=TemplateHandlers(TemplateService(self._store, self._operations), self._operations),
            objects=ObjectHandlers(self._objects),
            uploads=UploadHandlers(self._uploads, self._objects, self._buckets),
            buckets=BucketHandlers(self._buckets, self._objects),
            process=ProcessHandlers(process, self._operations),
            openings=OpeningHandlers(openings),
            cors=self._cors,
            forms=FormHandlers(self._objects, self._keyring.secret_of, system_clock),
            own=OwnPages(self._registry, self.problems, self._doors(jobs, queues)).serve,
        )

    def _doors(self, jobs: JobService, queues: QueueService) -> Mapping[str, Handler]:
        """The pages below `/-/` by their first segment."""
        feed = self._feed
        inbox = Inbox(system_clock, on_received=lambda name, _: feed.publish(inbox_subject(name)))
        previews = PreviewService(self._objects, self._pool, self._folder.scratch, self.settings.input_limit_bytes)
        self._stack.push_async_callback(previews.close)
        deliveries = DeliveryService(self._store, self._signer, self._policy.check_url, self._tell_deliveries)
        console = Console(
            self._store,
            jobs,
            previews,
            feed,
            inbox,
            self._operations,
            deliveries.replay_delivery,
            system_clock,
            self._welcome(),
        )
        api = self._api(jobs, queues, deliveries)
        settings = self.settings
        events = EventService(self._store, settings.event_buckets, self._tell_created)
        return {
            **dict.fromkeys(Console.DOORS, console.serve),
            "inbox": inbox.serve,
            "api": api.serve,
            "events": EventPages(events, settings.events_secret).serve,
        }

    def _api(self, jobs: JobService, queues: QueueService, deliveries: DeliveryService) -> Api:
        """The JSON API."""
        started_at = system_clock()
        settings = self.settings

        def info() -> ServerInfo:
            return ServerInfo(
                version=__version__,
                role=settings.role,
                database="PostgreSQL" if settings.database else "SQLite",
                url=self.url,
                started_at=started_at,
                tags=list(self._operations),
                children=Children(total=self._pool.size, ready=self._pool.ready, trouble=self._pool.trouble),
                problems=self.problems(),
                settings=settings.shown(),
            )

        control = JobControl(
            self._store,
            on_submitted=self._tell_submitted,
            on_cancelled=self._tell_cancelled,
        )
        return Api(
            [
                JobsApi(jobs, control, self._operations),
                QueuesApi(queues),
                DeliveriesApi(deliveries),
                TargetsApi(deliveries),
                ServerApi(self._buckets, self._keyring, self._stats, system_clock, info),
                BackupApi(self._backups),
            ],
            self._operations,
        )

    def _welcome(self) -> Welcome:
        """What the empty console's snippets show; a key pair only when it is the development pair."""
        settings = self.settings
        bucket, region = (settings.bucket_list() or [("", "")])[0]
        is_development = settings.is_loopback and not settings.secret_id
        secret_id, secret_key = (self.key_pair if is_development else None) or ("", "")
        return Welcome(bucket, region, secret_id, secret_key)

    def problems(self) -> list[str]:
        """Why this process is not ready: one sentence each."""
        found = [
            f"{loop.name} failed {loop.failures_in_row} times in a row" for loop in self._loops if not loop.is_healthy
        ]
        if self._deliverer.is_stalled:
            found.append("due callbacks are not being sent")
        if self._pool.trouble:
            found.append(f"no operation can run: {self._pool.trouble}")
        return found


def _with_envelope(known: Mapping[str, Operation], envelope: str) -> Mapping[str, Operation]:
    """The operations with the setting's JSON envelope; "tag" leaves each as its page shows."""
    if envelope == "tag":
        return known
    return {tag: replace(operation, wraps_json=envelope == "wrapped") for tag, operation in known.items()}


def _check_roles(settings: Settings) -> None:
    """Raises SetupError for roles that could not see one another's rows or objects."""
    if settings.role == "all":
        return
    if not settings.database:
        raise SetupError(
            f"--role {settings.role} needs a database that the other roles see",
            "give --database postgresql://…, or run the role all",
        )
    if not settings.shared_objects:
        raise SetupError(
            f"--role {settings.role} needs objects that the other roles see",
            "put the data folder on shared storage and set shared_objects = true",
        )


def _socket_limit() -> int:
    """Outgoing sockets: half of what the process may open, at most 1,000."""
    import resource

    return min(1_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)


def _pause(seconds: float) -> Callable[[], Awaitable[None]]:
    async def pause() -> None:
        await asyncio.sleep(seconds)

    return pause


# --- the process ---------------------------------------------------------------------------------------------------


def serve(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT, then drain."""
    configure_logging(settings.log_level, as_json=settings.log_json)
    if sys.platform != "win32":
        import uvloop

        uvloop.run(_serve(settings))
    else:
        asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    app = App(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await app.start()
    _greet(app)
    try:
        await stopping.wait()
        log.info("app.draining")
    finally:
        await app.stop()


def _greet(app: App) -> None:
    """Tell a person where the server is and how to use it."""
    settings = app.settings
    lines = [f"cloudfinite {__version__} listens on {app.url}"]
    if not settings.secret_id and settings.is_loopback and (pair := app.key_pair):
        lines.append(f"development key pair: SecretId={pair[0]} SecretKey={pair[1]}")
    lines.append(f"console: {app.url}/-/console/   data: {settings.data}   Ctrl-C to stop")
    print("\n".join(lines), flush=True)


class _LastingStderr(io.TextIOBase):
    """Standard error that never fails: a full disk below a log file must not stop what is being told."""

    def write(self, words: str) -> int:
        with suppress(OSError):
            sys.stderr.write(words)
        return len(words)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure_logging(level: str, *, as_json: bool) -> None:
    """Structured lines to standard error; ids in each."""
    renderer = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(_LastingStderr()),  # type: ignore[arg-type]  # print() needs no more of it
        cache_logger_on_first_use=True,
    )
