"""The HTTP server around the handlers: reads, routes, authenticates, answers, and renders every error in one place.

A request's way: target and host taken apart > row of the table > signature > store's facts > handler > answer dressed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import NamedTuple, cast

import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter

from cloudfinite.domain.access import NOTHING, Grant
from cloudfinite.domain.ids import new_request_id
from cloudfinite.errors import (
    AccessDenied,
    HeadTooLarge,
    InternalError,
    InvalidArgument,
    InvalidHost,
    MalformedRequest,
    RequestError,
    UnsupportedEncoding,
)
from cloudfinite.ports import Clock
from cloudfinite.web import replies
from cloudfinite.web.access import Keys, check_action, check_bucket, find_token, identify
from cloudfinite.web.api import problem
from cloudfinite.web.connection import Connection, Connections, Exchange, Limits
from cloudfinite.web.guard import LOGIN_PATH, Guard
from cloudfinite.web.request import HostKind, Query, Request
from cloudfinite.web.routes import OWN_ROW, Choice, Router, Row
from cloudfinite.wire.routing import Hosts, Place, decode_path, locate, parse_query, split_target
from cloudfinite.wire.signature import CI_REFUSALS, COS_REFUSALS, Refusals, SignedRequest

log = structlog.get_logger()

LetRead = Callable[[str, str, str, web.StreamResponse], Awaitable[None]]

_BACKLOG = 1024
_LAST_WRITES_S = 1.0
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
_LONGEST_LOGGED = 300
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """Settings of the edge. default_bucket and default_region stand in where a host names none."""

    hosts: Hosts = field(default_factory=Hosts)
    default_bucket: str = ""
    default_region: str = ""
    admin_token: str = field(default="", repr=False)
    limits: Limits = field(default_factory=Limits)


class Address(NamedTuple):
    """Where the server listens."""

    host: str
    port: int


@dataclass(slots=True)
class _Reading:
    """What is known of a request so far; an error on the way is rendered from it."""

    id: str
    kind: HostKind = HostKind.COS
    is_ci: bool = False
    is_page: bool = False
    bucket: str = ""
    resource: str = "/"
    raw_path: str = ""
    query: Query = field(default_factory=Query)
    is_continued: bool = False


class Edge:
    """The server. It takes requests from `start` to `close`."""

    def __init__(
        self,
        router: Router,
        keys: Keys,
        clock: Clock,
        config: EdgeConfig,
        metrics: CollectorRegistry | None = None,
        let_read: LetRead | None = None,
    ) -> None:
        """let_read: adds to an answer what lets a page of another origin read it (origin, bucket, method, answer)."""
        self._router = router
        self._let_read = let_read
        self._keys = keys
        self._clock = clock
        self._config = config
        self._guard = Guard(config.admin_token, clock)
        self._locate = lru_cache(maxsize=1024)(partial(locate, hosts=config.hosts))
        self._counter = Counter(
            "cloudfinite_requests",
            "Requests by kind of host, method and class of status.",
            ["kind", "method", "status"],
            registry=metrics,
        )
        self._counts: dict[tuple[str, str, int], Counter] = {}
        self._connections: Connections | None = None
        self._listener: asyncio.Server | None = None
        self._watch: asyncio.Task[None] | None = None
        self._in_flight = 0
        self._is_draining = False
        self._drained = asyncio.Event()

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self, host: str, port: int) -> Sequence[Address]:
        """Listen; port 0 picks a free one. Returns where. Raises OSError when the address is taken."""
        loop = asyncio.get_running_loop()
        self._connections = Connections(
            self._serve,
            limits=self._config.limits,
            respond=self._respond_unread,
            raw_refusal=self._raw_refusal,
            finished=self._finished,
        )
        self._listener = await loop.create_server(self._connections, host, port, backlog=_BACKLOG)
        self._watch = loop.create_task(self._connections.watch(), name="connections")
        return [Address(*listening.getsockname()[:2]) for listening in self._listener.sockets]

    def stop_accepting(self) -> None:
        """Take no new connections; idle ones are closed, the others after their answer."""
        self._is_draining = True
        if self._listener is not None:
            self._listener.close()
        if self._connections is not None:
            self._connections.close_idle()

    async def close(self, grace_s: float) -> None:
        """Stop; requests in progress have `grace_s` to end. Calling it twice is harmless."""
        self.stop_accepting()
        if self._in_flight:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), grace_s)
        if self._connections is not None:
            # What remains is answers being written, or requests beyond the grace.
            await self._connections.shutdown(_LAST_WRITES_S)
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)

    # --- one request -----------------------------------------------------------------------------------------------

    async def _serve(self, http: web.BaseRequest) -> web.StreamResponse:
        reading = _Reading(new_request_id(self._clock()))
        exchange = Exchange(reading.id, time.perf_counter(), method=http.method)
        cast(Connection, http.protocol).exchange = exchange
        self._in_flight += 1
        try:
            response = await self._answer(http, reading)
        except RequestError as error:
            response = self._refuse(http, reading, error)
        except Exception as exc:
            if isinstance(exc, ConnectionError) and _is_gone(http):
                raise  # The client went away while the answer was written; nobody is left to be told.
            log.exception("request.failed", request_id=reading.id, method=http.method, resource=reading.resource)
            response = self._refuse(http, reading, InternalError())
        finally:
            self._in_flight -= 1
            if self._is_draining and not self._in_flight:
                self._drained.set()
            exchange.kind = reading.kind.value
            exchange.path = reading.raw_path
        if not response.prepared:
            replies.dress(
                response, request_id=reading.id, kind=reading.kind, is_ci=reading.is_ci, is_page=reading.is_page
            )
            if self._is_draining:
                response.force_close()
            await self._show_page(http, reading, response)
        return response

    async def _show_page(self, http: web.BaseRequest, reading: _Reading, response: web.StreamResponse) -> None:
        """Let the browser give the answer, errors too, to the page that asked. Our own pages are for themselves."""
        origin = http.headers.get("Origin", "")
        if not origin or not reading.bucket or reading.is_page or self._let_read is None or http.method == "OPTIONS":
            return
        try:
            await self._let_read(origin, reading.bucket, http.method, response)
        except RequestError as error:
            log.warning("request.origin_unchecked", request_id=reading.id, code=error.code)

    async def _answer(self, http: web.BaseRequest, reading: _Reading) -> web.StreamResponse:
        if http.method == "CONNECT":
            raise MalformedRequest(
                "This server is no proxy and does not speak TLS: set the SDK's scheme or protocol to http."
            )
        _check_head(http, self._config.limits.head_bytes)
        target = split_target(http.raw_path)
        reading.raw_path = target.path[:_LONGEST_LOGGED]  # As sent: percent-encoded text cannot forge log lines.
        host = target.authority or http.headers.get("Host", "")
        if not host:
            raise InvalidHost("The request has no Host header.")
        place = self._locate(host)
        reading.kind = place.kind
        reading.is_ci = place.kind is HostKind.CI
        reading.bucket = place.bucket or self._config.default_bucket
        path = decode_path(target.path)
        reading.resource = path if reading.is_ci else f"{host}{path}"
        query = reading.query = Query(parse_query(target.query))

        choice = self._router.find(place.kind, http.method, path, query)
        if place.kind in (HostKind.OWN, HostKind.SERVICE):
            reading.is_ci = choice.row.is_api
        refusals = CI_REFUSALS if reading.is_ci else COS_REFUSALS
        secret_id, grant = "", NOTHING
        if choice.row.is_signed:
            signed = SignedRequest(http.method, host, path, target.path, query.pairs, http.headers)
            authorization = ",".join(http.headers.getall("Authorization", ()))
            token = find_token(http.headers, query)
            now_s = int(self._clock().timestamp())
            secret_id, grant = await identify(self._keys, signed, authorization, token, reading.bucket, now_s, refusals)
        request = self._make_request(http, reading, place, host, path, secret_id, grant)
        if choice.row is OWN_ROW:
            return await self._serve_own(request, reading)
        row = await self._admit(choice, request, refusals)
        handler = self._router.handler(row)
        if row.is_api:
            _check_coding(request)
        await self._continue(http, reading)
        return await handler(request)

    def _make_request(
        self, http: web.BaseRequest, reading: _Reading, place: Place, host: str, path: str, secret_id: str, grant: Grant
    ) -> Request:
        return Request(
            reading.id,
            http.method,
            place.kind,
            host,
            reading.bucket,
            place.region or self._config.default_region,
            path,
            reading.query,
            http.headers,
            secret_id,
            http,
            reading.is_ci,
            grant,
        )

    async def _admit(self, choice: Choice, request: Request, refusals: Refusals) -> Row:
        """The row that the request means, once it may be served. Raises AccessDenied, or the refusal of the unsigned.

        The store is asked only about buckets that the signer may see.
        """
        if not choice.row.is_signed:
            return choice.row
        try:
            check_bucket(choice.row.action, request)
            row = await self._router.settle(choice, request.bucket, request.path)
            if row.action is not None:
                check_action(row.action, request)
            elif not request.secret_id:
                raise AccessDenied()
        except AccessDenied as exc:
            if request.secret_id:
                raise
            raise refusals.missing(
                "The request carries no signature; without one, objects can be read at most."
            ) from exc
        return row

    async def _serve_own(self, request: Request, reading: _Reading) -> web.StreamResponse:
        reading.is_page = True
        refused = self._guard.check(request)
        if refused is not None:
            return refused
        await self._continue(request.http, reading)
        if request.path == LOGIN_PATH and request.method == "POST":
            return await self._guard.log_in(request)
        return await self._router.handler(OWN_ROW)(request)

    async def _continue(self, http: web.BaseRequest, reading: _Reading) -> None:
        """Ask for the body, where the client waits to be asked: only now is it sure that somebody will read it."""
        if _expects_continue(http):
            await http.writer.write(_CONTINUE)
            http.writer.output_size = 0  # Else it counts as part of the answer.
            reading.is_continued = True

    # --- errors ----------------------------------------------------------------------------------------------------

    def _refuse(self, http: web.BaseRequest, reading: _Reading, error: RequestError) -> web.Response:
        if http.writer.output_size > 0:
            # The answer has begun: cutting it off is the only way left to say that it is not whole.
            log.info("request.cut_off", request_id=reading.id, code=error.code)
            raise ConnectionResetError("the handler failed after its answer had begun")
        if reading.is_page and reading.resource.partition("/")[2].startswith("-/api/"):
            return problem(reading.id, error)
        as_json = replies.wants_json(http.headers, reading.query)
        response = replies.error(error, request_id=reading.id, resource=reading.resource, as_json=as_json)
        if http.method == "CONNECT" or (_expects_continue(http) and not reading.is_continued):
            # What comes next on the connection may be the body that was never asked for, and no request.
            response.force_close()
        return response

    def _respond_unread(self, http: web.BaseRequest, error: RequestError) -> web.Response:
        """Answer what the parser could not read; such a connection is of no further use."""
        request_id = new_request_id(self._clock())
        cast(Connection, http.protocol).exchange = Exchange(request_id, time.perf_counter(), method="-")
        response = replies.error(error, request_id=request_id, resource="/")
        replies.dress(response, request_id=request_id, kind=HostKind.COS, is_ci=False)
        response.force_close()
        return response

    def _raw_refusal(self, error: RequestError) -> bytes:
        """An error answer as bytes, for a connection that never got as far as a request."""
        request_id = new_request_id(self._clock())
        response = replies.error(error, request_id=request_id, resource="/")
        replies.dress(response, request_id=request_id, kind=HostKind.COS, is_ci=False)
        body = response.body if isinstance(response.body, bytes) else b""
        head = {**response.headers, "Content-Length": str(len(body)), "Connection": "close"}
        lines = [f"HTTP/1.1 {error.status} {response.reason}", *(f"{name}: {value}" for name, value in head.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body

    # --- afterwards ------------------------------------------------------------------------------------------------

    def _finished(self, exchange: Exchange, response: web.StreamResponse) -> None:
        method = exchange.method if exchange.method in _METHODS else "other"
        labels = (exchange.kind, method, response.status // 100)
        count = self._counts.get(labels)
        if count is None:
            count = self._counts[labels] = self._counter.labels(exchange.kind, method, f"{labels[2]}xx")
        count.inc()
        write = log.debug if response.status < 400 else log.info
        write(
            "request",
            request_id=exchange.id,
            method=exchange.method,
            path=exchange.path,
            status=response.status,
            ms=round((time.perf_counter() - exchange.started_at) * 1000, 2),
        )


def _check_head(http: web.BaseRequest, limit_bytes: int) -> None:
    size = len(http.raw_path)
    for name, value in http.raw_headers:
        size += len(name) + len(value) + 4
        if not value.isascii():
            # Headers are stored with objects, signed, and written into documents: text, not bytes.
            try:
                value.decode()
            except UnicodeDecodeError as exc:
                raise InvalidArgument(f"the header {name.decode('latin-1')} is not UTF-8") from exc
    if size > limit_bytes:
        raise HeadTooLarge(f"The request's head has {size} bytes; at most {limit_bytes} are allowed.")


def _is_gone(http: web.BaseRequest) -> bool:
    return http.transport is None or http.transport.is_closing()


def _check_coding(request: Request) -> None:
    coding = request.headers.get("Content-Encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedEncoding(f"The body is coded as {coding!r}; send it plain.")


def _expects_continue(http: web.BaseRequest) -> bool:
    return http.headers.get("Expect", "").lower() == "100-continue"
