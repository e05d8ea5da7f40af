"""The parts of the guarded client: its connections, their sockets, its TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from aiohttp.base_protocol import BaseProtocol
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser, RawResponseMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from cloudfinite.errors import SetupError

MAX_ANSWER_BYTES = 16_384  # of a callback's answer; status and these say all that is ever used
_MAX_HEAD_BYTES = 65_536  # interim heads included: the parser bounds each header and their number, not the sum
_SWITCHING_PROTOCOLS = 101
_DEADLINE_STEP_S = 0.02


class Connection(BaseProtocol):
    """One connection outwards, for one exchange after another. What arrives between two of them ends it.

    Reading is aiohttp's parser; `message` and `payload` are the answer's, once its head is complete. body_error says
    why the body ended early, "" when it did not.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, exchanges: Exchanges) -> None:
        super().__init__(loop)
        self._exchanges = exchanges
        self.message: RawResponseMessage | None = None
        self.payload: StreamReader = EMPTY_PAYLOAD
        self.body_error = ""
        self.idle_since = 0.0
        self._waiter: asyncio.Future[None] | None = None
        self._body_limit = 0
        self._head_bytes = 0
        self._is_asked = False
        self._is_spent = False

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    @property
    def is_reusable(self) -> bool:
        """Whether the answer is complete, and neither side wants the connection to end."""
        return self.is_open and self.message is not None and self.payload.is_eof() and not self._is_spent

    async def exchange(self, request: bytes, deadline: float, body_limit: int, *, is_tunnel: bool = False) -> None:
        """Send a request; return when the answer is complete, or has `body_limit` bytes of body: 0 for its head alone.

        Raises TimeoutError, HttpProcessingError or OSError while there is no complete head; from then on the head
        decides, and a deadline ends the body. The answer to a request for a tunnel has no body.
        """
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the connection was closed")
        self.message, self.payload, self.body_error = None, EMPTY_PAYLOAD, ""
        self._head_bytes, self._body_limit = 0, body_limit
        if self._parser is None:
            self._parser = self._new_parser(has_body=not is_tunnel)
        self._is_asked = True
        self._waiter = self._loop.create_future()
        self._exchanges.begin(self, request, deadline)
        try:
            await self._waiter
        finally:
            self._exchanges.end(self)
            self._waiter = None
            if is_tunnel:
                self._parser = None  # it is another's answers that follow

    def _new_parser(self, *, has_body: bool) -> HttpResponseParser:
        return HttpResponseParser(
            self,
            self._loop,
            MAX_ANSWER_BYTES,
            payload_exception=ClientPayloadError,
            response_with_body=has_body,
            read_until_eof=has_body,
            auto_decompress=False,
        )

    def send(self, request: bytes) -> None:
        """Called by `Exchanges`; when the connection was lost meanwhile, the exchange has ended."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(request)

    def rest(self) -> None:
        """Note that nothing is asked now."""
        self._is_asked, self.message, self.payload = False, None, EMPTY_PAYLOAD
        self.idle_since = self._loop.time()

    def drop(self) -> None:
        """End the connection; whatever the other side still sends is not read."""
        self._parser, self._is_asked = None, False
        if self.transport is not None:
            self.transport.abort()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Called by the payload at its end too, when there is mostly nothing to resume."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    # --- called by the transport ------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if not self._is_asked or self._parser is None:
            self.drop()  # nothing was asked
            return
        try:
            messages, is_upgraded, _ = self._parser.feed_data(data)
        except HttpProcessingError as exc:
            self._break("protocol", exc)
            return
        for message, payload in messages:
            if self.message is not None:
                self._is_spent = True  # a second answer to one request
            elif message.code >= 200 or message.code == _SWITCHING_PROTOCOLS:
                self.message, self.payload = message, payload
                self._is_spent = message.should_close or is_upgraded
        if self.message is None:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                too_long = f"the answer's head is longer than {_MAX_HEAD_BYTES} bytes"
                self._break("protocol", HttpProcessingError(message=too_long))
        elif self.payload.is_eof() or self.payload.total_bytes >= self._body_limit:
            self._finish()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        parser = self._parser
        if parser is not None and self.message is not None and not self.payload.is_eof():
            try:
                parser.feed_eof()  # the end, where the body is one without a length
            except HttpProcessingError as early:
                exc = exc or early
        self._break("reset", exc or ConnectionResetError("the connection was closed"))

    def expire(self) -> None:
        self._break("timeout", TimeoutError())

    # --- the end of an exchange -------------------------------------------------------------------------------------

    def _break(self, reason: str, exc: BaseException) -> None:
        """End the exchange, if there is one, and the connection."""
        if self.message is not None and not self.payload.is_eof():
            self.body_error = self.body_error or reason
            if self._waiter is None:  # somebody is reading the body
                self.payload.set_exception(ClientPayloadError(str(exc) or reason), exc)
        self._is_spent = True
        self._finish(exc if self.message is None else None)
        self.drop()

    def _finish(self, exc: BaseException | None = None) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if exc is None:
            self._waiter.set_result(None)
        else:
            self._waiter.set_exception(exc)


class Exchanges:
    """What one client has under way: sends the requests, ends what lasts too long.

    The requests of one turn of the loop go out together at its end: a receiver that sleeps is woken once, not by each
    of them, which takes longer than sending. The deadlines have one timer, to 20 ms: one for each would cost as much as
    its parsing.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._unsent: list[tuple[Connection, bytes]] = []
        self._deadlines: dict[Connection, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, connection: Connection, request: bytes, deadline: float) -> None:
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append((connection, request))
        self._deadlines[connection] = deadline
        if self._timer is None:
            self._timer = self._loop.call_later(_DEADLINE_STEP_S, self._look)

    def end(self, connection: Connection) -> None:
        self._deadlines.pop(connection, None)

    def _send(self) -> None:
        unsent, self._unsent = self._unsent, []
        for connection, request in unsent:
            connection.send(request)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        now = self._loop.time()
        for connection in [one for one, deadline in self._deadlines.items() if deadline <= now]:
            connection.expire()
        self._timer = self._loop.call_later(_DEADLINE_STEP_S, self._look) if self._deadlines else None


