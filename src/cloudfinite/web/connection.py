"""One client connection: aiohttp's HTTP/1.1 protocol with the time and size limits it lacks, and the set of them all.

A request head must be complete in time, a body must keep arriving, an answer must keep being read, and the number of
connections is bounded: the one idle longest makes room. One sweep over the connections enforces the times, so that a
request costs no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError, InvalidURLError, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from yarl import URL

from cloudfinite.errors import (
    HeadTooLarge,
    InternalError,
    InvalidHost,
    InvalidUri,
    MalformedRequest,
    RequestError,
    RequestTimeout,
)

log = structlog.get_logger()

_MAX_TARGET_BYTES = 16_384  # A key of 850 bytes, percent-encoded, and a presigned query take 4,000.
_MAX_FIELD_BYTES = 8_190
_MAX_FIELDS = 128
_ROOT = URL("/")
_LINGER_S = 5.0  # How long a refused body is still read, so that the client sees the answer and not a reset.


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds, `head_bytes` for request line and headers together."""

    head_s: float = 10.0
    body_stall_s: float = 30.0
    send_stall_s: float = 60.0
    keepalive_s: float = 75.0
    head_bytes: int = 65_536
    connections: int = 2_000


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as the log and the metrics tell of it."""

    id: str
    started_at: float
    kind: str = "none"
    method: str = ""
    path: str = ""


Respond = Callable[[web.BaseRequest, RequestError], web.Response]
Finished = Callable[[Exchange, web.StreamResponse], None]


class Connection(web.RequestHandler):
    """One connection. `exchange` is the request that is being answered."""

    __slots__ = ("_body", "_head_bytes", "_head_since", "_heard_at", "_pool", "_unread_since", "exchange")

    def __init__(self, pool: Connections, *, loop: asyncio.AbstractEventLoop, limits: Limits) -> None:
        super().__init__(
            pool,
            loop=loop,
            keepalive_timeout=limits.keepalive_s,
            access_log=None,  # type: ignore[arg-type]  # documented way to have none
            max_line_size=_MAX_TARGET_BYTES,
            max_field_size=_MAX_FIELD_BYTES,
            max_headers=_MAX_FIELDS,
            lingering_time=_LINGER_S,
            auto_decompress=False,  # Objects are stored as sent; API bodies with a coding are refused.
        )
        self._pool = pool
        self._body: StreamReader | None = None
        self._head_since: float | None = loop.time()
        self._head_bytes = 0
        self._heard_at = loop.time()
        self._unread_since: float | None = None
        self.exchange: Exchange | None = None

    @property
    def is_idle(self) -> bool:
        return not self._request_in_progress and not self._messages

    @property
    def _is_awaiting_body(self) -> bool:
        """Whether the client owes us part of a body, and we are not the ones who hold it back."""
        return self._body is not None and not self._body.is_eof() and not self._reading_paused

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._pool.set_idle(self)
        self._pool.make_room()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._pool.set_busy(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        seen = self._request_count
        # Asked before: the last bytes of a body end it, and are no part of the next head.
        is_head = self._body is None or self._body.is_eof()
        super().data_received(data)
        self._heard_at = self._loop.time()
        if self._request_count != seen:
            self._begin_request()
        elif data and is_head:
            self._head_since = self._head_since or self._heard_at
            self._head_bytes += len(data)
            if self._head_bytes > self._pool.limits.head_bytes:
                self.refuse(HeadTooLarge())

    def _begin_request(self) -> None:
        if self._body is not None and not self._body.is_eof():
            # What follows an unfinished body can only be the parser's complaint about it.
            self._body.set_exception(web.RequestPayloadError("the body's framing is broken"))
        self._body = self._messages[-1][1]
        self._head_since = None
        self._head_bytes = 0
        self._pool.set_busy(self)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_since = self._loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unread_since = None

    def check_times(self, now: float) -> None:
        """Act on what has taken too long; called about once a second."""
        limits = self._pool.limits
        if self._unread_since is not None and now - self._unread_since > limits.send_stall_s:
            log.info("connection.not_read", peer=self.peername)
            if self.transport is not None:
                self.transport.abort()
        elif self.is_idle:
            if self._head_since is not None and now - self._head_since > limits.head_s:
                self.refuse(RequestTimeout(f"the request's head did not arrive within {limits.head_s:g} s"))
        elif self._is_awaiting_body and now - self._heard_at > limits.body_stall_s and self._body is not None:
            self._body.set_exception(TimeoutError("the body stopped arriving"))

    def refuse(self, error: RequestError) -> None:
        """Close an idle connection; one that has sent part of a request is told why."""
        if self._head_bytes and self.transport is not None:
            self.transport.write(self._pool.raw_refusal(error))
        self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what the parser could not read, as an error document, and close."""
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; it can only be cut off")
        return self._pool.respond(request, _error_of(exc, message or ""))

    def log_access(self, request: web.BaseRequest, response: web.StreamResponse, time: float | None) -> None:
        """End of an exchange: the answer is written, or the client is gone."""
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            self._pool.finished(exchange, response)
        if not self._messages:
            self._pool.set_idle(self)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        # aiohttp reports here what it closes the connection for; our own failures are logged where they happen.
        exc = kw.get("exc_info")
        log.debug("connection.closed", reason=str(args[0] if args else ""), error=repr(exc) if exc else "")


class Connections(web.Server):
    """All connections of one server; makes a new one for each client that connects."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Any],
        *,
        limits: Limits,
        respond: Respond,
        raw_refusal: Callable[[RequestError], bytes],
        finished: Finished,
    ) -> None:
        super().__init__(handler, request_factory=self._make_own_request)
        self.limits = limits
        self.respond = respond
        self.raw_refusal = raw_refusal
        self.finished = finished
        self._idle: dict[Connection, None] = {}  # Those idle longest first.

    def __call__(self) -> web.RequestHandler:
        return Connection(self, loop=self._loop, limits=self.limits)

    def _make_own_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        if not message.path.startswith("/"):
            # aiohttp would take the absolute target's URL apart, and fails on some; ours is read from `message.path`.
            message = message._replace(url=_ROOT)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)

    def set_idle(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
        self._idle[connection] = None

    def set_busy(self, connection: Connection) -> None:
        self._idle.pop(connection, None)

    def make_room(self) -> None:
        """Close the connection that has been idle longest while there are too many."""
        if len(self._connections) <= self.limits.connections:
            return
        oldest = next((connection for connection in self._idle if connection.is_idle), None)
        if oldest is not None:
            self.set_busy(oldest)
            oldest.force_close()

    def close_idle(self) -> None:
        for connection in list(self._idle):
            if connection.is_idle:
                connection.force_close()

    async def watch(self) -> None:
        """Enforce the time limits until cancelled."""
        shortest = min(self.limits.head_s, self.limits.body_stall_s, self.limits.send_stall_s)
        while True:
            await asyncio.sleep(min(1.0, shortest / 4))
            now = self._loop.time()
            for connection in self.connections:
                if isinstance(connection, Connection):
                    connection.check_times(now)


def _error_of(exc: BaseException | None, message: str) -> RequestError:
    first_line = message.strip().split("\n", 1)[0][:200]
    match exc:
        case LineTooLong():
            return HeadTooLarge("The request line or a header is longer than this server allows.")
        case InvalidURLError():
            return InvalidUri("the request target cannot be read")
        case HttpProcessingError() if "'Host' header" in message:
            return InvalidHost(f"{first_line} Send exactly one.")
        case HttpProcessingError():
            return MalformedRequest(f"The request cannot be read: {first_line}")
    return InternalError()
