"""One list of attacks through every door that takes a URL: CallBack, Input.Url and detect-url; canaries count connects.

A whole strict server with a lying name server. 127.0.0.2 stands for the public, for nothing else can be reached here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import escape

from tests.support.fault_server import FaultServer, Peer, fault_server
from tests.support.wire_client import RefusedError, WireClient

from cloudfinite.app import App
from cloudfinite.domain.delivery import Delivery, DeliveryFilter
from cloudfinite.ports import Transaction
from cloudfinite.settings import read_settings
from cloudfinite.testing import Server

PUBLIC = "127.0.0.2"
ROUNDS = 50  # of rebinding through each door; tests/integration/test_outbound.py makes 1,000 of them


@dataclass
class Names:
    """What the name server says; `flip.example` is public at the first look after each `reset`, private later."""

    asked: list[str] = field(default_factory=list)
    is_flipped: bool = False

    def lookup(self, host: str) -> list[str]:
        self.asked.append(host)
        match host:
            case "ok.example":
                return [PUBLIC]
            case "private.example" | "localhost":
                return ["127.0.0.1"]
            case "mixed.example":
                return [PUBLIC, "127.0.0.1"]
            case "cloud.example":
                return ["169.254.169.254"]
            case "flip.example":
                found = ["127.0.0.1"] if self.is_flipped else [PUBLIC]
                self.is_flipped = True
                return found
        raise OSError("no such name")


@dataclass
class Scene:
    """The server, its names, the listener that may be reached and the canary on the same port that may not."""

    app: App
    names: Names
    public: FaultServer
    canary: FaultServer

    @property
    def url(self) -> str:
        """Where a client finds the server."""
        return self.app.url

    async def call(self, method: str, target: str, body: str = "", kind: str = "ci") -> str:
        client = WireClient(self)  # type: ignore[arg-type]  # it asks for nothing but the URL
        return await asyncio.to_thread(client.call, method, target, body.encode(), kind)

    async def submit(self, source: str, callback: str) -> str:
        body = (
            f"<Request><Tag>FileHashCode</Tag><Input>{source}</Input><Operation><FileHashCodeConfig><Type>MD5</Type>"
            f"</FileHashCodeConfig></Operation><CallBack>{escape(callback)}</CallBack></Request>"
        )
        answer = await self.call("POST", "/jobs", body)
        return answer.split("<JobId>")[1].split("<")[0]

    async def ended(self, job_id: str) -> str:
        """The job's document, once it has ended."""
        async with asyncio.timeout(20):
            while "<EndTime>-" in (text := await self.call("GET", f"/jobs/{job_id}")) or "<EndTime/>" in text:
                await asyncio.sleep(0.02)
        return text

    # --- the doors: each says what became of the URL

    async def by_callback(self, url: str) -> str:
        try:
            job_id = await self.submit("<Object>a.bin</Object>", url)
        except RefusedError as exc:
            return exc.code
        async with asyncio.timeout(20):
            while True:
                found = await self.app.store.read(_delivery_of, job_id)
                if found and found[0].attempts:
                    return found[1]
                await asyncio.sleep(0.02)

    async def by_input(self, url: str) -> str:
        try:
            job_id = await self.submit(f"<Url>{escape(url)}</Url>", "no")
        except RefusedError as exc:
            return exc.code
        return (await self.ended(job_id)).split("<Code>")[1].split("<")[0]

    async def by_detect_url(self, url: str) -> str:
        try:
            await self.call("GET", f"/?ci-process=OCR&detect-url={quote(url, safe='')}", kind="cos")
        except RefusedError as exc:
            return exc.code
        return "Success"


def _delivery_of(tx: Transaction, job_id: str) -> tuple[Delivery, str] | None:
    """The job's delivery, and how its last attempt ended."""
    found = tx.deliveries.select(DeliveryFilter(job_id=job_id))
    if not found:
        return None
    attempts = tx.deliveries.attempts(found[0][0].id)
    return found[0][0], attempts[-1].outcome if attempts else ""


async def lure(peer: Peer) -> None:
    """A public receiver that sends its callers to the canary in every way it knows."""
    away = f"http://127.0.0.1:{peer.headers['host'].rpartition(':')[2]}/canary"
    if "redirect" in peer.path:
        await peer.answer(307, b"", f"Location: {away}\r\nConnection: close\r\n")
    else:
        more = f'Refresh: 0; url={away}\r\nLink: <{away}>; rel=preload\r\nAlt-Svc: h2="127.0.0.1:{away[-4:]}"\r\n'
        await peer.answer(200, b"ok", more + "Connection: close\r\n")


