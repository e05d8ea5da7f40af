"""The console's pages of the inbox: what arrived, laid out, and the faults it is told to have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import web

from cloudfinite.errors import InvalidArgument
from cloudfinite.web.console_job import Body, show_body
from cloudfinite.web.inbox import Fault, Inbox, Message, read_faults
from cloudfinite.web.request import Request

SHOWN = 20  # messages of one page; the JSON has all
_SHOWN_BYTES = 64 * 1024  # of each body


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message, with its headers as they came and its body laid out."""

    message: Message
    headers: Mapping[str, str]
    body: Body

    @property
    def head(self) -> str:
        return "\n".join(f"{name}: {value}" for name, value in self.message.headers)


def arrivals(inbox: Inbox, name: str) -> list[Arrival]:
    """The newest messages, newest first."""
    return [_arrival(message) for message in reversed(inbox.messages(name)[-SHOWN:])]


def _arrival(message: Message) -> Arrival:
    headers = {name.lower(): value for name, value in message.headers}
    return Arrival(message, headers, show_body(message.body, headers.get("content-type", ""), _SHOWN_BYTES))


async def waiting_faults(inbox: Inbox, request: Request, name: str) -> int:
    """How many of the next POSTs will meet a fault."""
    answer = await _ask(inbox, request, "GET", name)
    assert isinstance(answer, web.Response) and isinstance(answer.body, bytes)
    return int(json.loads(answer.body)["faults"])


async def clear(inbox: Inbox, request: Request, name: str) -> None:
    """Forget messages and faults."""
    await _ask(inbox, request, "DELETE", name)


async def _ask(inbox: Inbox, request: Request, method: str, name: str) -> web.StreamResponse:
    # Through its own interface, as any client would: also checks the name.
    return await inbox.serve(replace(request, method=method, path=f"/-/inbox/{name}"))


def read_fault(form: Mapping[str, str]) -> Fault:
    """The fault that a form describes. Raises InvalidArgument."""
    known = {name: form[name] for name in ("kind", "times", "status", "seconds") if form.get(name)}
    if not known.get("kind"):
        raise InvalidArgument("kind is missing; choose one")
    [fault] = read_faults(json.dumps([known]).encode())
    return fault
