"""The only way out: the guarded HTTP client for callbacks and URL inputs.

Each call: strict URL grammar, one look-up with its own time budget, every address classified and the call refused as a
whole when one is forbidden, connections only to what was classified, the address checked once more where the socket is
made (the one place that sees literals and names alike). No redirects, cookies, decompression or environment proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.helpers import sentinel
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from cloudfinite.adapters.addresses import Address, TargetUrl, plain_address
from cloudfinite.adapters.names import MAX_ADDRESSES, NameLookup
from cloudfinite.adapters.policy import INBOX_PATH, OutboundPolicy
from cloudfinite.errors import (
    DeliveryFailed,
    InputDenied,
    InputDownloadFailed,
    InvalidArgument,
    JobFailed,
    SetupError,
    UnreadableInput,
)
from cloudfinite.ports import Answer

MAX_ANSWER_BYTES = 16_384  # of a callback's answer; status and these say all that is ever used
_MAX_HEAD_BYTES = 65_536
# Shorter than the idle limit of common servers (5 s), so that they seldom close what we are about to use.
_KEEP_ALIVE_S = 4.0
_TRIED_ADDRESSES = 4  # a name may have a thousand
_WRITE_BYTES = 1_048_576  # of a download, per hand-over to a thread
_NEVER = 1e9  # aiohttp rounds longer timers up to whole seconds


@dataclass(frozen=True, slots=True)
class OutboundLimits:
    """Times and counts of outgoing calls. Sockets are shared by open calls and idle connections."""

    dns_s: float = 5.0
    connect_s: float = 5.0
    total_s: float = 15.0
    download_s: float = 60.0
    sockets: int = 1_000


@dataclass(slots=True)
class _Call:
    """One outgoing call, as the resolver and the socket hook see it."""

    url: TargetUrl
    may_reach_inbox: bool
    started: float
    dns_s: float = 0.0
    connect_s: float = 0.0
    refusal: str = ""
    keeps_open: bool = True
    has_socket: bool = False
    socket: socket.socket | None = None

    @property
    def is_connected(self) -> bool:
        if self.socket is None:
            return False
        try:
            self.socket.getpeername()
        except OSError:
            return False
        return True


_CALL: ContextVar[_Call] = ContextVar("outbound_call")


class OutboundClient:
    """`ports.CallbackSender` and `ports.Downloader`; made inside the running loop, closed by `close`."""

    def __init__(
        self,
        policy: OutboundPolicy,
        names: NameLookup,
        *,
        limits: OutboundLimits = OutboundLimits(),
        ca_file: Path | None = None,
        proxy: str = "",
    ) -> None:
        self._policy = policy
        self._names = names
        self._limits = limits
        self._proxy = _check_proxy(proxy)
        self._tls = _tls_context(ca_file)
        self._counts = _Counts()
        self._session = self._new_session()
        # An open connection to our own inbox must never carry another path: it has a pool of its own.
        self._inbox_session = self._new_session()
        self._closing_session = self._new_session(force_close=True)

    @property
    def capacity(self) -> int:
        """Calls that may be open at once, so that with the idle connections the socket limit holds."""
        return self._limits.sockets - self._idle_limit

    @property
    def _idle_limit(self) -> int:
        return self._limits.sockets // 4

    def _new_session(self, *, force_close: bool = False) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_start.append(_note_connect_start)
        trace.on_connection_create_end.append(_note_connect_end)
        trace.on_connection_reuseconn.append(self._note_reuse)
        connector = aiohttp.TCPConnector(
            limit=0,
            ssl=self._tls,
            resolver=_Resolver(self._dialled_addresses),
            use_dns_cache=False,
            force_close=force_close,
            keepalive_timeout=sentinel if force_close else _KEEP_ALIVE_S,
            socket_factory=self._make_socket,
            timeout_ceil_threshold=_NEVER,
        )
        connector._factory = partial(_BoundedAnswer, loop=asyncio.get_running_loop())  # type: ignore[assignment]  # a subclass
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_s, ceil_threshold=_NEVER),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=MAX_ANSWER_BYTES,
            trace_configs=[trace],
        )

    async def close(self) -> None:
        for session in (self._session, self._inbox_session, self._closing_session):
            await session.close()

    # --- callbacks --------------------------------------------------------------------------------------------------

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        with self._call(url, may_reach_inbox=True) as call:
            deadline = asyncio.get_running_loop().time() + self._limits.total_s
            async with asyncio.timeout_at(deadline):
                response = await self._request(call, "POST", headers, body)
            return await self._read_answer(call, response, deadline)

    async def _read_answer(self, call: _Call, response: aiohttp.ClientResponse, deadline: float) -> Answer:
        """The head decides; what happens to the body is told beside it."""
        body = bytearray()
        body_error = ""
        try:
            async with asyncio.timeout_at(deadline):
                while len(body) < MAX_ANSWER_BYTES:
                    chunk = await response.content.read(MAX_ANSWER_BYTES - len(body))
                    if not chunk:
                        break
                    body += chunk
        except TimeoutError:
            body_error = "timeout"
        except (aiohttp.ClientError, OSError) as exc:
            body_error = "reset" if isinstance(exc.__cause__, OSError) or isinstance(exc, OSError) else "protocol"
        finally:
            is_cut = not response.content.at_eof()
            response.close() if is_cut or body_error else response.release()
        return Answer(
            status=response.status,
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers],
            body=bytes(body),
            is_cut=is_cut,
            total_s=time.perf_counter() - call.started,
            dns_s=call.dns_s,
            connect_s=call.connect_s,
            body_error=body_error,
        )

    # --- inputs -----------------------------------------------------------------------------------------------------

    async def fetch(self, url: str, path: Path, limit_bytes: int) -> int:
        try:
            with self._call(url, may_reach_inbox=False) as call:
                async with asyncio.timeout(self._limits.download_s):
                    response = await self._request(call, "GET", {}, None)
                    try:
                        return await _save(response, path, limit_bytes)
                    finally:
                        response.close()
        except DeliveryFailed as exc:
            if exc.reason == "refused_by_policy":
                raise InputDenied(exc.message) from exc
            raise InputDownloadFailed(f"the input could not be downloaded: {exc.message}") from exc

    # --- one call ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _call(self, url: str, *, may_reach_inbox: bool) -> Iterator[_Call]:
        """Check the URL, and turn all that can go wrong inside into DeliveryFailed."""
        try:
            target = self._policy.check_url(url)
        except InvalidArgument as exc:
            raise DeliveryFailed("refused_by_policy", exc.message, retryable=False) from exc
        call = _Call(target, may_reach_inbox, time.perf_counter())
        call.keeps_open = not self._proxy and self._counts.idle + self._counts.keeping < self._idle_limit
        self._counts.keeping += call.keeps_open
        token = _CALL.set(call)
        try:
            yield call
        except (DeliveryFailed, JobFailed):
            raise
        except (aiohttp.ClientError, aiohttp.EofStream, TimeoutError, OSError, ValueError) as exc:
            raise self._failure(exc, call) from exc
        finally:
            _CALL.reset(token)
            self._counts.keeping -= call.keeps_open
            self._counts.in_use -= call.has_socket

    async def _request(
        self, call: _Call, method: str, headers: Mapping[str, str], body: bytes | None
    ) -> aiohttp.ClientResponse:
        url, sent, more = URL(str(call.url), encoded=True), dict(headers), dict[str, Any]()
        if self._proxy:
            # The proxy is told the address that we classified: a name could change before the proxy looks it up.
            address = (await self._classified(call))[0]
            literal = f"[{address}]" if address.version == 6 else str(address)
            url = URL(f"{call.url.scheme}://{literal}:{call.url.port}{call.url.target}", encoded=True)
            sent["Host"] = call.url.authority
            more = {"proxy": self._proxy, "server_hostname": call.url.host if call.url.scheme == "https" else None}
        session = self._session
        if not call.keeps_open:
            session = self._closing_session
            sent["Connection"] = "close"
        elif call.may_reach_inbox and INBOX_PATH.fullmatch(call.url.target):
            session = self._inbox_session
        return await session.request(method, url, headers=sent, data=body, allow_redirects=False, **more)

    async def _classified(self, call: _Call) -> list[Address]:
        """All addresses of the URL's host. Raises DeliveryFailed when there is none, or when one is forbidden."""
        if call.url.address is not None:
            texts = [str(call.url.address)]
        else:
            started = time.perf_counter()
            texts = await self._look_up(call.url.host)
            call.dns_s = time.perf_counter() - started
        addresses = [plain_address(text) for text in texts[:MAX_ADDRESSES]]
        for address in addresses:
            if refusal := self._policy.refusal(call.url, address, may_reach_inbox=call.may_reach_inbox):
                raise DeliveryFailed("refused_by_policy", refusal, retryable=False)
        return addresses

    async def _dialled_addresses(self, host: str) -> list[Address]:
        """Where the connector may connect to: the classified addresses of its call, or the proxy's."""
        if self._proxy:
            return [plain_address(text) for text in await self._look_up(host)]
        return await self._classified(_CALL.get())

    async def _look_up(self, host: str) -> list[str]:
        try:
            texts = await self._names.addresses(host)
        except TimeoutError as exc:
            raise DeliveryFailed("dns", f"the name {host} was not resolved within {self._limits.dns_s:g} s") from exc
        except OSError as exc:
            raise DeliveryFailed("dns", f"the name {host} was not resolved: {exc.strerror or exc}") from exc
        if not texts:
            raise DeliveryFailed("dns", f"the name {host} has no address")
        return texts

    def _make_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """Called by the connector with the address it is about to connect to: the last look."""
        family, kind, protocol, _, sockaddr = addr_info
        call = _CALL.get()
        if not self._proxy:
            address = plain_address(sockaddr[0])
            call.refusal = self._policy.refusal(call.url, address, may_reach_inbox=call.may_reach_inbox)
            if call.refusal:
                raise PermissionError(call.refusal)
        self._note_socket(call)
        call.socket = _CountedSocket(self._counts, family, kind, protocol)
        return call.socket

    async def _note_reuse(self, _session: object, _context: object, _params: object) -> None:
        self._note_socket(_CALL.get())

    def _note_socket(self, call: _Call) -> None:
        if not call.has_socket:
            call.has_socket = True
            self._counts.in_use += 1

    def _failure(self, exc: Exception, call: _Call) -> DeliveryFailed:
        if call.refusal:
            return DeliveryFailed("refused_by_policy", call.refusal, retryable=False)
        text = str(exc) or type(exc).__name__
        match exc:
            case aiohttp.ConnectionTimeoutError():
                is_tls = call.url.scheme == "https" and call.is_connected
                what = "TLS handshake" if is_tls else "connection"
                return DeliveryFailed("tls" if is_tls else "connect", f"no {what} within {self._limits.connect_s:g} s")
            case TimeoutError():
                limit = self._limits.total_s if call.may_reach_inbox else self._limits.download_s
                return DeliveryFailed("timeout", f"no complete answer within {limit:g} s")
            case aiohttp.ClientSSLError() | ssl.SSLError() | ssl.CertificateError():
                return DeliveryFailed("tls", text)
            case aiohttp.ClientConnectorError():
                return DeliveryFailed("connect", exc.os_error.strerror or text)
            case aiohttp.ServerDisconnectedError() | OSError():
                return DeliveryFailed("reset", "the connection was closed before the answer's head was complete")
        return DeliveryFailed("protocol", text[:500])


