"""The URL table: which call a request is, from the kind of its host, its method, its path and its query's flags.

One table in order; the first row that fits wins. A row without a handler is a call of the vendor that we know and have
not built: it answers 501, and the coverage page lists it. Building one means to give its row a handler.

Wire: Cloud Infinite and COS API documentation, "API Overview"; cos-python-sdk-v5, cos-go-sdk-v5, cos-java-sdk-v5 for
calls that the documentation lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Protocol

from aiohttp import web

from cloudfinite.domain.access import Action
from cloudfinite.domain.queue import SERVICES
from cloudfinite.errors import InvalidUrl, MethodNotAllowed, NotImplementedHere
from cloudfinite.web.request import Handler, HostKind, Query, Request

COVERAGE_PAGE = "docs/coverage.md"
OWN_PAGES = "-"  # The first segment of our own pages.

_ANY_HOST = frozenset(HostKind)
_API_HOSTS = _ANY_HOST
_OBJECT_HOSTS = frozenset({HostKind.COS, HostKind.PIC, HostKind.SERVICE, HostKind.OWN})
_BINDING_HOSTS = frozenset({HostKind.PIC, HostKind.CI})  # Go sends its binding calls to whatever its CIURL is.
_MULTIPART_FLAGS = ("uploads", "uploadId", "delete", "append")


# --- the table -----------------------------------------------------------------------------------------------------


class Shape(Enum):
    """What follows a row's fixed path segments."""

    EXACT = ""
    ID = "/{id}"
    KEY = "/{key}"  # An object key: anything but the root.
    ANY = "/*"  # The root, or an object key.


@dataclass(frozen=True, slots=True)
class Row:
    """One call.

    path: its fixed segments, "" for calls on objects and the bucket. flag: a name the query must have; `name=value`
    wants that value, `name*` a name that starts so. handler: the attribute path in `Handlers`, "" when not built.
    action: what a key must be allowed to do for it; every row that is built and signed has one.
    """

    method: str
    path: str
    shape: Shape = Shape.EXACT
    flag: str = ""
    handler: str = ""
    area: str = ""
    hosts: frozenset[HostKind] = _API_HOSTS
    is_signed: bool = True
    action: Action | None = None

    def __post_init__(self) -> None:
        """Raises ValueError for a call that anybody's key could make: it would be a hole in every policy."""
        if self.handler and self.is_signed and self.action is None:
            raise ValueError(f"the row {self.title} has a handler, so it needs an action of domain/access.py")

    @property
    def is_api(self) -> bool:
        return bool(self.path)

    @property
    def title(self) -> str:
        """As people write it: `PUT /jobs/{id}`, `GET /{key}?ci-process=OCR`, `GET / (service)`."""
        path = "/" + self.path if self.path else ""
        where = "" if self.hosts in (_API_HOSTS, _OBJECT_HOSTS) else f" ({', '.join(sorted(self.hosts))})"
        return f"{self.method} {(path + self.shape.value) or '/'}{'?' + self.flag if self.flag else ''}{where}"


def _api(area: str, calls: str, handler: str = "", action: Action | None = None) -> Iterator[Row]:
    """Rows of one area from words like `POST:jobs GET:jobs/{id} PUT:jobs/{id}?flag`."""
    for call in calls.split():
        method, _, target = call.partition(":")
        path, _, flag = target.partition("?")
        is_item = path.endswith("/{id}")
        shape = Shape.ID if is_item else Shape.EXACT
        yield Row(method, path.removesuffix("/{id}"), shape, flag, handler, area, action=action)


def _objects(
    area: str,
    method: str,
    shape: Shape,
    *flags: str,
    handler: str = "",
    action: Action | None = None,
    hosts: frozenset[HostKind] = _OBJECT_HOSTS,
) -> Iterator[Row]:
    for flag in flags or ("",):
        yield Row(method, "", shape, flag, handler, area, hosts, action=action)


