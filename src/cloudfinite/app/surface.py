"""What the outside sees of a process: the edge, the calls, the JSON API, the console and the inbox."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cloudfinite import __version__
from cloudfinite.adapters.store import system_clock
from cloudfinite.domain.cors import LOCAL_PAGES
from cloudfinite.errors import SetupError
from cloudfinite.ports import Topic
from cloudfinite.service.batches import BatchService
from cloudfinite.service.deliveries import DeliveryService
from cloudfinite.service.events import EventService
from cloudfinite.service.job_control import JobControl
from cloudfinite.service.jobs import JobService
from cloudfinite.service.openings import OpeningService
from cloudfinite.service.previews import PreviewService
from cloudfinite.service.process import ProcessService
from cloudfinite.service.queues import QueueService
from cloudfinite.service.run_control import RunControl
from cloudfinite.service.templates import TemplateService
from cloudfinite.service.workflows import WorkflowService
from cloudfinite.web.api import Api
from cloudfinite.web.api_backup import BackupApi
from cloudfinite.web.api_deliveries import BucketSigningApi, DeliveriesApi, TargetsApi
from cloudfinite.web.api_jobs import JobsApi
from cloudfinite.web.api_keys import KeysApi
from cloudfinite.web.api_queues import QueuesApi
from cloudfinite.web.api_server import Children, ServerApi, ServerInfo
from cloudfinite.web.api_workflows import WorkflowsApi
from cloudfinite.web.batches import BatchHandlers
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
from cloudfinite.web.workflows import ExecutionHandlers, WorkflowHandlers
from cloudfinite.wire.routing import Hosts

if TYPE_CHECKING:
    from cloudfinite.app.application import App

_EDGE_GRACE_S = 5.0


class Surface:
    """Builds the web side of an `App` whose other parts have started."""

    def __init__(self, app: App) -> None:
        self._app = app
        settings, store, operations, limits = app.settings, app.store, app.operations, app.limits
        check_url = app.policy.check_url
        # PostgreSQL would run a claim beside the submission, and see nothing of it.
        wakes_early = not settings.database
        self._jobs = JobService(
            store,
            operations,
            limits,
            check_url,
            on_submitting=app.dispatcher.wake if wakes_early else lambda: None,
            on_submitted=app.note_submitted if wakes_early else app.tell_submitted,
            on_progress=app.tell_progress,
        )
        self._queues = QueueService(store, limits, check_url, on_change=lambda: app.wakeups.send(Topic.JOBS))
        self._deliveries = DeliveryService(store, app.signer, check_url, app.tell_deliveries)
        self._workflows = WorkflowService(store, operations, limits, check_url)
        self._runs = RunControl(
            store,
            app.objects.find_object,
            operations,
            limits,
            on_started=app.tell_progress,
            on_cancelled=app.tell_cancelled,
        )

    async def listen(self) -> str:
        """Take requests; returns the address. Raises SetupError when the port cannot be listened on."""
        app, settings = self._app, self._app.settings
        buckets = settings.bucket_list()
        default_bucket, default_region = buckets[0] if buckets else ("", "")
        cors = CrossOrigin(app.buckets, () if settings.is_strict else (LOCAL_PAGES,))
        edge = Edge(
            Router(self._handlers(cors), StoreFacts(app.store, app.objects)),
            app.keyring,
            system_clock,
            EdgeConfig(
                hosts=Hosts(tuple(settings.host_suffixes), settings.hosts),
                default_bucket=default_bucket,
                default_region=default_region,
                admin_token=settings.admin_token or app.folder.secret("admin.token"),
            ),
            app.registry,
            cors.let_read,
        )
        try:
            addresses = await edge.start(settings.host, settings.port)
        except OSError as exc:
            raise SetupError(
                f"{settings.host}:{settings.port} cannot be listened on: {exc.strerror}",
                "give another --port, or --port 0 for a free one",
            ) from exc
        app.stack.push_async_callback(edge.close, _EDGE_GRACE_S)
        app.stack.callback(app.feed.close)  # first of all: each open page would hold up the edge's end
        for address in addresses:
            app.policy.add_listener(*address)
        host, port = addresses[0]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def _handlers(self, cors: CrossOrigin) -> Handlers:
        app, operations = self._app, self._app.operations
        openings = OpeningService(app.store, app.limits)
        batches = BatchService(
            app.store, operations, app.limits, app.policy.check_url, lambda: app.wakeups.send(Topic.BATCHES)
        )
        process = ProcessService(app.sources, app.pool, app.settings.process_limit, openings.check_bound)
        return Handlers(
            jobs=JobHandlers(self._jobs, operations),
            queues=QueueHandlers(self._queues),
            templates=TemplateHandlers(TemplateService(app.store, operations), operations),
            workflows=WorkflowHandlers(self._workflows, operations),
            executions=ExecutionHandlers(self._runs, operations),
            batches=BatchHandlers(batches, operations),
            objects=ObjectHandlers(app.objects),
            uploads=UploadHandlers(app.uploads, app.objects, app.buckets),
            buckets=BucketHandlers(app.buckets, app.objects),
            process=ProcessHandlers(process, operations),
            openings=OpeningHandlers(openings),
            cors=cors,
            forms=FormHandlers(app.objects, app.keyring, system_clock),
            own=OwnPages(app.registry, app.problems, self._doors()).serve,
        )

    def _doors(self) -> Mapping[str, Handler]:
        """The pages below `/-/` by their first segment."""
        app, settings = self._app, self._app.settings
        inbox = Inbox(system_clock, on_received=lambda name, _: app.feed.publish(inbox_subject(name)))
        previews = PreviewService(app.objects, app.pool, app.folder.scratch, settings.input_limit_bytes)
        app.stack.push_async_callback(previews.close)
        console = Console(
            app.store,
            self._jobs,
            previews,
            app.feed,
            inbox,
            app.operations,
            self._deliveries,
            self._workflows,
            self._runs,
            system_clock,
            self._welcome(),
        )
        events = EventService(app.store, app.event_buckets, app.tell_created, app.silent_buckets)
        return {
            **dict.fromkeys(Console.DOORS, console.serve),
            "inbox": inbox.serve,
            "api": self._api().serve,
            "events": EventPages(events, settings.events_secret).serve,
        }

    def _api(self) -> Api:
        """The JSON API."""
        started_at = system_clock()
        app, settings = self._app, self._app.settings

        def info() -> ServerInfo:
            return ServerInfo(
                version=__version__,
                role=settings.role,
                database="PostgreSQL" if settings.database else "SQLite",
                url=app.url,
                started_at=started_at,
                tags=list(app.operations),
                children=Children(total=app.pool.size, ready=app.pool.ready, trouble=app.pool.trouble),
                problems=app.problems(),
                settings=settings.shown(),
            )

        control = JobControl(
            app.store,
            app.operations,
            on_submitted=app.tell_submitted,
            on_cancelled=app.tell_cancelled,
            on_progress=app.tell_progress,
        )
        return Api(
            [
                JobsApi(self._jobs, control, app.operations),
                QueuesApi(self._queues),
                WorkflowsApi(self._workflows, self._runs),
                DeliveriesApi(self._deliveries),
                TargetsApi(self._deliveries, system_clock),
                BucketSigningApi(self._deliveries, system_clock),
                KeysApi(app.keyring),
                ServerApi(app.buckets, app.stats, system_clock, info),
                BackupApi(app.backups),
            ],
            app.operations,
        )

    def _welcome(self) -> Welcome:
        """What the empty console's snippets show; a key pair only when it is the development pair."""
        settings = self._app.settings
        bucket, region = (settings.bucket_list() or [("", "")])[0]
        is_development = settings.is_loopback and not settings.secret_id
        secret_id, secret_key = (self._app.key_pair if is_development else None) or ("", "")
        return Welcome(bucket, region, secret_id, secret_key)
