"""What each answer of a receiver leads to, through a whole server: its API, its jobs, its sockets (R-7 to R-13)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from tests.support.api_caller import ApiCaller
from tests.support.fault_server import FaultServer, Peer, fault_server

from cloudfinite.testing import Server

RETRY_S = 0.3


class Receiver:
    """A receiver in a thread of its own, which answers by the path: `/<status>/<case>`, or as `behave` is told."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.url = ""
        self._is_up = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._done = asyncio.Event()
        self._server: FaultServer | None = None
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))

    def __enter__(self) -> Receiver:
        self._thread.start()
        self._is_up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._done.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self) -> None:
        async with fault_server(self._behave) as server:
            self._server, self.url = server, server.url
            self._is_up.set()
            await self._done.wait()

    async def _behave(self, peer: Peer) -> None:
        status, _, case = peer.path.strip("/").partition("/")
        match status:
            case "reset-before":
                peer.reset()
            case "reset-in-head":
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Le")
                peer.reset()
            case "reset-in-body":
                await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
                peer.reset()
            case _:
                body = b"" if status in ("204", "304") else b"said"
                await peer.answer(int(status), body, self.headers.get(case, ""))

    def posts(self, path: str) -> list[Peer]:
        assert self._server is not None
        return [peer for peer in self._server.requests if peer.path == path]


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def api() -> Iterator[ApiCaller]:
    with Server(ocr_engine="fixed", ocr_options={"lines": []}, workers=1, retry_schedule_s=[0, RETRY_S]) as server:
        caller = ApiCaller(server)
        caller.put("page.png")
        yield caller


def told(api: ApiCaller, receiver: Receiver, path: str, holds: Callable[[Any], bool]) -> Any:
    """The delivery of a job whose callback goes to this path, once it is so."""
    [job_id] = api.submit("page.png", callback={"url": receiver.url + path})
    ends_at = time.monotonic() + 20
    while True:
        found = api.get(f"/jobs/{job_id}")["deliveries"]
        if found and holds(delivery := api.get(f"/deliveries/{found[0]['id']}")):
            return delivery
        assert time.monotonic() < ends_at, found
        time.sleep(0.02)


def ended(delivery: Any) -> bool:
    return bool(delivery["state"] != "waiting")


def tried(delivery: Any) -> bool:
    return bool(delivery["attempts"] >= 1)


def outcomes(delivery: Any) -> list[str]:
    return [one["outcome"] for one in delivery["tries"]]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 206, 299])
def test_any_2xx_delivers_at_once(api: ApiCaller, receiver: Receiver, status: int) -> None:
    delivery = told(api, receiver, f"/{status}", ended)
    assert (delivery["state"], outcomes(delivery)) == ("delivered", ["delivered"])
    assert delivery["tries"][0]["status"] == status


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 307, 308])
def test_redirects_are_retried_and_never_followed(api: ApiCaller, receiver: Receiver, status: int) -> None:
    receiver.headers[f"away-{status}"] = f"Location: {receiver.url}/200/followed-{status}\r\n"
    delivery = told(api, receiver, f"/{status}/away-{status}", ended)
    assert (delivery["state"], outcomes(delivery)) == ("failed", [f"http_{status}"] * 2)
    assert f"followed-{status}" in delivery["tries"][0]["response_head"]
    assert delivery["tries"][0]["message"] == "redirects are not followed"
    assert receiver.posts(f"/200/followed-{status}") == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 415, 422])
def test_refusals_are_retried_and_called_so(api: ApiCaller, receiver: Receiver, status: int) -> None:
    delivery = told(api, receiver, f"/{status}", ended)
    assert (delivery["state"], outcomes(delivery)) == ("failed", [f"http_{status}"] * 2)
    assert delivery["tries"][0]["message"] == "the receiver refuses it"
    started = [datetime.fromisoformat(one["started_at"]) for one in delivery["tries"]]
    assert started[1] - started[0] >= timedelta(seconds=RETRY_S)


def test_gone_ends_the_delivery_and_pauses_the_target_until_it_is_resumed(api: ApiCaller, receiver: Receiver) -> None:
    delivery = told(api, receiver, "/410", ended)
    assert (delivery["state"], outcomes(delivery)) == ("failed", ["http_410"])
    target = api.get("/target", url=delivery["url"])
    assert (target["state"], target["paused_reason"]) == ("paused", "the receiver answered 410 Gone")
    api.post("/target/resume", {"url": delivery["url"]})
    api.post(f"/deliveries/{delivery['id']}/replay")
    assert outcomes(api.wait_sent(delivery["id"], attempts=2)) == ["http_410"] * 2


WAITS = {
    "seconds": ("120", 120),
    "date": ("", 90),  # written when the test runs
    "zero": ("0", 0),
    "negative": ("-1", 0),
    "huge": ("1000000000", 86_400),
    "text": ("soon", 0),
    "empty": ("", 0),
}


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("case", list(WAITS))
def test_retry_after_is_waited_for_within_reason(api: ApiCaller, receiver: Receiver, status: int, case: str) -> None:
    value, wait_s = WAITS[case]
    if case == "date":
        value = format_datetime(datetime.now(UTC) + timedelta(seconds=wait_s), usegmt=True)
    name = f"{case}-{status}"
    receiver.headers[name] = f"Retry-After: {value}\r\n"
    delivery = told(api, receiver, f"/{status}/{name}", tried if wait_s else ended)
    if not wait_s:
        assert outcomes(delivery) == [f"http_{status}"] * 2  # by the schedule
        return
    started = datetime.fromisoformat(delivery["tries"][0]["started_at"])
    waits = datetime.fromisoformat(delivery["next_at"]) - started
    assert wait_s - 3 <= waits.total_seconds() <= wait_s + 3
    assert api.get("/target", url=delivery["url"])["open_until"] is not None  # so the others wait too
    later = told(api, receiver, f"/{status}/{name}", lambda one: one["sequence"] == 2)
    assert later["attempts"] == 0


@pytest.mark.parametrize("status", [500, 501, 502, 504, 599])
def test_failures_of_the_server_are_retried(api: ApiCaller, receiver: Receiver, status: int) -> None:
    delivery = told(api, receiver, f"/{status}", ended)
    assert (delivery["state"], outcomes(delivery)) == ("failed", [f"http_{status}"] * 2)


@pytest.mark.parametrize("path", ["/reset-before", "/reset-in-head"])
def test_reset_before_the_head_is_complete_is_retried(api: ApiCaller, receiver: Receiver, path: str) -> None:
    delivery = told(api, receiver, path, ended)
    assert (delivery["state"], outcomes(delivery)) == ("failed", ["reset"] * 2)
    assert len(receiver.posts(path)) == len(delivery["tries"])  # each POST has its row


def test_reset_in_the_body_of_a_success_is_a_success_that_says_so(api: ApiCaller, receiver: Receiver) -> None:
    delivery = told(api, receiver, "/reset-in-body", ended)
    assert (delivery["state"], outcomes(delivery)) == ("delivered", ["delivered"])
    assert delivery["tries"][0]["message"] == "the answer's body ended early: reset"