def _api_rows() -> Iterator[Row]:
    jobs, recognition, moderation = "Job and Workflow", "AI Content Recognition", "Content Moderation"
    for service in SERVICES.values():
        yield from _api(jobs, f"POST:{service.jobs_path}", "jobs.submit", Action.CREATE_JOBS)
        yield from _api(jobs, f"GET:{service.jobs_path}", "jobs.list", Action.DESCRIBE_JOBS)
        yield from _api(jobs, f"GET:{service.jobs_path}/{{id}}", "jobs.describe", Action.DESCRIBE_JOB)
        yield from _api(jobs, f"PUT:{service.jobs_path}/{{id}}", "jobs.cancel", Action.CANCEL_JOB)
        yield from _api(jobs, f"GET:{service.queue_path}", "queues.list", Action.DESCRIBE_QUEUES)
        yield from _api(jobs, f"PUT:{service.queue_path}/{{id}}", "queues.update", Action.UPDATE_QUEUE)
        bucket = service.bucket_path
        yield from _api("Bucket Management", f"POST:{bucket}", "openings.open", Action.OPEN_SERVICE)
        yield from _api("Bucket Management", f"GET:{bucket}", "openings.list", Action.DESCRIBE_SERVICES)
        yield from _api("Bucket Management", f"DELETE:{bucket}", "openings.close", Action.CLOSE_SERVICE)
    yield from _api(jobs, "POST:template", "templates.create", Action.CREATE_TEMPLATE)
    yield from _api(jobs, "PUT:template/{id}", "templates.update", Action.UPDATE_TEMPLATE)
    yield from _api(jobs, "GET:template", "templates.list", Action.DESCRIBE_TEMPLATES)
    yield from _api(jobs, "DELETE:template/{id}", "templates.delete", Action.DELETE_TEMPLATE)
    yield from _api(jobs, "POST:workflow", "workflows.create", Action.CREATE_WORKFLOW)
    yield from _api(jobs, "GET:workflow", "workflows.list", Action.DESCRIBE_WORKFLOWS)
    yield from _api(jobs, "PUT:workflow/{id}?active", "workflows.activate", Action.UPDATE_WORKFLOW)
    yield from _api(jobs, "PUT:workflow/{id}?paused", "workflows.pause", Action.UPDATE_WORKFLOW)
    yield from _api(jobs, "PUT:workflow/{id}", "workflows.update", Action.UPDATE_WORKFLOW)
    yield from _api(jobs, "DELETE:workflow/{id}", "workflows.delete", Action.DELETE_WORKFLOW)
    yield from _api(jobs, "POST:triggerworkflow", "executions.trigger", Action.TRIGGER_WORKFLOW)
    yield from _api(jobs, "GET:workflowexecution", "executions.list", Action.DESCRIBE_EXECUTIONS)
    yield from _api(jobs, "GET:workflowexecution/{id}", "executions.describe", Action.DESCRIBE_EXECUTION)
    yield from _api(jobs, "PUT:workflowexecution/{id}", "executions.cancel", Action.CANCEL_EXECUTION)
    yield from _api(jobs, "POST:inventorytriggerjob", "batches.create", Action.CREATE_BATCH)
    yield from _api(jobs, "GET:inventorytriggerjob", "batches.list", Action.DESCRIBE_BATCHES)
    yield from _api(jobs, "GET:inventorytriggerjob/{id}", "batches.describe", Action.DESCRIBE_BATCH)
    yield from _api(jobs, "PUT:inventorytriggerjob/{id}", "batches.cancel", Action.CANCEL_BATCH)
    yield from _api(jobs, "DELETE:inventorytriggerjob/{id}", "batches.delete", Action.DELETE_BATCH)
    yield from _api("Bucket Management", "GET:cibuckets POST:ImageSearchBucket")
    for medium in ("image", "video", "audio", "text", "document", "webpage"):
        yield from _api(moderation, f"POST:{medium}/auditing GET:{medium}/auditing/{{id}}")
    yield from _api(moderation, "POST:video/cancel_auditing/{id} POST:report/badcase")
    for library in ("audit/strategy", "audit/textlib"):
        yield from _api(moderation, f"POST:{library} GET:{library} PUT:{library}/{{id}} DELETE:{library}/{{id}}")
    yield from _api("Cloud Virus Detection", "POST:virus/detect GET:virus/detect/{id}")
    yield from _api("Media Processing", "GET:playKey PUT:playKey POST:snapshot POST:mediainfo POST:avinfo")
    yield from _api("Document Processing", "POST:doccompare")
    yield from _api(recognition, "POST:dataset GET:dataset PUT:dataset DELETE:dataset POST:datasetquery/{id}")
    yield from _api(recognition, "POST:filemeta GET:filemeta PUT:filemeta DELETE:filemeta")


