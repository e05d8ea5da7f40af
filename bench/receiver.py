"""A receiver in a process of its own, fast enough to be no part of what is measured; prints its port.

python -m bench.receiver [--keeps]

    POST /hole/…    is never answered
    POST /fail/…    500, until `GET /-/heal`
    POST /…         200
    GET  /-/arrived how many POSTs came; with --keeps as lines of `path webhook-id nanoseconds`, by the monotonic clock
    GET  /-/heal    from now on all but holes are answered 200
    GET  /-/clear   forget all
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ID = re.compile(rb"webhook-id: *(\S+)", re.IGNORECASE)
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_FAILED = b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"


@dataclass
class _Book:
    keeps: bool
    count: int = 0
    is_well: bool = False
    lines: list[str] = field(default_factory=list)

    def note(self, head: bytes) -> bytes:
        """The answer to one POST; empty for none."""
        self.count += 1
        path = head[5 : head.index(b" ", 5)]
        if self.keeps:
            found = _ID.search(head)
            key = found[1].decode() if found else "-"
            self.lines.append(f"{path.decode()} {key} {time.monotonic_ns()}")
        if path.startswith(b"/hole"):
            return b""
        return _FAILED if path.startswith(b"/fail") and not self.is_well else _OK

    def answer(self, head: bytes) -> bytes:
        path = head.split(b" ", 2)[1]
        text = b"\n".join([str(self.count).encode(), *map(str.encode, self.lines)]) if path == b"/-/arrived" else b""
        if path == b"/-/clear":
            self.count, self.lines = 0, []
        self.is_well |= path == b"/-/heal"
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(text) + text


class _Protocol(asyncio.Protocol):
    def __init__(self, book: _Book) -> None:
        self._book = book
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            match = _LENGTH.search(head)
            size = int(match[1]) if match else 0
            if len(self._buffer) < end + 4 + size:
                return
            self._buffer = self._buffer[end + 4 + size :]
            answer = self._book.note(head) if head.startswith(b"POST") else self._book.answer(head)
            if answer:
                self._transport.write(answer)  # type: ignore[attr-defined]  # of a stream socket


async def _serve(keeps: bool) -> None:
    book = _Book(keeps)
    server = await asyncio.get_running_loop().create_server(lambda: _Protocol(book), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


# --- for the benchmark ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receiver:
    url: str

    def get(self, what: str) -> str:
        with urllib.request.urlopen(f"{self.url}/-/{what}", timeout=30) as answer:
            return answer.read().decode()

    @property
    def count(self) -> int:
        return int(self.get("arrived").partition("\n")[0])

    def arrivals(self) -> list[tuple[str, str, float]]:
        """(path, id, seconds of the monotonic clock), in their order."""
        lines = (line.split() for line in self.get("arrived").splitlines()[1:])
        return [(path, key, int(at_ns) / 1e9) for path, key, at_ns in lines]


@contextmanager
def receiving(*, keeps: bool = False) -> Iterator[Receiver]:
    command = [sys.executable, "-m", "bench.receiver", *(["--keeps"] if keeps else [])]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Receiver(f"http://127.0.0.1:{int(process.stdout.readline())}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve("--keeps" in sys.argv))
