"""The guarded way out: nothing forbidden is connected to, and no receiver can hold or fill us (T7-T13, R-1-R-15)."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import random
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.fault_server import (
    HEAD,
    HOSTILE,
    Behaviour,
    FaultServer,
    Peer,
    drip,
    endless,
    fault_server,
    lying_lookup,
    never_answer,
)

from cloudfinite.adapters.names import NameLookup
from cloudfinite.adapters.outbound import MAX_ANSWER_BYTES, OutboundClient, OutboundLimits
from cloudfinite.adapters.policy import OutboundPolicy
from cloudfinite.errors import DeliveryFailed, InputDenied, InputDownloadFailed, UnreadableInput
from cloudfinite.ports import Answer

SHORT = OutboundLimits(dns_s=0.3, connect_s=0.3, total_s=0.5, download_s=0.5)
LONG = OutboundLimits(total_s=10)


def no_lookup(host: str) -> Sequence[str]:
    raise OSError("no names in this test")


@asynccontextmanager
async def client_with(
    *,
    is_strict: bool = False,
    limits: OutboundLimits = SHORT,
    lookup: Callable[[str], Sequence[str]] = no_lookup,
    policy: OutboundPolicy | None = None,
    ca_file: Path | None = None,
    proxy: str = "",
) -> AsyncIterator[OutboundClient]:
    policy = policy or OutboundPolicy(is_strict=is_strict)
    client = OutboundClient(policy, NameLookup(limits.dns_s, lookup), limits=limits, ca_file=ca_file, proxy=proxy)
    try:
        yield client
    finally:
        await client.close()


async def failure(client: OutboundClient, url: str) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await client.post(url, {}, b"x")
    return caught.value


async def post_to(behaviour: Behaviour, limits: OutboundLimits = SHORT) -> Answer:
    async with fault_server(behaviour) as server, client_with(limits=limits) as client:
        return await client.post(server.url + "/cb", {"Content-Type": "application/xml"}, b"x")


async def failure_of(behaviour: Behaviour, limits: OutboundLimits = SHORT) -> DeliveryFailed:
    with pytest.raises(DeliveryFailed) as caught:
        await post_to(behaviour, limits)
    return caught.value


# --- addresses -----------------------------------------------------------------------------------------------------

LITERALS = [
    "127.0.0.1",
    "localhost",
    "[::ffff:127.0.0.1]",
    "0.0.0.0",
    "[::]",
    "0",
    "2130706433",
    "127.1",
    "127。0。0。1",
]


@pytest.mark.parametrize("host", LITERALS)
async def test_strict_never_connects_to_this_machine(host: str) -> None:
    async with (
        fault_server() as canary,
        client_with(is_strict=True, lookup=lambda host: ["127.0.0.1", "::1"]) as client,
    ):
        refused = await failure(client, f"http://{host}:{canary.port}/")
        assert (refused.reason, refused.retryable) == ("refused_by_policy", False)
        assert canary.connections == 0


async def test_name_with_one_forbidden_address_is_refused_as_a_whole() -> None:
    answers = [["93.184.216.34", "10.0.0.1"], ["10.0.0.1", "93.184.216.34"], ["93.184.216.34", "::ffff:127.0.0.1"]]
    async with client_with(is_strict=True, lookup=lying_lookup(iter(answers))) as client:
        for _ in answers:
            assert (await failure(client, "http://mixed.example/")).reason == "refused_by_policy"


async def test_metadata_behind_a_name_is_refused_in_dev_too() -> None:
    async with client_with(lookup=lambda host: ["169.254.169.254"]) as client:
        refused = await failure(client, "http://innocent.example/")
        assert refused.reason == "refused_by_policy"
        assert "metadata" in refused.message


class FlippingName:
    """A name that is public at the first look of a call, and private at every later one (DNS rebinding)."""

    def __init__(self) -> None:
        self.is_first = True
        self.questions = 0

    def lookup(self, host: str) -> list[str]:
        self.questions += 1
        found = ["127.0.0.2"] if self.is_first else ["127.0.0.1"]
        self.is_first = False
        return found


@asynccontextmanager
async def flipping() -> AsyncIterator[tuple[OutboundClient, FlippingName, FaultServer, FaultServer]]:
    """A strict client to which 127.0.0.2 stands for the public, a receiver there, a canary at 127.0.0.1's same port."""
    policy = OutboundPolicy(is_strict=True, allow_cidrs=["127.0.0.2/32"])
    name = FlippingName()
    async with (
        fault_server() as canary,
        fault_server(lambda peer: peer.answer(200, b"ok", "Connection: close\r\n"), "127.0.0.2", canary.port) as public,
        client_with(policy=policy, lookup=name.lookup, limits=LONG) as client,
    ):
        yield client, name, public, canary