# Wire: COS API documentation, the calls "with a sub-resource".
_BUCKET_SETTINGS = (
    "accelerate domain domaincertificate encryption intelligenttiering inventory lifecycle logging "
    "notification object-lock origin policy referer replication tagging versioning website"
)
_IMAGE_FLAGS = (
    "imageMogr2* imageView2* imageInfo* exif* imageAve* imageSlim* watermark* guetzli* TDCRefresh* originalpic*"
)
_PROCESSES = {
    "Image Processing": (
        "QRcode qrcode-generate ImageInspect originImage ImageRepair AISuperResolution AIEnhanceImage AIImageColoring "
        "AIImageCrop GoodsMatting AIPicMatting AIPortraitMatting AssessQuality ImageAIGCMetadata"
    ),
    "AI Content Recognition": (
        "detect-label AIObjectDetect ImageTargetRec DetectCar AILicenseRec IDCardOCR DetectFace face-effect FaceSearch "
        "AIBodyRecognition detect-pet AIGameRec RecognizeLogo ai-recognition AIImageAnalysis content-analysis "
        "AutoTranslationBlock LivenessRecognition GetLiveCode GetActionSequence ImageSearch"
    ),
    "Media Processing": "snapshot videoinfo pm3u8 getplaylist modifym3u8token MediaAIGCMetadata",
    "Document Processing": "doc-preview DocAIGCMetadata",
    "File Processing": "filehash zippreview",
    "Content Moderation": "sensitive-content-recognition",
}