async def _save(response: aiohttp.ClientResponse, path: Path, limit_bytes: int) -> int:
    if response.status != 200:
        raise InputDownloadFailed(f"the URL answered {response.status}; only 200 is taken, redirects are not followed")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InputDownloadFailed("the URL answered with a Content-Encoding, although none was asked for")
    if (response.content_length or 0) > limit_bytes:
        raise UnreadableInput(f"the input has {response.content_length} bytes; at most {limit_bytes} are allowed")
    size = 0
    with path.open("wb") as file:
        async for block in _blocks(response):
            size += len(block)
            if size > limit_bytes:
                raise UnreadableInput(f"the input has more than {limit_bytes} bytes")
            await asyncio.to_thread(file.write, block)
    return size


async def _blocks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    block = bytearray()
    async for chunk in response.content.iter_any():
        block += chunk
        if len(block) >= _WRITE_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


class _Resolver(AbstractResolver):
    """Gives the connector the classified addresses of the call it connects for, and nothing else."""

    def __init__(self, addresses: Callable[[str], Awaitable[Sequence[Address]]]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in (await self._addresses(host))[:_TRIED_ADDRESSES]
        ]

    async def close(self) -> None:
        """Nothing is held."""


class _BoundedAnswer(ResponseHandler):
    """Ends a connection whose answer has too long a head, interim heads included.

    aiohttp bounds each header and their number, which is a megabyte together; there is no public hook for the sum.
    """

    _head_bytes = 0
    _is_in_head = False

    def set_response_params(self, **params: Any) -> None:
        self._head_bytes, self._is_in_head = 0, True
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        if data[0].code >= 200:
            self._is_in_head = False
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                problem = HttpProcessingError(message=f"the answer's head is longer than {_MAX_HEAD_BYTES} bytes")
                self.set_exception(problem)
                self.abort()


@dataclass(slots=True)
class _Counts:
    """Sockets that are open, those in use by a call, and calls whose connection will stay open."""

    open: int = 0
    in_use: int = 0
    keeping: int = 0

    @property
    def idle(self) -> int:
        return self.open - self.in_use


class _CountedSocket(socket.socket):
    """Tells when it is closed; asyncio closes sockets, uvloop detaches and closes the descriptor itself."""

    def __init__(self, count: _Counts, family: int, kind: int, protocol: int) -> None:
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


async def _note_connect_start(_session: object, context: Any, _params: object) -> None:
    context.started = time.perf_counter()


async def _note_connect_end(_session: object, context: Any, _params: object) -> None:
    call = _CALL.get()
    call.connect_s = max(0.0, time.perf_counter() - context.started - call.dns_s)


def _check_proxy(proxy: str) -> URL | None:
    if not proxy:
        return None
    url = URL(proxy)
    if url.scheme not in ("http", "https") or not url.host:
        raise SetupError(f"proxy is {proxy!r}", "write http://host:port")
    return url


def _tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """The system's certificates and, beside them, the operator's own."""
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as exc:
            raise SetupError(f"ca_file {ca_file} cannot be used: {exc}", "name a file of PEM certificates") from exc
    return context