async def test_rebinding_name_never_reaches_the_forbidden_address() -> None:
    async with flipping() as (client, name, public, canary):
        for _ in range(1_000):
            name.is_first = True
            assert (await client.post(f"http://flip.example:{canary.port}/", {}, b"x")).status == 200
        assert (canary.connections, len(public.requests), name.questions) == (0, 1_000, 1_000)


async def test_rebinding_name_never_gives_an_input_from_the_forbidden_address(tmp_path: Path) -> None:
    async with flipping() as (client, name, public, canary):
        for _ in range(1_000):
            name.is_first = True
            assert await client.fetch(f"http://flip.example:{canary.port}/", tmp_path / "input", 100) == 2
        assert (canary.connections, len(public.requests), name.questions) == (0, 1_000, 1_000)


async def test_name_that_turned_private_between_two_attempts_is_refused() -> None:
    async with flipping() as (client, name, public, canary):
        for attempt in range(100):
            name.is_first = attempt % 2 == 0
            if name.is_first:
                await client.post(f"http://flip.example:{canary.port}/", {}, b"x")
            else:
                assert (await failure(client, f"http://flip.example:{canary.port}/")).reason == "refused_by_policy"
        assert (canary.connections, len(public.requests)) == (0, 50)


async def test_the_classified_address_is_the_one_connected_to() -> None:
    answers = iter([["127.0.0.1"]])
    async with fault_server() as server, client_with(lookup=lying_lookup(answers)) as client:
        answer = await client.post(f"http://some.example:{server.port}/cb?x=%2F", {}, b"x")
        assert answer.status == 200 and server.requests[0].path == "/cb?x=%2F"
        assert server.requests[0].headers["host"] == f"some.example:{server.port}"
        # The open connection was checked when it was made; no second question is asked.
        await client.post(f"http://some.example:{server.port}/cb", {}, b"x")
        assert server.connections == 1


async def test_last_look_at_the_socket_holds_even_when_the_resolver_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    async with fault_server() as canary, client_with(is_strict=True, lookup=lambda host: ["127.0.0.1"]) as client:

        async def unchecked(call: object) -> list[object]:
            from cloudfinite.adapters.addresses import plain_address

            return [plain_address("127.0.0.1"), plain_address("10.0.0.1")]

        monkeypatch.setattr(client, "_classified", unchecked)
        assert (await failure(client, f"http://x.example:{canary.port}/")).reason == "refused_by_policy"
        assert canary.connections == 0


async def test_own_listener_is_refused_by_name_too_but_for_the_inbox() -> None:
    policy = OutboundPolicy(is_strict=True)
    async with fault_server() as own, client_with(policy=policy, lookup=lambda host: ["127.0.0.1"]) as client:
        policy.add_listener("127.0.0.1", own.port)
        base = f"http://me.example:{own.port}"
        assert (await client.post(base + "/-/inbox/demo", {}, b"x")).status == 200
        # Not over the connection that the inbox left open either.
        assert (await failure(client, base + "/jobs")).reason == "refused_by_policy"
        assert [peer.path for peer in own.requests] == ["/-/inbox/demo"]