def _object_rows() -> Iterator[Row]:
    store, image = "Object Storage", "Image Processing"
    yield from _objects(
        "AI Content Recognition",
        "GET",
        Shape.ANY,
        "ci-process=OCR",
        handler="process.run",
        action=Action.PROCESS_OBJECT,
    )
    for area, names in _PROCESSES.items():
        for method in ("GET", "POST", "PUT") if area == "AI Content Recognition" else ("GET", "POST"):
            yield from _objects(area, method, Shape.ANY, *(f"ci-process={name}" for name in names.split()))
    # Any other value: the handler says which there are.
    yield from _objects(
        "AI Content Recognition", "GET", Shape.ANY, "ci-process", handler="process.run", action=Action.PROCESS_OBJECT
    )
    yield from _objects(image, "POST", Shape.KEY, "image_process")
    yield from _objects(image, "GET", Shape.KEY, *_IMAGE_FLAGS.split())

    yield from _objects(
        store, "POST", Shape.KEY, "uploads", handler="uploads.start", action=Action.INITIATE_MULTIPART_UPLOAD
    )
    yield from _objects(
        store, "POST", Shape.KEY, "uploadId", handler="uploads.complete", action=Action.COMPLETE_MULTIPART_UPLOAD
    )
    yield from _objects(store, "POST", Shape.KEY, "append", handler="objects.append", action=Action.APPEND_OBJECT)
    yield from _objects(store, "POST", Shape.KEY, "restore", "select")
    yield from _objects(store, "PUT", Shape.KEY, "uploadId", handler="uploads.put_part", action=Action.UPLOAD_PART)
    yield from _objects(store, "GET", Shape.KEY, "uploadId", handler="uploads.list_parts", action=Action.LIST_PARTS)
    yield from _objects(
        store, "DELETE", Shape.KEY, "uploadId", handler="uploads.abort", action=Action.ABORT_MULTIPART_UPLOAD
    )
    yield from _objects(store, "PUT", Shape.KEY, "acl", "tagging", "retention", "legal-hold", "symlink")
    yield from _objects(store, "GET", Shape.KEY, "acl", "tagging", "retention", "legal-hold", "symlink")
    yield from _objects(store, "DELETE", Shape.KEY, "tagging")
    yield from _objects(store, "PUT", Shape.KEY, handler="objects.put", action=Action.PUT_OBJECT)
    yield from _objects(store, "GET", Shape.KEY, handler="objects.get", action=Action.GET_OBJECT)
    yield from _objects(store, "HEAD", Shape.KEY, handler="objects.head", action=Action.HEAD_OBJECT)
    yield from _objects(store, "DELETE", Shape.KEY, handler="objects.delete", action=Action.DELETE_OBJECT)
    yield from _objects(store, "POST", Shape.KEY)

    for method in ("GET", "PUT", "DELETE"):
        yield from _objects(image, method, Shape.EXACT, "style", hosts=_BINDING_HOSTS)
    binding = "Bucket Management"
    yield from _objects(
        binding,
        "PUT",
        Shape.EXACT,
        "unbind",
        handler="openings.unbind",
        action=Action.UNBIND_BUCKET,
        hosts=_BINDING_HOSTS,
    )
    yield from _objects(
        store,
        "GET",
        Shape.EXACT,
        handler="buckets.list_all",
        action=Action.GET_SERVICE,
        hosts=frozenset({HostKind.SERVICE}),
    )
    for method, name, action in (
        ("GET", "cors.get", Action.GET_BUCKET_CORS),
        ("PUT", "cors.put", Action.PUT_BUCKET_CORS),
        ("DELETE", "cors.delete", Action.DELETE_BUCKET_CORS),
    ):
        yield from _objects(store, method, Shape.EXACT, "cors", handler=name, action=action)
    yield from _objects(store, "GET", Shape.EXACT, "acl", handler="buckets.acl", action=Action.GET_BUCKET_ACL)
    yield from _objects(store, "PUT", Shape.EXACT, "acl", handler="buckets.set_acl", action=Action.PUT_BUCKET_ACL)
    for method in ("GET", "PUT", "DELETE"):
        yield from _objects(store, method, Shape.EXACT, *_BUCKET_SETTINGS.split())
    yield from _objects(
        binding, "PUT", Shape.EXACT, handler="openings.bind", action=Action.BIND_BUCKET, hosts=_BINDING_HOSTS
    )
    yield from _objects(
        binding, "GET", Shape.EXACT, handler="openings.binding", action=Action.DESCRIBE_BINDING, hosts=_BINDING_HOSTS
    )
    yield from _objects(
        store, "GET", Shape.EXACT, "uploads", handler="uploads.list", action=Action.LIST_MULTIPART_UPLOADS
    )
    yield from _objects(store, "GET", Shape.EXACT, "versions")
    yield from _objects(
        store, "GET", Shape.EXACT, "location", handler="buckets.location", action=Action.GET_BUCKET_LOCATION
    )
    yield from _objects(store, "GET", Shape.EXACT, "list-type=2", handler="buckets.list_v2", action=Action.GET_BUCKET)
    yield from _objects(store, "GET", Shape.EXACT, handler="buckets.list", action=Action.GET_BUCKET)
    yield from _objects(store, "PUT", Shape.EXACT, handler="buckets.create", action=Action.PUT_BUCKET)
    yield from _objects(store, "HEAD", Shape.EXACT, handler="buckets.head", action=Action.HEAD_BUCKET)
    yield from _objects(store, "DELETE", Shape.EXACT, handler="buckets.delete", action=Action.DELETE_BUCKET)
    yield from _objects(
        store, "POST", Shape.EXACT, "delete", handler="buckets.delete_objects", action=Action.DELETE_OBJECTS
    )
    # The form carries its signature, and its handler checks the action.
    action = Action.POST_OBJECT
    yield Row("POST", "", Shape.EXACT, "", "forms.post", store, _OBJECT_HOSTS, is_signed=False, action=action)
    # Browsers sign no preflight.
    yield Row("OPTIONS", "", Shape.ANY, "", "cors.preflight", store, _ANY_HOST, is_signed=False)