@dataclass(slots=True)
class SocketCounts:
    """Sockets that are open, those in use by a call, and calls whose connection will stay open."""

    open: int = 0
    in_use: int = 0
    keeping: int = 0

    @property
    def idle(self) -> int:
        return self.open - self.in_use


class CountedSocket(socket.socket):
    """Tells when it is closed; asyncio closes sockets, uvloop detaches and closes the descriptor itself."""

    def __init__(self, count: SocketCounts, family: int, kind: int, protocol: int) -> None:
        super().__init__(family, kind, protocol)
        self._count = count
        self._is_counted = True
        count.open += 1

    def _leave(self) -> None:
        if self._is_counted and self.fileno() < 0:
            self._is_counted = False
            self._count.open -= 1

    def close(self) -> None:
        super().close()
        self._leave()

    def detach(self) -> int:
        descriptor = super().detach()
        self._leave()
        return descriptor


def tls_context(ca_file: Path | None = None, client_file: Path | None = None) -> ssl.SSLContext:
    """Trusts the system's certificates and the operator's own; shows the client certificate of `client_file`, if any.

    Raises SetupError.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise SetupError(f"ca_file {ca_file} cannot be used: {exc}", "name a file of PEM certificates") from exc
    if client_file is not None:
        try:
            # An empty password: a key that needs one must fail here, not ask at a terminal that nobody watches.
            context.load_cert_chain(client_file, password="")
        except (OSError, ssl.SSLError) as exc:
            raise SetupError(
                f"client_certificates: {client_file} cannot be used: {exc}",
                "name a PEM file with the certificate, its chain and its unencrypted key",
            ) from exc
    return context