async def test_input_may_not_come_from_our_own_inbox(tmp_path: Path) -> None:
    policy = OutboundPolicy(is_strict=False)
    async with fault_server() as own, client_with(policy=policy, lookup=lambda host: ["127.0.0.1"]) as client:
        policy.add_listener("127.0.0.1", own.port)
        with pytest.raises(InputDenied):
            await client.fetch(f"http://me.example:{own.port}/-/inbox/demo", tmp_path / "x", 100)
        assert own.connections == 0


# --- names ---------------------------------------------------------------------------------------------------------


async def test_unknown_name_is_a_dns_failure_that_may_be_retried() -> None:
    async with client_with(lookup=lying_lookup(itertools.repeat([]))) as client:
        failed = await failure(client, "http://nowhere.example/")
        assert (failed.reason, failed.retryable) == ("dns", True)


async def test_silent_names_cost_their_budget_and_leave_others_alone() -> None:
    release = threading.Event()

    def lookup(host: str) -> list[str]:
        if host.startswith("silent"):
            release.wait(10)
        return ["127.0.0.1"]

    async with fault_server() as server, client_with(lookup=lookup) as client:
        try:
            silent = [asyncio.create_task(failure(client, f"http://silent{n}.example/")) for n in range(20)]
            await asyncio.sleep(0)
            started = time.monotonic()
            await client.post(f"http://good.example:{server.port}/", {}, b"x")
            assert time.monotonic() - started < 0.25
            assert {(await task).reason for task in silent} == {"dns"}
        finally:
            release.set()


async def test_name_with_a_thousand_addresses_is_tried_a_few_times_only() -> None:
    addresses = [f"127.0.{n // 250}.{n % 250 + 1}" for n in range(1_000)]
    async with client_with(lookup=lambda host: addresses, limits=LONG) as client:
        assert (await failure(client, "http://many.example:1/")).reason == "connect"


# --- receivers that misbehave --------------------------------------------------------------------------------------


async def test_redirects_are_never_followed() -> None:
    for status in (301, 302, 303, 307, 308):
        async with fault_server(lambda peer, status=status: peer.answer(status, b"", "Location: /other\r\n")) as server:
            async with client_with() as client:
                answer = await client.post(server.url + "/cb", {}, b"x")
            assert (answer.status, ("Location", "/other") in answer.headers) == (status, True)
            assert len(server.requests) == 1


async def test_alternative_services_and_refresh_are_ignored() -> None:
    hints = 'Alt-Svc: h2="127.0.0.1:1"\r\nRefresh: 0; url=/x\r\nLink: </y>; rel=preload\r\nSet-Cookie: a=b\r\n'
    async with fault_server(lambda peer: peer.answer(200, b"", hints)) as server, client_with() as client:
        for _ in range(2):
            await client.post(server.url + "/cb", {}, b"x")
        assert [peer.path for peer in server.requests] == ["/cb", "/cb"]
        assert "cookie" not in server.requests[1].headers


async def test_only_the_given_headers_are_sent() -> None:
    async with fault_server() as server, client_with() as client:
        await client.post(server.url + "/cb", {"Content-Type": "application/xml", "User-Agent": "u"}, b"<x/>")
        assert set(server.requests[0].headers) == {"host", "content-type", "user-agent", "content-length"}
        assert server.requests[0].body == b"<x/>"


SLOW: dict[str, Behaviour] = {
    "never answers": never_answer,
    "drips its head": lambda peer: drip(peer, HEAD + b"X-A: "),
}


@pytest.mark.parametrize("behaviour", SLOW.values(), ids=SLOW)
async def test_slow_heads_end_at_the_total_time_limit(behaviour: Behaviour) -> None:
    started = time.monotonic()
    failed = await failure_of(behaviour)
    assert (failed.reason, failed.retryable) == ("timeout", True)
    assert time.monotonic() - started < SHORT.total_s + 0.5