TABLE: tuple[Row, ...] = (*_api_rows(), *_object_rows())
OWN_ROW = Row("*", OWN_PAGES, Shape.ANY, "", "own", "Data Monitoring", frozenset({HostKind.OWN}), is_signed=False)


# --- finding a row -------------------------------------------------------------------------------------------------


class JobHandlers(Protocol):
    async def submit(self, request: Request, /) -> web.StreamResponse: ...
    async def describe(self, request: Request, /) -> web.StreamResponse: ...
    async def list(self, request: Request, /) -> web.StreamResponse: ...
    async def cancel(self, request: Request, /) -> web.StreamResponse: ...


class QueueHandlers(Protocol):
    async def list(self, request: Request, /) -> web.StreamResponse: ...
    async def update(self, request: Request, /) -> web.StreamResponse: ...


class TemplateHandlers(Protocol):
    async def create(self, request: Request, /) -> web.StreamResponse: ...
    async def update(self, request: Request, /) -> web.StreamResponse: ...
    async def list(self, request: Request, /) -> web.StreamResponse: ...
    async def delete(self, request: Request, /) -> web.StreamResponse: ...


class WorkflowHandlers(Protocol):
    async def create(self, request: Request, /) -> web.StreamResponse: ...
    async def update(self, request: Request, /) -> web.StreamResponse: ...
    async def activate(self, request: Request, /) -> web.StreamResponse: ...
    async def pause(self, request: Request, /) -> web.StreamResponse: ...
    async def delete(self, request: Request, /) -> web.StreamResponse: ...
    async def list(self, request: Request, /) -> web.StreamResponse: ...


class ExecutionHandlers(Protocol):
    async def trigger(self, request: Request, /) -> web.StreamResponse: ...
    async def describe(self, request: Request, /) -> web.StreamResponse: ...
    async def list(self, request: Request, /) -> web.StreamResponse: ...
    async def cancel(self, request: Request, /) -> web.StreamResponse: ...


class BatchHandlers(Protocol):
    async def create(self, request: Request, /) -> web.StreamResponse: ...
    async def describe(self, request: Request, /) -> web.StreamResponse: ...
    async def list(self, request: Request, /) -> web.StreamResponse: ...
    async def cancel(self, request: Request, /) -> web.StreamResponse: ...
    async def delete(self, request: Request, /) -> web.StreamResponse: ...


class ObjectHandlers(Protocol):
    async def put(self, request: Request, /) -> web.StreamResponse: ...
    async def append(self, request: Request, /) -> web.StreamResponse: ...
    async def get(self, request: Request, /) -> web.StreamResponse: ...
    async def head(self, request: Request, /) -> web.StreamResponse: ...
    async def delete(self, request: Request, /) -> web.StreamResponse: ...


class UploadHandlers(Protocol):
    async def start(self, request: Request, /) -> web.StreamResponse: ...
    async def put_part(self, request: Request, /) -> web.StreamResponse: ...
    async def list_parts(self, request: Request, /) -> web.StreamResponse: ...
    async def complete(self, request: Request, /) -> web.StreamResponse: ...
    async def abort(self, request: Request, /) -> web.StreamResponse: ...
    async def list(self, request: Request, /) -> web.StreamResponse: ...


class BucketHandlers(Protocol):
    async def list_all(self, request: Request, /) -> web.StreamResponse: ...
    async def list(self, request: Request, /) -> web.StreamResponse: ...
    async def list_v2(self, request: Request, /) -> web.StreamResponse: ...
    async def location(self, request: Request, /) -> web.StreamResponse: ...
    async def acl(self, request: Request, /) -> web.StreamResponse: ...
    async def set_acl(self, request: Request, /) -> web.StreamResponse: ...
    async def create(self, request: Request, /) -> web.StreamResponse: ...
    async def head(self, request: Request, /) -> web.StreamResponse: ...
    async def delete(self, request: Request, /) -> web.StreamResponse: ...
    async def delete_objects(self, request: Request, /) -> web.StreamResponse: ...


