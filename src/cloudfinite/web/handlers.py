"""The API's calls: parse, ask the service, render; a few lines each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from aiohttp import web

from cloudfinite.domain.access import Action
from cloudfinite.domain.job import Job, JobRequest
from cloudfinite.domain.queue import SERVICES, QueueState
from cloudfinite.domain.template import Template
from cloudfinite.errors import AccessDenied, InvalidArgument, NotImplementedHere
from cloudfinite.service.jobs import JobService
from cloudfinite.service.process import ProcessService
from cloudfinite.service.queues import QueueService
from cloudfinite.service.templates import TemplateService
from cloudfinite.web import replies
from cloudfinite.web.request import Request
from cloudfinite.wire import requests, shapes
from cloudfinite.wire.documents import Element, parse_body, read_fields
from cloudfinite.wire.nodes import Node
from cloudfinite.wire.operation import Operation

_QUEUE_SERVICES = {service.queue_path: service.name for service in SERVICES.values()}


class JobHandlers:
    """`/jobs` and its aliases of the single services, which see the same jobs."""

    def __init__(self, jobs: JobService, operations: Mapping[str, Operation]) -> None:
        self._jobs = jobs
        self._operations = operations

    async def submit(self, request: Request) -> web.StreamResponse:
        wanted = requests.read_submission(parse_body(await request.body()), self._operations)
        for one in wanted:
            _check_output(request, one)
        jobs = await self._jobs.submit_jobs(request.bucket, wanted, lambda job: _check_job(request, job))
        nodes = [shapes.job_detail(job, self._operations[job.tag]) for job in jobs]
        return replies.node(request, shapes.jobs_answer(nodes))

    async def describe(self, request: Request) -> web.StreamResponse:
        ids = requests.read_ids(request.segments[1], "the path")
        jobs, missing = await self._jobs.describe_jobs(
            request.bucket, ids, lambda job: _is_allowed(request, Action.DESCRIBE_JOB, job)
        )
        nodes = [shapes.job_detail(job, self._operations[job.tag]) for job in jobs]
        return replies.node(request, shapes.jobs_answer(nodes, missing=missing))

    async def list(self, request: Request) -> web.StreamResponse:
        wanted = requests.read_job_filter(request.query.get, self._operations)
        prefixes = request.grant.prefixes(Action.DESCRIBE_JOBS, request.bucket)
        page = await self._jobs.list_jobs(request.bucket, replace(wanted, object_prefixes=prefixes))
        nodes = [shapes.job_detail(job, self._operations[job.tag]) for job in page.jobs]
        token = ""
        if page.next_position:
            last, seq = page.next_position
            token = requests.write_token(last.created_at, seq)
        return replies.node(request, shapes.jobs_answer(nodes, next_token=token))

    async def cancel(self, request: Request) -> web.StreamResponse:
        await self._jobs.cancel_job(
            request.bucket, request.segments[1], lambda job: _is_allowed(request, Action.CANCEL_JOB, job)
        )
        return replies.empty(request)


def _check_output(request: Request, wanted: JobRequest) -> None:
    """Raises AccessDenied for an output bucket that the key may not write to at all, whether or not it exists."""
    if wanted.output is not None:
        bucket = wanted.output.bucket or request.bucket
        if not request.grant.prefixes(Action.PUT_OBJECT, bucket):
            raise AccessDenied(f"this key may not {Action.PUT_OBJECT.wire} in {bucket}")


def _check_job(request: Request, job: Job) -> None:
    """Raises AccessDenied unless the key may submit the job, read its input and write its output."""
    request.check(Action.CREATE_JOBS, job.input.object_key)
    if job.input.object_key:
        request.check(Action.GET_OBJECT, job.input.object_key)
    if job.output is not None:
        request.check(Action.PUT_OBJECT, job.output.key, job.output.bucket)


def _is_allowed(request: Request, action: Action, job: Job) -> bool:
    """Whether the job exists for the key: a job counts as its input does. One with a URL is the whole bucket's."""
    return request.grant.allows(action, job.bucket, job.input.object_key)