@asynccontextmanager
async def scene_in(folder: Path) -> AsyncIterator[Scene]:
    names = Names()
    settings = read_settings(
        port=0, data=folder, profile="strict", workers=1, ocr_engine="fixed", ocr_options={"lines": []},
        allow_cidrs=[f"{PUBLIC}/32"], secret_id=Server.secret_id, secret_key=Server.secret_key,
        buckets=f"{Server.bucket}:{Server.region}", retry_schedule_s=[0],
    )  # fmt: skip
    app = App(settings, names.lookup)
    async with fault_server() as canary, fault_server(lure, PUBLIC, canary.port) as public:
        await app.start()
        try:
            scene = Scene(app, names, public, canary)
            await scene.call("PUT", "/a.bin", "bytes", kind="cos")
            yield scene
        finally:
            await app.stop()


ATTACKS = [
    "http://127.0.0.1:{port}/", "http://127.1:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/",
    "http://0177.0.0.1:{port}/", "http://0:{port}/", "http://0.0.0.0:{port}/", "http://localhost:{port}/",
    "http://[::1]:{port}/", "http://[::]:{port}/", "http://[::ffff:127.0.0.1]:{port}/", "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/", "http://[2002:7f00:1::]:{port}/", "http://①②⑦.⓪.⓪.①:{port}/",
    "http://127。0。0。1:{port}/", "http://127.0.0.1.:{port}/", "http://ok.example@127.0.0.1:{port}/",
    "http://ok.example:x@127.0.0.1:{port}/", "http://127.0.0.1:{port}\\@ok.example/", "http://[::1%25lo]:{port}/",
    "http://%31%32%37.0.0.1:{port}/", "http://ok.example:{port}/\r\nHost: 127.0.0.1", "http:///127.0.0.1:{port}/",
    "http://private.example:{port}/", "http://mixed.example:{port}/", "http://ok.example:0/",
    "http://ok.example:65536/", "http://ok.example:22/", "http://ok.example:6379/", "http://169.254.169.254/",
    "http://100.100.100.200/", "http://[fd00:ec2::254]/", "http://metadata.google.internal/", "http://cloud.example/",
    "http://10.0.0.1/", "http://192.168.0.1/", "http://224.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:{port}/",
    "ftp://127.0.0.1:{port}/", "unix:///run/x", "data:text/plain,x", "javascript:alert(1)", "//127.0.0.1:{port}/",
]  # fmt: skip
REFUSED = {
    "InvalidArgument",
    "refused_by_policy",
    "InputDenied",
    "ResourceDownloadFailed",
    "MalformedXML",
    "InvalidURI",
}


async def test_no_door_lets_an_attack_through(tmp_path: Path) -> None:
    async with scene_in(tmp_path) as scene:
        own = f"{scene.app.url}/-/metrics"
        for attack in [*(text.format(port=scene.canary.port) for text in ATTACKS), own]:
            for door in (scene.by_callback, scene.by_input, scene.by_detect_url):
                said = await door(attack)
                assert said not in ("Success", "delivered"), (door.__name__, attack)
        assert (scene.canary.connections, scene.public.connections) == (0, 0)


async def test_a_public_receiver_cannot_send_us_on(tmp_path: Path) -> None:
    async with scene_in(tmp_path) as scene:
        base = f"http://ok.example:{scene.canary.port}"
        assert await scene.by_callback(f"{base}/redirect") == "http_307"
        assert await scene.by_callback(f"{base}/plain") == "delivered"
        assert await scene.by_input(f"{base}/redirect") != "Success"
        assert await scene.by_input(f"{base}/plain") == "Success"
        assert await scene.by_detect_url(f"{base}/redirect") != "Success"
        assert await scene.by_detect_url(f"{base}/plain") == "Success"
        assert (scene.canary.connections, len(scene.public.requests)) == (0, 6)


async def test_rebinding_reaches_no_canary_through_any_door(tmp_path: Path) -> None:
    async with scene_in(tmp_path) as scene:
        url = f"http://flip.example:{scene.canary.port}/"
        for number in range(ROUNDS):
            for door in (scene.by_callback, scene.by_input, scene.by_detect_url):
                scene.names.is_flipped = False
                await door(f"{url}{number}")
        assert scene.canary.connections == 0
        assert len(scene.public.requests) == scene.names.asked.count("flip.example") == 3 * ROUNDS