class OpeningHandlers(Protocol):
    async def open(self, request: Request, /) -> web.StreamResponse: ...
    async def list(self, request: Request, /) -> web.StreamResponse: ...
    async def close(self, request: Request, /) -> web.StreamResponse: ...
    async def bind(self, request: Request, /) -> web.StreamResponse: ...
    async def unbind(self, request: Request, /) -> web.StreamResponse: ...
    async def binding(self, request: Request, /) -> web.StreamResponse: ...


class FormHandlers(Protocol):
    async def post(self, request: Request, /) -> web.StreamResponse: ...


class CorsHandlers(Protocol):
    async def preflight(self, request: Request, /) -> web.StreamResponse: ...
    async def get(self, request: Request, /) -> web.StreamResponse: ...
    async def put(self, request: Request, /) -> web.StreamResponse: ...
    async def delete(self, request: Request, /) -> web.StreamResponse: ...


class ProcessHandlers(Protocol):
    async def run(self, request: Request, /) -> web.StreamResponse: ...


@dataclass(frozen=True, slots=True)
class Handlers:
    """Who serves the built rows. own: everything below `/-/`, which has paths of its own."""

    jobs: JobHandlers
    queues: QueueHandlers
    templates: TemplateHandlers
    workflows: WorkflowHandlers
    batches: BatchHandlers
    executions: ExecutionHandlers
    objects: ObjectHandlers
    uploads: UploadHandlers
    buckets: BucketHandlers
    process: ProcessHandlers
    openings: OpeningHandlers
    cors: CorsHandlers
    forms: FormHandlers
    own: Handler


class Facts(Protocol):
    """What the store knows that decides between an API call and an object of the same path."""

    async def object_exists(self, bucket: str, key: str, /) -> bool: ...

    async def id_is_ours(self, segment: str, item_id: str, /) -> bool:
        """Whether `item_id` names something that `/<segment>/<id>` serves."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The row a request means, and the object call it may mean instead."""

    row: Row
    instead: Row | None = None


