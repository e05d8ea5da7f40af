"""The inbox: a receiver for development that keeps what is posted, shows it, and fails when told to.

    POST   /-/inbox/<name>           keep the body; answers 200, or the next fault
    GET    /-/inbox/<name>           what was received, as JSON
    GET    /-/inbox/<name>/<id>      the bytes of one body
    PUT    /-/inbox/<name>/faults    [{"kind": "status", "status": 503, "times": 2, "headers": {"Retry-After": "1"}}]
    DELETE /-/inbox/<name>           forget all, faults too

It lives in memory: bounded in all, oldest forgotten first, and gone with the process.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from aiohttp import web

from cloudfinite.errors import InvalidArgument, InvalidUrl, MethodNotAllowed
from cloudfinite.ports import Clock
from cloudfinite.web.request import Request

MAX_BODY_BYTES = 16 * 1024 * 1024  # A callback of a dense page has some hundred kilobytes.
MAX_BYTES = 64 * 1024 * 1024  # of all inboxes together, bodies and heads
MAX_MESSAGES = 2_000  # per inbox
MAX_INBOXES = 200
_MAX_FAULTS = 100
_MAX_FAULT_BYTES = 65_536
_MAX_TIMEOUT_S = 600.0
_MESSAGE_BYTES = 1_024  # what one costs beside its text

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")


class FaultKind(StrEnum):
    STATUS = "status"
    TIMEOUT = "timeout"
    REDIRECT = "redirect"
    RESET = "reset"


@dataclass(frozen=True, slots=True)
class Fault:
    """What the next `times` POSTs meet instead of 200."""

    kind: FaultKind
    times: int = 1
    status: int = 500
    headers: Mapping[str, str] = field(default_factory=dict)
    location: str = ""
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Message:
    """One POST. `answer` is the status it got, or the fault's kind when it got none."""

    id: str
    received_at: datetime
    headers: tuple[tuple[str, str], ...]
    body: bytes
    answer: str

    @property
    def size_bytes(self) -> int:
        return len(self.body) + sum(len(name) + len(value) for name, value in self.headers) + _MESSAGE_BYTES

    def data(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "received_at": self.received_at.isoformat(),
            "headers": [list(header) for header in self.headers],
            "size_bytes": len(self.body),
            "answer": self.answer,
        }


@dataclass(slots=True)
class _Box:
    messages: deque[Message] = field(default_factory=deque)
    faults: deque[Fault] = field(default_factory=deque)
    received: int = 0


class Inbox:
    """All inboxes of one process. `on_received` hears of each POST, after it was kept and before it is answered."""

    def __init__(self, clock: Clock, on_received: Callable[[str, Message], None] = lambda name, message: None) -> None:
        self._clock = clock
        self._on_received = on_received
        self._boxes: OrderedDict[str, _Box] = OrderedDict()  # the one used longest ago first
        self._bytes = 0

    # --- for the console and the receive command --------------------------------------------------------------------

    def names(self) -> list[str]:
        return sorted(self._boxes)

    def messages(self, name: str) -> list[Message]:
        """Oldest first."""
        return list(self._boxes[name].messages) if name in self._boxes else []

    def add_fault(self, name: str, fault: Fault) -> None:
        self._box(name).faults.append(fault)

    # --- the pages --------------------------------------------------------------------------------------------------

    async def serve(self, request: Request) -> web.StreamResponse:
        """Answer `/-/inbox/…`. Raises InvalidUrl, MethodNotAllowed, InvalidArgument, ContentTooLarge."""
        match request.segments[2:]:
            case [] | [""]:
                self._allow(request, "GET")
                return _json(
                    {"inboxes": [{"name": name, "messages": len(self.messages(name))} for name in self.names()]}
                )
            case [name] if _NAME.fullmatch(name):
                return await self._serve_inbox(request, name)
            case [name, "faults"] if _NAME.fullmatch(name):
                self._allow(request, "PUT")
                faults = read_faults(await request.body(_MAX_FAULT_BYTES))
                self._box(name).faults = deque(faults)
                return _json({"faults": len(faults)})
            case [name, message_id]:
                self._allow(request, "GET")
                return self._show_body(name, message_id)
        raise InvalidUrl(f"{request.path} is no inbox; its name has up to 64 of A-Z a-z 0-9 . _ -")

    def _allow(self, request: Request, *methods: str) -> None:
        if request.method not in methods:
            raise MethodNotAllowed(headers=(("Allow", ", ".join(methods)),))

    async def _serve_inbox(self, request: Request, name: str) -> web.StreamResponse:
        self._allow(request, "GET", "POST", "DELETE")
        if request.method == "POST":
            return await self._receive(request, name)
        if request.method == "DELETE":
            self._drop(name)
            return web.Response(status=204)
        box = self._boxes.get(name, _Box())
        return _json(
            {
                "name": name,
                "messages": [message.data() for message in box.messages],
                "received": box.received,
                "faults": sum(fault.times for fault in box.faults),
            }
        )

    def _show_body(self, name: str, message_id: str) -> web.Response:
        for message in self.messages(name):
            if message.id == message_id:
                # As text whatever it is: a posted page must not run on our host.
                headers = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
                return web.Response(body=message.body, content_type="text/plain", charset="utf-8", headers=headers)
        raise InvalidUrl(f"the inbox {name!r} has no message {message_id!r}; old ones are forgotten")

    # --- receive ----------------------------------------------------------------------------------------------------

    async def _receive(self, request: Request, name: str) -> web.StreamResponse:
        body = await request.body(MAX_BODY_BYTES)
        box = self._box(name)
        fault = self._next_fault(box)
        box.received += 1
        message = Message(
            id=str(box.received),
            received_at=self._clock(),
            headers=tuple((key.decode("latin-1"), value.decode("latin-1")) for key, value in request.http.raw_headers),
            body=body,
            answer=_answer_of(fault),
        )
        self._keep(box, message)
        self._on_received(name, message)
        return web.Response(text="ok\n") if fault is None else await _fail(request, fault)

    def _next_fault(self, box: _Box) -> Fault | None:
        if not box.faults:
            return None
        fault = box.faults[0]
        if fault.times > 1:
            box.faults[0] = replace(fault, times=fault.times - 1)
        else:
            box.faults.popleft()
        return fault

    def _box(self, name: str) -> _Box:
        if name not in self._boxes:
            if len(self._boxes) >= MAX_INBOXES:
                self._drop(next(iter(self._boxes)))
            self._boxes[name] = _Box()
        self._boxes.move_to_end(name)
        return self._boxes[name]

    def _drop(self, name: str) -> None:
        box = self._boxes.pop(name, None)
        if box is not None:
            self._bytes -= sum(message.size_bytes for message in box.messages)

    def _keep(self, box: _Box, message: Message) -> None:
        box.messages.append(message)
        self._bytes += message.size_bytes
        if len(box.messages) > MAX_MESSAGES:
            self._bytes -= box.messages.popleft().size_bytes
        for other in self._boxes.values():
            while self._bytes > MAX_BYTES and other.messages:
                self._bytes -= other.messages.popleft().size_bytes


