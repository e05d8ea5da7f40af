"""The other side of the benchmarks: signed clients, a receiver that counts, and what the system says of a process."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import aiohttp

from cloudfinite.testing import Server
from cloudfinite.wire.signature import sign

HOST = f"{Server.bucket}.ci.{Server.region}.myqcloud.com"
_TICKS = os.sysconf("SC_CLK_TCK")


def submission(callback: str, *, sleep_ms: int = 0) -> bytes:
    return (
        "<Request><Tag>BenchNoOp</Tag><Input><Object>bench.bin</Object></Input><Operation><BenchNoOp>"
        f"<SleepMs>{sleep_ms}</SleepMs></BenchNoOp></Operation><CallBack>{callback}</CallBack></Request>"
    ).encode()


def signed_headers(
    method: str, path: str, body: bytes = b"", *, host: str = HOST, query: tuple[tuple[str, str], ...] = ()
) -> dict[str, str]:
    headers = {"Host": host} | ({"Content-Length": str(len(body))} if body else {})
    now = int(time.time())
    authorization = sign(
        method,
        path,
        secret_id=Server.secret_id,
        secret_key=Server.secret_key,
        start_s=now // 60 * 60 - 60,
        end_s=now // 60 * 60 + 3600,
        headers=headers.items(),
        params=query,
    )
    return {**headers, "Authorization": authorization}


@dataclass
class Receiver:
    """Counts callbacks and notes when each arrived; answers 200 with an empty body."""

    arrived_ns: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    url: str = ""
    keeps_bodies: bool = False
    _waiters: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)

    def note(self, body: bytes) -> None:
        self.arrived_ns.append(time.time_ns())
        if self.keeps_bodies:
            self.bodies.append(body)
        while self._waiters and len(self.arrived_ns) >= self._waiters[0][0]:
            waiter = self._waiters.pop(0)[1]
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for(self, count: int, wait_s: float) -> None:
        if len(self.arrived_ns) < count:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append((count, future))
            async with asyncio.timeout(wait_s):
                await future


class _Protocol(asyncio.Protocol):
    _length = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            match = self._length.search(self._buffer[:end])
            size = int(match[1]) if match else 0
            if len(self._buffer) < end + 4 + size:
                return
            self._receiver.note(self._buffer[end + 4 : end + 4 + size])
            self._buffer = self._buffer[end + 4 + size :]
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")  # type: ignore[attr-defined]  # of a stream socket


@asynccontextmanager
async def receiving(*, keeps_bodies: bool = False) -> AsyncIterator[Receiver]:
    receiver = Receiver(keeps_bodies=keeps_bodies)
    server = await asyncio.get_running_loop().create_server(lambda: _Protocol(receiver), "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield receiver
    finally:
        server.close()


@asynccontextmanager
async def session(connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as client:
        yield client


class HasUrl(Protocol):
    """As much of a server as the clients here need."""

    @property
    def url(self) -> str: ...


async def submit_many(
    server: HasUrl,
    client: aiohttp.ClientSession,
    count: int,
    connections: int,
    url: Callable[[int], str],
    *,
    sleep_ms: int = 0,
) -> None:
    """`count` jobs over keep-alive connections; raises when one is refused."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            body = submission(url(number), sleep_ms=sleep_ms)
            headers = signed_headers("POST", "/jobs", body)
            async with client.post(f"{server.url}/jobs", data=body, headers=headers) as answer:
                text = await answer.read()
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status}: {text[:300]!r}")

    await asyncio.gather(*(worker() for _ in range(connections)))


async def put_input(server: Server, client: aiohttp.ClientSession) -> None:
    host = f"{Server.bucket}.cos.{Server.region}.myqcloud.com"
    headers = signed_headers("PUT", "/bench.bin", b"bench", host=host)
    async with client.put(f"{server.url}/bench.bin", data=b"bench", headers=headers) as answer:
        answer.raise_for_status()


# --- what the system says ------------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """User and system time of a process, without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fdatasync_rate(folder: Path, count: int = 300) -> float:
    """How many small writes this disk makes durable in a second."""
    path = folder / "fdatasync.probe"
    with path.open("wb") as file:
        started = time.monotonic()
        for _ in range(count):
            file.write(b"x" * 8192)
            file.flush()
            os.fdatasync(file.fileno())
        spent = time.monotonic() - started
    path.unlink()
    return count / spent


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