class Router:
    """The table with its handlers."""

    def __init__(self, handlers: Handlers, facts: Facts, table: Sequence[Row] = TABLE) -> None:
        self._facts = facts
        self._handlers: dict[str, Handler] = {
            name: attrgetter(name)(handlers) for name in {row.handler for row in table} | {"own"} if name
        }
        self._api: dict[str, list[Row]] = {}
        self._objects: dict[str, list[Row]] = {}
        for row in table:
            if row.is_api:
                self._api.setdefault(row.path.split("/", 1)[0], []).append(row)
            else:
                self._objects.setdefault(row.method, []).append(row)
        self._reserved = {row.path for row in table if row.is_api and row.handler}

    def find(self, kind: HostKind, method: str, path: str, query: Query) -> Choice:
        """Which row a request means. Raises InvalidUrl or MethodNotAllowed when none.

        On hosts with objects a reserved path may be a key: then the choice holds both (see `settle`).
        """
        segments = path[1:].split("/")
        if segments[0] == OWN_PAGES and kind is HostKind.OWN:
            return Choice(OWN_ROW)
        if method == "OPTIONS":
            return Choice(self._find_object(kind, method, path, query))
        if kind in (HostKind.COS, HostKind.PIC):
            return self._find_beside_objects(kind, method, path, segments, query)
        api = self._find_api(kind, method, segments, query)
        if api is not None:
            return Choice(api)
        return Choice(self._find_object(kind, method, path, query))

    def _find_beside_objects(self, kind: HostKind, method: str, path: str, segments: list[str], query: Query) -> Choice:
        if method == "POST" and any(query.has(flag) for flag in _MULTIPART_FLAGS):
            return Choice(self._find_object(kind, method, path, query))
        try:
            api = self._find_api(kind, method, segments, query)
        except (InvalidUrl, MethodNotAllowed):
            if method == "POST":
                raise
            api = None
        if api is None:
            return Choice(self._find_object(kind, method, path, query))
        if method == "POST":
            return Choice(api)
        if api.shape is Shape.ID or method == "GET":
            return Choice(api, self._find_object(kind, method, path, query))
        return Choice(self._find_object(kind, method, path, query))

    def _find_api(self, kind: HostKind, method: str, segments: list[str], query: Query) -> Row | None:
        """The API row; None when the path is none of the API's. Raises when the path is, but the call is not."""
        rows = self._api.get(segments[0], ())
        if kind not in (HostKind.COS, HostKind.PIC) and len(segments) > 1 and not segments[-1]:
            segments = segments[:-1]  # `/queue/`: the Python SDK with an empty id.
        shapes = [row for row in rows if _fits_api(row, segments)]
        for row in shapes:
            if row.method == method and _has_flag(query, row.flag):
                return row
        # Calls we have not built reserve only their exact paths where objects live: `/image/cat.png` is a key.
        is_reserved = kind is HostKind.CI or any("/".join(segments[:n]) in self._reserved for n in (1, 2))
        if not is_reserved:
            return None
        if shapes:
            allowed = sorted({row.method for row in shapes})
            raise MethodNotAllowed(
                f"The method {method} is not allowed here; allowed: {', '.join(allowed)}.",
                headers=(("Allow", ", ".join(allowed)),),
            )
        if kind is HostKind.CI and segments == [""]:
            return self._find_object(kind, method, "/", query)
        raise InvalidUrl()

    def _find_object(self, kind: HostKind, method: str, path: str, query: Query) -> Row:
        is_root = path == "/"
        for row in self._objects.get(method, ()):
            if kind in row.hosts and _fits_object(row.shape, is_root) and _has_flag(query, row.flag):
                return row
        if kind is HostKind.CI:
            raise InvalidUrl()
        raise MethodNotAllowed()

    async def settle(self, choice: Choice, bucket: str, path: str) -> Row:
        """Decide between the two rows of a choice, by what the store knows. Ask after the signature is verified."""
        if choice.instead is None:
            return choice.row
        key = path[1:]
        if choice.row.shape is Shape.ID:
            segment, _, ids = key.rpartition("/")
            for item_id in ids.split(","):
                if await self._facts.id_is_ours(segment, item_id):
                    return choice.instead if await self._facts.object_exists(bucket, key) else choice.row
            return choice.instead
        return choice.instead if await self._facts.object_exists(bucket, key) else choice.row

    def handler(self, row: Row) -> Handler:
        """Who serves the row. Raises NotImplementedHere when nobody does yet."""
        if not row.handler:
            raise NotImplementedHere(f"{row.title} is not implemented yet; {COVERAGE_PAGE} lists what is.")
        return self._handlers[row.handler]


def _fits_api(row: Row, segments: list[str]) -> bool:
    fixed = row.path.count("/") + 1
    if len(segments) != fixed + (row.shape is Shape.ID) or not segments[-1]:
        return False
    return "/".join(segments[:fixed]) == row.path


def _fits_object(shape: Shape, is_root: bool) -> bool:
    return shape is Shape.ANY or (shape is Shape.EXACT) == is_root


def _has_flag(query: Query, flag: str) -> bool:
    if not flag:
        return True
    if not query.pairs:
        return False
    if flag.endswith("*"):
        return any(name.lower().startswith(flag[:-1].lower()) for name, _ in query.pairs)
    name, _, value = flag.partition("=")
    return query.get(name).lower() == value.lower() if value else query.has(name)


def coverage(table: Sequence[Row] = TABLE) -> Mapping[str, list[Row]]:
    """The calls by product area, each once; those with a handler are built."""
    areas: dict[str, dict[str, Row]] = {}
    for row in table:
        areas.setdefault(row.area, {}).setdefault(row.title, row)
    return {area: list(rows.values()) for area, rows in areas.items()}
