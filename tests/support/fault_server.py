"""Raw-socket receivers that misbehave, canaries that count connections, and a lying name server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Behaviour = Callable[["Peer"], Awaitable[None]]


@dataclass
class Peer:
    """One request as it arrived, and the way back."""

    head: bytes
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int = 200, body: bytes = b"", headers: str = "") -> None:
        await self.send(f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body)

    def reset(self) -> None:
        self.writer.transport.abort()


@dataclass
class FaultServer:
    """A listener whose behaviour is a function; counts connections and keeps every request."""

    behaviour: Behaviour
    connections: int = 0
    requests: list[Peer] = field(default_factory=list)
    port: int = 0
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                peer = Peer(head, b"", reader, writer)
                peer.body = await reader.readexactly(int(peer.headers.get("content-length", 0)))
                self.requests.append(peer)
                async with self.arrived:
                    self.arrived.notify_all()
                await self.behaviour(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except asyncio.CancelledError:
            pass  # the end of the test; asyncio's streams log a handler that ends cancelled
        finally:
            self._tasks.discard(task)
            writer.close()

    async def wait_for(self, count: int, limit_s: float = 10.0) -> list[Peer]:
        async with asyncio.timeout(limit_s), self.arrived:
            await self.arrived.wait_for(lambda: len(self.requests) >= count)
        return self.requests

    async def stop_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def answer_ok(peer: Peer) -> None:
    await peer.answer(200, b"ok")


async def never_answer(peer: Peer) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def fault_server(
    behaviour: Behaviour = answer_ok, host: str = "127.0.0.1", port: int = 0, **listen: object
) -> AsyncIterator[FaultServer]:
    server = FaultServer(behaviour)
    listener = await asyncio.start_server(server.accept, host, port, **listen)  # type: ignore[arg-type]
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await server.stop_tasks()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(listener.wait_closed(), 1)


HEAD = b"HTTP/1.1 200 OK\r\n"


async def drip(peer: Peer, first: bytes) -> None:
    await peer.send(first)
    while True:
        await asyncio.sleep(0.05)
        await peer.send(b"x")


async def endless(peer: Peer, first: bytes, chunk: bytes) -> None:
    await peer.send(first)
    while True:
        await peer.send(chunk)


HOSTILE: dict[str, Behaviour] = {
    "never": never_answer,
    "drip-head": lambda peer: drip(peer, HEAD + b"X-A: "),
    "drip-body": lambda peer: drip(peer, HEAD + b"Content-Length: 1000\r\n\r\n"),
    "endless-body": lambda peer: endless(peer, HEAD + b"Content-Length: 999999999\r\n\r\n", b"x" * 65_536),
    "endless-head": lambda peer: endless(peer, HEAD, b"X-A: " + b"a" * 4_000 + b"\r\n"),
    "interim": lambda peer: endless(peer, b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
}


async def be_hostile(peer: Peer) -> None:
    """Behave as the path says: `/never`, `/endless-body`…"""
    await HOSTILE[peer.path.strip("/")](peer)


async def _serve_hostile() -> None:
    async with fault_server(be_hostile, backlog=500) as server:
        print(server.port, flush=True)
        await asyncio.Event().wait()


def lying_lookup(answers: Iterator[list[str]]) -> Callable[[str], list[str]]:
    """A name server that gives its next answer to each question, whatever the name."""

    def lookup(host: str) -> list[str]:
        found = next(answers)
        if not found:
            raise OSError(f"{host} not found")
        return found

    return lookup


if __name__ == "__main__":  # a process of its own, where the memory of the other side is measured
    asyncio.run(_serve_hostile())