async def test_endless_interim_answers_end_at_the_total_time_limit() -> None:
    failed = await failure_of(lambda peer: endless(peer, b"", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"))
    assert failed.reason in ("timeout", "protocol")


BROKEN: dict[str, bytes] = {
    "no HTTP at all": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "a header line of a megabyte": HEAD + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n",
    "NUL in a header": HEAD + b"X-A: a\0b\r\nContent-Length: 0\r\n\r\n",
    "20,000 headers": HEAD + b"X-A: b\r\n" * 20_000 + b"\r\n",
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
async def test_broken_heads_are_protocol_failures(sent: bytes) -> None:
    async def behave(peer: Peer) -> None:
        await peer.send(sent)
        await never_answer(peer)

    failed = await failure_of(behave, LONG)
    assert (failed.reason, failed.retryable) == ("protocol", True)


async def test_endless_head_is_cut_off() -> None:
    failed = await failure_of(lambda peer: endless(peer, HEAD, b"X-A: " + b"a" * 4_000 + b"\r\n"), LONG)
    assert failed.reason == "protocol"


async def test_odd_header_bytes_are_kept_as_text() -> None:
    answer = await post_to(lambda peer: peer.send(HEAD + b"X-A: caf\xe9 \xff\r\nContent-Length: 0\r\n\r\n"))
    assert ("X-A", "café ÿ") in answer.headers


async def test_endless_body_is_read_up_to_the_limit_and_the_head_decides() -> None:
    answer = await post_to(lambda peer: endless(peer, HEAD + b"Content-Length: 999999999\r\n\r\n", b"x" * 65_536), LONG)
    assert (answer.status, len(answer.body), answer.is_cut) == (200, MAX_ANSWER_BYTES, True)
    assert answer.total_s < 2


async def test_dripping_body_ends_at_the_total_limit_and_the_head_decides() -> None:
    answer = await post_to(lambda peer: drip(peer, HEAD + b"Content-Length: 1000\r\n\r\n"))
    assert (answer.status, answer.body_error, answer.is_cut) == (200, "timeout", True)
    assert answer.total_s < SHORT.total_s + 0.5


async def test_reset_in_the_body_leaves_the_status() -> None:
    async def behave(peer: Peer) -> None:
        await peer.send(HEAD + b"Content-Length: 1000\r\n\r\nabc")
        peer.writer.close()

    answer = await post_to(behave)
    assert (answer.status, answer.body, bool(answer.body_error)) == (200, b"abc", True)


async def test_compressed_bodies_are_not_unpacked() -> None:
    bomb = gzip.compress(b"\0" * 20_000_000)
    answer = await post_to(lambda peer: peer.answer(200, bomb, "Content-Encoding: gzip\r\n"), LONG)
    assert answer.body == bomb[:MAX_ANSWER_BYTES]


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 20"])
async def test_connection_closed_before_the_head_is_complete_is_a_reset(sent: bytes) -> None:
    async def behave(peer: Peer) -> None:
        await peer.send(sent)
        peer.writer.close()

    assert (await failure_of(behave)).reason in ("reset", "protocol")


async def test_refused_connection_is_a_connect_failure() -> None:
    async with client_with() as client:
        assert (await failure(client, "http://127.0.0.1:1/")).reason == "connect"


async def test_connection_that_was_closed_while_idle_is_not_used_again() -> None:
    async def close_after(peer: Peer) -> None:
        await peer.answer(200, b"ok")
        peer.writer.close()
        await peer.writer.wait_closed()

    async with fault_server(close_after) as server, client_with() as client:
        for _ in range(5):
            assert (await client.post(server.url, {}, b"x")).status == 200
            await asyncio.sleep(0.01)  # lets the close arrive; the race inside that moment may end as a reset
        assert len(server.requests) == 5


@pytest.fixture(scope="module")
def hostile_url() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.support.fault_server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


@pytest.mark.parametrize("kind", HOSTILE)
async def test_many_hostile_receivers_at_once_neither_hold_nor_fill_us(kind: str, hostile_url: str) -> None:
    limits = OutboundLimits(total_s=1)
    async with client_with(limits=limits) as client:
        before = resident_bytes()
        started = time.monotonic()
        posts = [client.post(f"{hostile_url}/{kind}", {}, b"x") for _ in range(200)]
        await asyncio.gather(*posts, return_exceptions=True)
        assert time.monotonic() - started < limits.total_s + 1
        assert resident_bytes() - before < 20_000_000


def resident_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


async def test_open_and_idle_sockets_stay_within_the_limit() -> None:
    limits = OutboundLimits(sockets=20)
    async with client_with(limits=limits) as client:
        servers = [fault_server() for _ in range(30)]
        running = [await server.__aenter__() for server in servers]
        seen = []
        for _ in range(2):
            for start in range(0, 30, client.capacity):
                batch = running[start : start + client.capacity]
                await asyncio.gather(*(client.post(server.url, {}, b"x") for server in batch))
                seen.append(client._counts.open)
        assert max(seen) <= limits.sockets and client._counts.idle <= limits.sockets // 4
        for server in servers:
            await server.__aexit__(None, None, None)


# --- TLS, proxy ----------------------------------------------------------------------------------------------------


async def test_proxy_is_told_the_classified_address_and_nothing_forbidden() -> None:
    async with fault_server() as proxy:
        answers = iter([["93.184.216.34"], ["127.0.0.1"], ["10.0.0.1"]])
        async with client_with(
            is_strict=True, lookup=lying_lookup(answers), proxy=f"http://proxy.example:{proxy.port}"
        ) as client:
            assert (await client.post("http://some.example/cb", {}, b"x")).status == 200
            assert proxy.requests[0].head.startswith(b"POST http://93.184.216.34/cb HTTP/1.1\r\n")
            assert proxy.requests[0].headers["host"] == "some.example"
            assert (await failure(client, "http://some.example/cb")).reason == "refused_by_policy"
            assert len(proxy.requests) == 1


# --- inputs --------------------------------------------------------------------------------------------------------


async def test_input_is_fetched_into_a_file(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3_000_000)
    async with (
        fault_server(lambda peer: peer.answer(200, content)) as server,
        client_with(limits=OutboundLimits()) as c,
    ):
        assert await c.fetch(server.url + "/a.png", tmp_path / "a", 5_000_000) == len(content)
    assert (tmp_path / "a").read_bytes() == content


@pytest.mark.parametrize("announced", [True, False])
async def test_large_input_is_cut_off(tmp_path: Path, announced: bool) -> None:
    head = b"Content-Length: 99999999\r\n\r\n" if announced else b"Connection: close\r\n\r\n"
    async with fault_server(lambda peer: endless(peer, HEAD + head, b"x" * 65_536)) as server, client_with() as client:
        with pytest.raises(UnreadableInput):
            await client.fetch(server.url, tmp_path / "a", 1_000_000)


@pytest.mark.parametrize(
    "behaviour",
    [
        lambda peer: peer.answer(302, b"", "Location: http://127.0.0.1/\r\n"),
        lambda peer: peer.answer(404),
        lambda peer: peer.answer(200, b"x", "Content-Encoding: gzip\r\n"),
        never_answer,
        lambda peer: drip(peer, HEAD + b"Content-Length: 1000\r\n\r\n"),
    ],
)
async def test_input_that_cannot_be_had_fails_the_job(tmp_path: Path, behaviour: Behaviour) -> None:
    async with fault_server(behaviour) as server, client_with() as client:
        with pytest.raises(InputDownloadFailed):
            await client.fetch(server.url, tmp_path / "a", 1_000)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}/", "http://169.254.169.254/", "file:///etc/passwd"])
async def test_forbidden_input_is_denied(tmp_path: Path, url: str) -> None:
    async with fault_server() as canary, client_with(is_strict=True) as client:
        with pytest.raises(InputDenied):
            await client.fetch(url.format(port=canary.port), tmp_path / "a", 1_000)
        assert canary.connections == 0
