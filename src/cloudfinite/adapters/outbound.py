"""The only way out: the guarded HTTP client for callbacks and URL inputs.

Each call: strict URL grammar, one look-up with its own time budget, every address classified and the call refused as a
whole when one is forbidden, connections only to what was classified, the address checked once more where the socket is
made (the one place that sees literals and names alike). No redirects, cookies, decompression or environment proxies.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
from aiohappyeyeballs import start_connection
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from cloudfinite.adapters.addresses import Address, TargetUrl, plain_address
from cloudfinite.adapters.names import MAX_ADDRESSES, NameLookup
from cloudfinite.adapters.outbound_parts import (
    MAX_ANSWER_BYTES,
    Connection,
    CountedSocket,
    Exchanges,
    SocketCounts,
    tls_context,
)
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

# Shorter than the idle limit of common servers (5 s), so that they seldom close what we are about to use.
_KEEP_ALIVE_S = 4.0
_TRIED_ADDRESSES = 4  # a name may have a thousand
_NEXT_ADDRESS_S = 0.25  # RFC 8305: when the next address is tried beside one that has not answered
_TLS_GOODBYE_S = 1.0
_WRITE_BYTES = 1_048_576  # of a download, per hand-over to a thread

_Pool = tuple[str, str, int, bool]


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
    """One outgoing call, from the check of its URL to the end of its answer."""

    url: TargetUrl
    may_reach_inbox: bool
    started: float
    keeps_open: bool
    pool: _Pool
    dns_s: float = 0.0
    connect_s: float = 0.0
    refusal: str = ""
    has_socket: bool = False
    connection: Connection | None = None


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
        client_certificates: Mapping[str, Path] = MappingProxyType({}),
    ) -> None:
        """client_certificates: PEM files by the host that is shown them. Raises SetupError for what cannot be used."""
        self._policy = policy
        self._names = names
        self._limits = limits
        self._proxy = _check_proxy(proxy)
        self._tls = tls_context(ca_file)
        self._tls_of = {host.lower(): tls_context(ca_file, file) for host, file in client_certificates.items()}
        self._loop = asyncio.get_running_loop()
        self._exchanges = Exchanges(self._loop)
        self._counts = SocketCounts()
        self._idle: dict[_Pool, list[Connection]] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None

    @property
    def capacity(self) -> int:
        """Calls that may be open at once, so that with the idle connections the socket limit holds."""
        return self._limits.sockets - self._idle_limit

    @property
    def _idle_limit(self) -> int:
        return self._limits.sockets // 4

    async def close(self) -> None:
        self._exchanges.close()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for connections in self._idle.values():
            for connection in connections:
                connection.drop()
        self._idle.clear()
        await asyncio.sleep(0)  # the transports' own ends

    # --- callbacks --------------------------------------------------------------------------------------------------

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        call = self._begin(url, may_reach_inbox=True)
        try:
            return _read_answer(call, await self._ask(call, "POST", headers, body, self._limits.total_s))
        except _FAILURES as exc:
            raise self._failure(exc, call) from exc
        finally:
            self._end(call)

    # --- inputs -----------------------------------------------------------------------------------------------------

    async def fetch(self, url: str, path: Path, limit_bytes: int) -> int:
        try:
            call = self._begin(url, may_reach_inbox=False)
            try:
                async with asyncio.timeout(self._limits.download_s):
                    answer = await self._ask(call, "GET", {}, None, self._limits.download_s)
                    return await _save(answer, path, limit_bytes)
            except JobFailed:
                raise
            except _FAILURES as exc:
                raise self._failure(exc, call) from exc
            finally:
                self._end(call)
        except DeliveryFailed as exc:
            if exc.reason == "refused_by_policy":
                raise InputDenied(exc.message) from exc
            raise InputDownloadFailed(f"the input could not be downloaded: {exc.message}") from exc

    # --- one call ---------------------------------------------------------------------------------------------------

    def _begin(self, url: str, *, may_reach_inbox: bool) -> _Call:
        try:
            target = self._policy.check_url(url)
        except InvalidArgument as exc:
            raise DeliveryFailed("refused_by_policy", exc.message, retryable=False) from exc
        counts = self._counts
        keeps_open = not self._proxy and counts.idle + counts.keeping < self._idle_limit
        counts.keeping += keeps_open
        # An open connection to our own inbox must never carry another path: those have pools of their own.
        is_inbox = may_reach_inbox and INBOX_PATH.fullmatch(target.target) is not None
        pool = (target.scheme, target.host, target.port, is_inbox)
        return _Call(target, may_reach_inbox, time.perf_counter(), keeps_open, pool)

    def _end(self, call: _Call) -> None:
        self._counts.keeping -= call.keeps_open
        self._counts.in_use -= call.has_socket
        connection = call.connection
        if connection is None:
            return
        if call.keeps_open and connection.is_reusable:
            connection.rest()
            self._idle.setdefault(call.pool, []).append(connection)
            if self._sweep_timer is None:
                self._sweep_timer = self._loop.call_later(_KEEP_ALIVE_S / 2, self._sweep)
        else:
            connection.drop()

    async def _ask(
        self, call: _Call, method: str, headers: Mapping[str, str], body: bytes | None, limit_s: float
    ) -> Connection:
        """Send the request and wait for the answer, or the head of one that may be long."""
        deadline = self._loop.time() + limit_s
        connection = call.connection = self._take_idle(call)
        target = call.url.target
        if connection is None:
            async with asyncio.timeout_at(deadline):
                if self._proxy:
                    connection, target = await self._connect_by_proxy(self._proxy, call)
                    if call.url.scheme == "http":
                        headers = {**headers, **_proxy_headers(self._proxy)}
                else:
                    addresses = await self._classified(call)
                    connection = await self._connect(call, addresses, call.url.port, self._tls_for(call), call.url.host)
            call.connection = connection
        request = _request(method, target, call.url.authority, headers, body, keeps_open=call.keeps_open)
        await connection.exchange(request, deadline, 0 if body is None else MAX_ANSWER_BYTES)
        return connection

    # --- connections ------------------------------------------------------------------------------------------------

    def _take_idle(self, call: _Call) -> Connection | None:
        """The one that was used last, so that the others come to their end when fewer are needed."""
        idle = self._idle.get(call.pool) if call.keeps_open else None
        oldest = self._loop.time() - _KEEP_ALIVE_S
        while idle:
            connection = idle.pop()
            if connection.is_open and connection.idle_since > oldest:
                self._note_socket(call)
                return connection
            connection.drop()
        return None

    def _sweep(self) -> None:
        """Close what has been idle for too long."""
        self._sweep_timer = None
        oldest = self._loop.time() - _KEEP_ALIVE_S
        for pool, connections in list(self._idle.items()):
            kept = [one for one in connections if one.is_open and one.idle_since > oldest]
            for connection in set(connections).difference(kept):
                connection.drop()
            if kept:
                self._idle[pool] = kept
            else:
                del self._idle[pool]
        if self._idle:
            self._sweep_timer = self._loop.call_later(_KEEP_ALIVE_S / 2, self._sweep)

    def _tls_for(self, call: _Call) -> ssl.SSLContext | None:
        return self._tls_of.get(call.url.host, self._tls) if call.url.scheme == "https" else None

    async def _connect(
        self, call: _Call, addresses: Sequence[Address], port: int, tls: ssl.SSLContext | None, host: str
    ) -> Connection:
        """A connection to one of the addresses; `host` is whom TLS expects there."""
        started, is_connected = time.perf_counter(), False
        places = [_place(address, port) for address in addresses[:_TRIED_ADDRESSES]]
        try:
            async with asyncio.timeout(self._limits.connect_s):
                connected = await start_connection(
                    places,
                    happy_eyeballs_delay=_NEXT_ADDRESS_S,
                    loop=self._loop,
                    socket_factory=partial(self._make_socket, call),
                )
                is_connected = True
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self._loop, self._exchanges),
                    sock=connected,
                    ssl=tls,
                    server_hostname=host if tls else None,
                    ssl_shutdown_timeout=_TLS_GOODBYE_S if tls else None,
                )
        except (TimeoutError, OSError, RuntimeError) as exc:  # uvloop raises RuntimeError for some
            raise self._connect_failure(exc, call, is_in_tls=is_connected and tls is not None) from exc
        call.connect_s += time.perf_counter() - started
        return connection

    async def _connect_by_proxy(self, proxy: URL, call: _Call) -> tuple[Connection, str]:
        """A connection by way of the proxy, and the request's target on it.

        The proxy is told the address that we classified: a name could change before the proxy looks it up.
        """
        address = (await self._classified(call))[0]
        place = f"[{address}]" if address.version == 6 else str(address)
        assert proxy.host and proxy.port
        proxies = [plain_address(text) for text in await self._look_up(proxy.host)]
        proxy_tls = self._tls if proxy.scheme == "https" else None
        connection = await self._connect(call, proxies, proxy.port, proxy_tls, proxy.host)
        call.connection = connection
        if call.url.scheme == "http":
            port = "" if call.url.port == 80 else f":{call.url.port}"
            return connection, f"http://{place}{port}{call.url.target}"
        await self._open_tunnel(connection, call, f"{place}:{call.url.port}")
        return connection, call.url.target

    async def _open_tunnel(self, connection: Connection, call: _Call, place: str) -> None:
        """Have the proxy connect to the receiver, and speak TLS with that one."""
        headers = _proxy_headers(self._proxy)
        deadline = self._loop.time() + self._limits.connect_s
        await connection.exchange(
            _request("CONNECT", place, place, headers, None, keeps_open=True), deadline, 0, is_tunnel=True
        )
        assert connection.message is not None and connection.transport is not None
        if connection.message.code != 200:
            raise DeliveryFailed("connect", f"the proxy answered {connection.message.code}")
        tls = self._tls_for(call)
        assert tls is not None
        try:
            async with asyncio.timeout(self._limits.connect_s):
                connection.transport = await self._loop.start_tls(
                    connection.transport, connection, tls, server_hostname=call.url.host
                )
        except (TimeoutError, OSError) as exc:
            raise self._connect_failure(exc, call, is_in_tls=True) from exc

    # --- addresses --------------------------------------------------------------------------------------------------

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

    def _make_socket(self, call: _Call, place: tuple[Any, ...]) -> socket.socket:
        """Called with the address that is about to be connected to: the last look."""
        family, kind, protocol, _, sockaddr = place
        if not self._proxy:
            address = plain_address(sockaddr[0])
            call.refusal = self._policy.refusal(call.url, address, may_reach_inbox=call.may_reach_inbox)
            if call.refusal:
                raise PermissionError(call.refusal)
        self._note_socket(call)
        return CountedSocket(self._counts, family, kind, protocol)

    def _note_socket(self, call: _Call) -> None:
        if not call.has_socket:
            call.has_socket = True
            self._counts.in_use += 1

    # --- failures ---------------------------------------------------------------------------------------------------

    def _connect_failure(self, exc: Exception, call: _Call, *, is_in_tls: bool) -> DeliveryFailed:
        if call.refusal:
            return DeliveryFailed("refused_by_policy", call.refusal, retryable=False)
        reason, what = ("tls", "TLS handshake") if is_in_tls else ("connect", "connection")
        if isinstance(exc, TimeoutError) and exc.errno is None:
            return DeliveryFailed(reason, f"no {what} within {self._limits.connect_s:g} s")
        if is_in_tls and not isinstance(exc, ssl.SSLError):
            return DeliveryFailed(reason, "the connection was closed during the TLS handshake")
        words = exc.strerror if isinstance(exc, OSError) and not is_in_tls else ""
        return DeliveryFailed(reason, words or str(exc) or type(exc).__name__)

    def _failure(self, exc: Exception, call: _Call) -> DeliveryFailed:
        match exc:
            case TimeoutError():
                limit = self._limits.total_s if call.may_reach_inbox else self._limits.download_s
                return DeliveryFailed("timeout", f"no complete answer within {limit:g} s")
            case ssl.SSLError():
                return DeliveryFailed("tls", str(exc))
            case OSError():
                return DeliveryFailed("reset", "the connection was closed before the answer's head was complete")
        return DeliveryFailed("protocol", (str(exc) or type(exc).__name__)[:500])


_FAILURES = (aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError, ValueError)


def _place(address: Address, port: int) -> tuple[int, int, int, str, tuple[Any, ...]]:
    """As getaddrinfo has it."""
    if address.version == 4:
        return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(address), port)
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(address), port, 0, 0)


def _request(
    method: str, target: str, authority: str, headers: Mapping[str, str], body: bytes | None, *, keeps_open: bool
) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", f"Host: {authority}", *[f"{name}: {headers[name]}" for name in headers]]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    if not keeps_open:
        lines.append("Connection: close")
    head = "\r\n".join(lines)
    if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
        raise ValueError("a header holds a line break")
    return head.encode() + b"\r\n\r\n" + (body or b"")


def _read_answer(call: _Call, connection: Connection) -> Answer:
    """The head decides; what happened to the body is told beside it."""
    message, payload = connection.message, connection.payload
    assert message is not None
    body = payload.read_nowait(MAX_ANSWER_BYTES) if payload.total_bytes else b""
    return Answer(
        status=message.code,
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.raw_headers],
        body=body,
        is_cut=not payload.at_eof(),
        total_s=time.perf_counter() - call.started,
        dns_s=call.dns_s,
        connect_s=call.connect_s,
        body_error=connection.body_error,
    )


async def _save(answer: Connection, path: Path, limit_bytes: int) -> int:
    head = answer.message
    assert head is not None
    if head.code != 200:
        raise InputDownloadFailed(f"the URL answered {head.code}; only 200 is taken, redirects are not followed")
    if head.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise InputDownloadFailed("the URL answered with a Content-Encoding, although none was asked for")
    announced = int(head.headers.get("Content-Length", "0"))  # the parser takes digits only
    if announced > limit_bytes:
        raise UnreadableInput(f"the input has {announced} bytes; at most {limit_bytes} are allowed")
    size = 0
    with path.open("wb") as file:
        async for block in _blocks(answer.payload):
            size += len(block)
            if size > limit_bytes:
                raise UnreadableInput(f"the input has more than {limit_bytes} bytes")
            await asyncio.to_thread(file.write, block)
    return size


async def _blocks(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    block = bytearray()
    async for chunk in content.iter_any():
        block += chunk
        if len(block) >= _WRITE_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _check_proxy(proxy: str) -> URL | None:
    if not proxy:
        return None
    url = URL(proxy)
    if url.scheme not in ("http", "https") or not url.host:
        raise SetupError(f"proxy is {proxy!r}", "write http://host:port")
    return url


def _proxy_headers(proxy: URL | None) -> dict[str, str]:
    if proxy is None or not proxy.user:
        return {}
    words = f"{proxy.user}:{proxy.password or ''}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(words).decode()}"}