def _answer_of(fault: Fault | None) -> str:
    match fault:
        case None:
            return "200"
        case Fault(kind=FaultKind.STATUS):
            return str(fault.status)
        case Fault(kind=FaultKind.REDIRECT):
            return "302"
    return fault.kind.value


async def _fail(request: Request, fault: Fault) -> web.StreamResponse:
    match fault.kind:
        case FaultKind.STATUS:
            return web.Response(status=fault.status, headers=dict(fault.headers), text="told to fail\n")
        case FaultKind.REDIRECT:
            return web.Response(status=302, headers={"Location": fault.location or request.path + "-moved"})
        case FaultKind.TIMEOUT:
            await asyncio.sleep(fault.seconds)
    _reset(request.http)
    return web.Response(status=500)  # goes nowhere: the connection is gone


def _reset(http: web.BaseRequest) -> None:
    """Close the connection with a reset."""
    if http.transport is None:
        return
    raw = http.transport.get_extra_info("socket")
    if raw is not None:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    http.transport.abort()


def read_faults(body: bytes) -> list[Fault]:
    """The faults in a JSON list (or one object). Raises InvalidArgument saying what is wrong."""
    try:
        items = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise InvalidArgument(f"the faults are not JSON: {exc}") from exc
    items = [items] if isinstance(items, dict) else items
    if not isinstance(items, list) or len(items) > _MAX_FAULTS:
        raise InvalidArgument(f"the faults must be a list of at most {_MAX_FAULTS} objects")
    return [_read_fault(item) for item in items]


def _read_fault(item: Any) -> Fault:
    allowed = set(Fault.__dataclass_fields__)
    if not isinstance(item, dict) or not set(item) <= allowed:
        raise InvalidArgument(f"a fault is an object with some of {', '.join(sorted(allowed))}")
    try:
        fault = Fault(
            kind=FaultKind(item.get("kind", "status")),
            times=int(item.get("times", 1)),
            status=int(item.get("status", 500)),
            headers={str(name): str(value) for name, value in dict(item.get("headers", {})).items()},
            location=str(item.get("location", "")),
            seconds=float(item.get("seconds", 60.0)),
        )
    except (ValueError, TypeError) as exc:
        raise InvalidArgument(f"a fault cannot be read: {exc}; kind is one of {', '.join(FaultKind)}") from exc
    if not (1 <= fault.times <= 1_000_000 and 200 <= fault.status <= 599 and 0 <= fault.seconds <= _MAX_TIMEOUT_S):
        raise InvalidArgument("a fault has times from 1 to 1000000, status from 200 to 599, seconds from 0 to 600")
    if any(not text.isprintable() for pair in fault.headers.items() for text in (*pair, fault.location)):
        raise InvalidArgument("a fault's headers and location hold printable characters only")
    return fault


def _json(data: Mapping[str, Any]) -> web.Response:
    return web.json_response(data, dumps=lambda value: json.dumps(value, ensure_ascii=True))
