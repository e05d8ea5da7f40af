"""An edge with handlers that tell what they were called with, and clients that speak to it byte by byte."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from cloudfinite.domain.access import EVERYTHING, NOTHING, Grant
from cloudfinite.web import replies
from cloudfinite.web.access import Keys
from cloudfinite.web.request import Request
from cloudfinite.web.routes import Handlers, Router
from cloudfinite.web.server import Edge, EdgeConfig, LetRead
from cloudfinite.wire.nodes import Node
from cloudfinite.wire.signature import sign

SECRET_ID, SECRET_KEY = "AKIDexampleexampleexampleexample0000", "exampleSecretKeyexampleSecretKey"
BUCKET = "examplebucket-1250000000"
COS_HOST = f"{BUCKET}.cos.ap-chongqing.myqcloud.com"
CI_HOST = f"{BUCKET}.ci.ap-chongqing.myqcloud.com"
TOKEN = "admin-token-of-the-test"


class Group:
    """Handlers that answer with their own name, or as the test wants."""

    def __init__(self, name: str, calls: list[tuple[str, Request]], answers: dict[str, Any]) -> None:
        self._name, self._calls, self._answers = name, calls, answers

    def __getattr__(self, method: str) -> Callable[[Request], Awaitable[web.StreamResponse]]:
        if method.startswith("__"):
            raise AttributeError(method)
        name = f"{self._name}.{method}"

        async def handle(request: Request) -> web.StreamResponse:
            self._calls.append((name, request))
            answer = self._answers.get(name)
            if answer is not None:
                return await answer(request)
            return replies.node(request, Node("Response", (Node("Call", name), Node("RequestId", request.id))))

        return handle


@dataclass
class KnownFacts:
    """A store that has these keys and ids."""

    keys: set[str] = field(default_factory=set)
    ids: set[tuple[str, str]] = field(default_factory=set)

    async def object_exists(self, bucket: str, key: str, /) -> bool:
        return key in self.keys

    async def id_is_ours(self, segment: str, item_id: str, /) -> bool:
        return (segment, item_id) in self.ids


@dataclass
class FixedKeys:
    """Key pairs with what each may do, and the buckets that anybody may read."""

    secrets: dict[str, str] = field(default_factory=lambda: {SECRET_ID: SECRET_KEY})
    grants: dict[str, Grant] = field(default_factory=lambda: {SECRET_ID: Grant((EVERYTHING,))})
    public: Grant = NOTHING

    def secret_of(self, secret_id: str, token: str = "") -> str | None:
        return None if token else self.secrets.get(secret_id)

    def grant_of(self, secret_id: str, token: str = "") -> Grant:
        return self.grants[secret_id]

    async def public_grant(self, bucket: str) -> Grant:
        return self.public


@dataclass
class Harness:
    """A running edge, what its handlers were called with, and what they shall answer."""

    facts: KnownFacts = field(default_factory=KnownFacts)
    calls: list[tuple[str, Request]] = field(default_factory=list)
    answers: dict[str, Callable[[Request], Awaitable[web.StreamResponse]]] = field(default_factory=dict)
    now: datetime | None = None
    metrics: CollectorRegistry = field(default_factory=CollectorRegistry)
    let_read: LetRead | None = None
    keys: Keys = field(default_factory=FixedKeys)
    port: int = 0
    clients: list[Client] = field(default_factory=list)
    edge: Edge = field(init=False)

    def clock(self) -> datetime:
        return self.now or datetime.now(UTC)

    def router(self) -> Router:
        return Router(Handlers(**self.groups()), self.facts)

    def groups(self) -> dict[str, Any]:
        """A group for each that the table asks for."""
        groups: dict[str, Any] = {
            item.name: Group(item.name, self.calls, self.answers) for item in fields(Handlers) if item.name != "own"
        }
        return {**groups, "own": Group("own", self.calls, self.answers).page}

    async def start(self, config: EdgeConfig) -> None:
        self.edge = Edge(self.router(), self.keys, self.clock, config, self.metrics, self.let_read)
        [address] = await self.edge.start("127.0.0.1", 0)
        self.port = address.port

    # --- clients ---------------------------------------------------------------------------------------------------

    def authorization(self, method: str, path: str, host: str) -> str:
        start_s = int(self.clock().timestamp())
        return sign(
            method,
            path,
            secret_id=SECRET_ID,
            secret_key=SECRET_KEY,
            start_s=start_s,
            end_s=start_s + 60,
            headers=[("host", host)],
        )

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def raw(self, data: bytes) -> Reply:
        """Send bytes on a new connection and read one answer."""
        client = await self.connect()
        client.send(data)
        return await client.reply()

    async def call(
        self,
        method: str,
        target: str,
        *,
        host: str = CI_HOST,
        path: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        is_signed: bool = True,
    ) -> Reply:
        """One request in origin form. `path`: what is signed, if not the target's path as written."""
        return await self.raw(self.request_bytes(method, target, host, path, body, headers or {}, is_signed=is_signed))

    def request_bytes(
        self,
        method: str,
        target: str,
        host: str = CI_HOST,
        path: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        *,
        is_signed: bool = True,
    ) -> bytes:
        all_headers = {"Host": host, "Content-Length": str(len(body)), **(headers or {})}
        if is_signed:
            all_headers["Authorization"] = self.authorization(method, path or target.partition("?")[0], host)
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in all_headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


@dataclass
class Reply:
    """An answer as it came: `head` holds names in the letter case that was sent."""

    status: int
    head: list[tuple[str, str]]
    body: bytes

    def __getitem__(self, name: str) -> str:
        """The header of exactly this spelling."""
        return dict(self.head)[name]

    def get(self, name: str) -> str | None:
        return dict(self.head).get(name)

    @property
    def code(self) -> str:
        return self.body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()


@dataclass
class Client:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def reply(self, *, has_body: bool = True) -> Reply:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = [(name, value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
        size = int(dict(fields).get("Content-Length", "0")) if has_body else 0
        return Reply(int(head[0].split()[1]), fields, await self.reader.readexactly(size))

    async def is_closed(self) -> bool:
        """Wait for the server to close; what it still sends is dropped."""
        while await self.reader.read(65_536):
            pass
        return True

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@asynccontextmanager
async def running_edge(config: EdgeConfig | None = None, **given: Any) -> AsyncIterator[Harness]:
    harness = Harness(**given)
    await harness.start(config or EdgeConfig(default_bucket=BUCKET, admin_token=TOKEN))
    try:
        yield harness
    finally:
        for client in harness.clients:
            await client.close()
        await harness.edge.close(0.1)