class QueueHandlers:
    """`/queue`, `/ai_queue` and the other services' queues."""

    def __init__(self, queues: QueueService) -> None:
        self._queues = queues

    async def list(self, request: Request) -> web.StreamResponse:
        service = _QUEUE_SERVICES[request.segments[0]]
        get = request.query.get
        _check_category(get("category"), service)
        state = get("state")
        if state not in ("", "All", *QueueState):
            raise InvalidArgument(f"state is {state!r}; it must be Active or Paused")
        ids = requests.read_ids(get("queueIds") or get("queueId"), "queueIds")
        queues, missing = await self._queues.list_queues(
            request.bucket, service, ids=ids, state=None if state in ("", "All") else QueueState(state)
        )
        page = requests.read_page(get)
        nodes = [shapes.queue_node(queue, "QueueList") for queue in page.cut(queues)]
        if ids:
            nodes += [shapes.leaf("NonExistPIDs", queue_id, many=True) for queue_id in missing]
            return replies.node(request, shapes.answer(request.id, *nodes))
        return replies.node(request, shapes.page_answer(request.id, len(queues), page.number, page.size, nodes))

    async def update(self, request: Request) -> web.StreamResponse:
        body = parse_body(await request.body())
        queue = await self._queues.update_queue(
            request.bucket,
            _QUEUE_SERVICES[request.segments[0]],
            request.segments[1],
            lambda queue, now: requests.read_queue_update(body, queue, now),
        )
        return replies.node(request, shapes.answer(request.id, shapes.queue_node(queue, "Queue")))


def _check_category(category: str, service: str) -> None:
    known = SERVICES[service].category
    if category not in ("", "CateAll", known, "SpeedTranscoding"):
        raise InvalidArgument(f"category is {category!r}; it must be CateAll or {known}")


class TemplateHandlers:
    """`/template`."""

    def __init__(self, templates: TemplateService, operations: Mapping[str, Operation]) -> None:
        self._templates = templates
        self._operations = operations

    async def create(self, request: Request) -> web.StreamResponse:
        wanted = requests.read_template(parse_body(await request.body()), self._operations)
        template = await self._templates.create_template(
            request.bucket, wanted.operation.tag, wanted.name, wanted.params
        )
        node = shapes.template_node(template, wanted.operation, "Template")
        return replies.node(request, shapes.answer(request.id, node))

    async def update(self, request: Request) -> web.StreamResponse:
        wanted = requests.read_template(parse_body(await request.body()), self._operations)
        template = await self._templates.update_template(
            request.bucket, request.segments[1], wanted.operation.tag, wanted.name, wanted.params
        )
        node = shapes.template_node(template, wanted.operation, "Template")
        return replies.node(request, shapes.answer(request.id, node))

    async def delete(self, request: Request) -> web.StreamResponse:
        template_id = request.segments[1]
        await self._templates.delete_template(request.bucket, template_id)
        return replies.node(request, shapes.answer(request.id, shapes.leaf("TemplateId", template_id)))

    async def list(self, request: Request) -> web.StreamResponse:
        get = request.query.get
        category = get("category") or "Custom"
        if category not in ("Custom", "Official"):
            raise InvalidArgument(f"category is {category!r}; it must be Custom or Official")
        tag = get("tag")
        ids = requests.read_ids(get("ids"), "ids")
        templates = await self._templates.list_templates(
            request.bucket,
            is_official=category == "Official",
            tag="" if tag in ("", "All") else tag,
            name_prefix=get("name"),
            ids=ids,
        )
        page = requests.read_page(get)
        nodes = [self._node(template) for template in page.cut(templates)]
        if ids:
            return replies.node(request, shapes.answer(request.id, *nodes))
        return replies.node(request, shapes.page_answer(request.id, len(templates), page.number, page.size, nodes))

    def _node(self, template: Template) -> Node:
        return shapes.template_node(template, self._operations[template.tag], "TemplateList")


class ProcessHandlers:
    """`GET /{key}?ci-process=…`: operations whose answer the client waits for."""

    def __init__(self, process: ProcessService, operations: Mapping[str, Operation]) -> None:
        self._process = process
        self._operations = {operation.process: operation for operation in operations.values() if operation.process}

    async def run(self, request: Request) -> web.StreamResponse:
        name = request.query.get("ci-process")
        operation = self._operations.get(name)
        if operation is None:
            raise NotImplementedHere(f"ci-process={name} is not built yet; docs/coverage.md lists what is")
        params: object = read_fields(operation.params, _query_element(request, operation))
        url = request.query.get("detect-url")
        if not request.key and not url:
            raise InvalidArgument("the path names no object and detect-url is missing; send one of them")
        if request.key:
            request.check(Action.GET_OBJECT, request.key)
        result = await self._process.run(request.id, request.bucket, request.key, url, operation, params)
        return replies.node(request, shapes.process_answer(result, request.id))


def _query_element(request: Request, operation: Operation) -> Element:
    """The query as a node: `language-type` is `LanguageType`, letter case apart."""
    children = tuple(Element(name.replace("-", ""), value) for name, value in request.query.pairs)
    return Element(operation.params_node, "", children)
