"""The development receiver: keeps, shows, fails on demand, stays bounded; and its standing-alone form that judges."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from cloudfinite.errors import InvalidArgument
from cloudfinite.receive import Receiver
from cloudfinite.web import inbox as inbox_module
from cloudfinite.web.inbox import Fault, FaultKind, read_faults
from cloudfinite.wire.webhooks import new_secret, read_secret, sign

BODY = b'{"EventName":"TaskFinish","JobsDetail":[{"JobId":"a1","State":"Success","Tag":"T"}]}'


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[tuple[Receiver, str, aiohttp.ClientSession, list[str]]]:
    lines: list[str] = []
    receiver = Receiver(lines.append, **options)
    url = await receiver.start("127.0.0.1", 0)
    async with aiohttp.ClientSession() as session:
        try:
            yield receiver, url, session, lines
        finally:
            await receiver.stop()


async def post(session: aiohttp.ClientSession, url: str, body: bytes = BODY, **headers: str) -> int:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.post(url, data=body, headers=named, allow_redirects=False) as answer:
        return answer.status


async def get(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as answer:
        return json.loads(await answer.read())


async def test_inbox_keeps_and_shows_what_was_posted() -> None:
    async with receiving() as (_, url, session, _lines):
        body = bytes(range(256))
        assert await post(session, f"{url}/-/inbox/demo", body, X_A="b") == 200
        shown = await get(session, f"{url}/-/inbox/demo")
        (message,) = shown["messages"]
        assert ["X-A", "b"] in message["headers"] and (message["size_bytes"], message["answer"]) == (256, "200")
        async with session.get(f"{url}/-/inbox/demo/{message['id']}") as answer:
            assert await answer.read() == body
            assert answer.headers["X-Content-Type-Options"] == "nosniff" and answer.content_type == "text/plain"
        assert await get(session, f"{url}/-/inbox/") == {"inboxes": [{"name": "demo", "messages": 1}]}
        async with session.delete(f"{url}/-/inbox/demo") as answer:
            assert answer.status == 204
        assert (await get(session, f"{url}/-/inbox/demo"))["messages"] == []


async def test_inbox_fails_the_next_posts_as_told() -> None:
    faults = [
        {"kind": "status", "status": 503, "times": 2, "headers": {"Retry-After": "1"}},
        {"kind": "redirect"},
        {"kind": "reset"},
        {"kind": "timeout", "seconds": 0.05},
    ]
    async with receiving() as (_, url, session, _lines):
        inbox = f"{url}/-/inbox/demo"
        async with session.put(f"{inbox}/faults", json=faults) as answer:
            assert answer.status == 200
        assert [await post(session, inbox) for _ in range(3)] == [503, 503, 302]
        for _ in range(2):
            with pytest.raises(aiohttp.ClientConnectionError):
                await post(session, inbox)
        assert await post(session, inbox) == 200
        answers = [message["answer"] for message in (await get(session, inbox))["messages"]]
        assert answers == ["503", "503", "302", "reset", "timeout", "200"]


@pytest.mark.parametrize(
    "faults",
    [b"", b"5", b'[{"kind":"explode"}]', b'[{"times":0}]', b'[{"status":99}]', b'[{"other":1}]', b'[{"headers":[1]}]',
     b'[{"seconds":1e9}]', b'[{"headers":{"A":"b\\r\\nC: d"}}]', b"[" * 10_000, json.dumps([{}] * 101).encode()],
)  # fmt: skip
def test_unreadable_faults_are_refused(faults: bytes) -> None:
    with pytest.raises(InvalidArgument):
        read_faults(faults)


async def test_inbox_stays_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_module, "MAX_BYTES", 20_000)
    monkeypatch.setattr(inbox_module, "MAX_MESSAGES", 5)
    monkeypatch.setattr(inbox_module, "MAX_INBOXES", 3)
    monkeypatch.setattr(inbox_module, "MAX_BODY_BYTES", 10_000)
    async with receiving() as (_, url, session, _lines):
        for _ in range(8):
            await post(session, f"{url}/-/inbox/a")
        shown = await get(session, f"{url}/-/inbox/a")
        assert (len(shown["messages"]), shown["received"], shown["messages"][-1]["id"]) == (5, 8, "8")
        for name in "bcd":
            await post(session, f"{url}/-/inbox/{name}", b"x" * 8_000)
        listed = {one["name"]: one["messages"] for one in (await get(session, f"{url}/-/inbox"))["inboxes"]}
        assert listed == {"b": 0, "c": 1, "d": 1}
        assert await post(session, f"{url}/-/inbox/a", b"x" * 10_001) == 413


@pytest.mark.parametrize("path", ["/-/inbox/" + "a" * 65, "/-/inbox/.a", "/-/inbox/a/b/c", "/-/inbox/a%20b"])
async def test_odd_names_are_no_inboxes(path: str) -> None:
    async with receiving() as (_, url, session, _lines):
        assert await post(session, url + path) == 404


# --- standing alone ------------------------------------------------------------------------------------------------

SECRET = new_secret()
FAULTS = [Fault(FaultKind.STATUS, status=500)]


def headers_of(message_id: str, sequence: int, body: bytes = BODY, secret: str = SECRET) -> Mapping[str, str]:
    import time

    at = int(time.time())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": sign([read_secret(secret)], message_id, at, body),
        "cloudfinite-sequence": str(sequence),
        "cloudfinite-attempt": "1",
    }


async def test_receiver_reports_lost_repeated_and_unordered_callbacks() -> None:
    async with receiving(secrets=[SECRET]) as (receiver, url, session, lines):
        for message_id, sequence in (("a", 1), ("b", 2), ("d", 5), ("c", 3), ("a", 1)):
            assert await post(session, f"{url}/hook", **headers_of(message_id, sequence)) == 200
        found = receiver.findings("hook")
        assert (found.received, found.missing, found.repeated, found.out_of_sequence) == (5, {4}, 1, 1)
        assert (found.changed, found.badly_signed, receiver.is_clean) == (0, 0, False)
        assert any("2 before it not (yet) received" in line for line in lines)
        assert "1 lost, 1 repeated" in receiver.report()[0]


async def test_receiver_reports_changed_badly_signed_late_and_unreadable_ones() -> None:
    old = BODY.replace(b'"Tag"', b'"EndTime":"2020-01-01T00:00:00+0800","Tag"')
    async with receiving(secrets=[SECRET]) as (receiver, url, session, _lines):
        await post(session, f"{url}/hook", **headers_of("a", 1))
        await post(session, f"{url}/hook", b"{}", **headers_of("a", 1, b"{}"))
        await post(session, f"{url}/hook", **headers_of("b", 2, secret=new_secret()))
        await post(session, f"{url}/hook", old, **headers_of("c", 3, old))
        await post(session, f"{url}/hook", **headers_of("d", 10**17))
        found = receiver.findings("hook")
        assert (found.changed, found.badly_signed, found.late, found.unreadable) == (1, 1, 1, 1)
        assert len(found.missing) <= 10_000


async def test_receiver_says_that_all_is_well_when_it_is() -> None:
    async with receiving(secrets=[SECRET], faults=FAULTS) as (
        receiver,
        url,
        session,
        lines,
    ):
        assert await post(session, f"{url}/hook", **headers_of("a", 7)) == 500
        assert await post(session, f"{url}/hook", **headers_of("a", 7)) == 200
        assert await post(session, f"{url}/hook", **headers_of("b", 8)) == 200
        assert receiver.is_clean and "a1 T Success" in lines[0]
        await asyncio.sleep(0)
