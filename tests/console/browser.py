"""A headless Chromium, driven over its debugging protocol by the little of it that the tests of pages need."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--hide-scrollbars", "--remote-debugging-port=0", "about:blank",
)  # fmt: skip
_TIME_LIMIT_S = 20.0
_ASK_EVERY_S = 0.03


def find_chromium() -> str:
    """The program's path, "" where none is installed."""
    return next((path for name in NAMES if (path := shutil.which(name))), "")


class Page:
    """One tab. `complaints` are what the browser's console was told: errors, and breaches of the page's policy."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._events: dict[str, asyncio.Event] = {}
        self._number = 0
        self.complaints: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if "id" in data:
                self._answers.pop(data["id"]).set_result(data)
                continue
            self._events.setdefault(data["method"], asyncio.Event()).set()
            match data["method"], data["params"]:
                case "Log.entryAdded", {"entry": entry}:
                    self.complaints.append(entry["text"])
                case "Runtime.exceptionThrown", {"exceptionDetails": details}:
                    self.complaints.append(details.get("exception", {}).get("description", details["text"]))
                case "Page.javascriptDialogOpening", {"message": text}:
                    self.complaints.append(f"a dialog said {text!r}")

    async def _ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        async with asyncio.timeout(_TIME_LIMIT_S):
            return await answer

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        data = await self._ask(method, **params)
        assert "error" not in data, data
        result: dict[str, Any] = data["result"]
        return result

    async def open(self, url: str) -> None:
        loaded = self._events["Page.loadEventFired"] = asyncio.Event()
        await self.send("Page.navigate", url=url)
        async with asyncio.timeout(_TIME_LIMIT_S):
            await loaded.wait()

    async def run(self, script: str) -> Any:
        """The value of an expression in the page, a promise's once it is there."""
        answer = await self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Return when the expression is true in the page, whichever page that is by then."""
        async with asyncio.timeout(_TIME_LIMIT_S):
            while True:
                # Between two pages there is nothing to ask: an error then is no answer.
                data = await self._ask("Runtime.evaluate", expression=f"Boolean({condition})", returnByValue=True)
                if data.get("result", {}).get("result", {}).get("value") is True:
                    return
                await asyncio.sleep(_ASK_EVERY_S)

    async def look(self, *, width: int = 1280, height: int = 900, is_dark: bool = False) -> None:
        """Set the size of the window, and which colours the reader prefers."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def hover(self, selector: str) -> None:
        """Move the pointer onto the middle of an element."""
        box = await self.run(
            f"(() => {{ const item = document.querySelector({json.dumps(selector)});"
            " item.scrollIntoView({block: 'center'}); const box = item.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        await self.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    async def press(self, key: str) -> None:
        text = {"Enter": "\r"}.get(key, key)
        await self.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=text)
        await self.send("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def screenshot(self, path: Path, *, is_whole: bool = True) -> None:
        answer = await self.send("Page.captureScreenshot", captureBeyondViewport=is_whole, format="png")
        path.write_bytes(base64.b64decode(answer["data"]))

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)


@asynccontextmanager
async def browser_page(program: str) -> AsyncIterator[Page]:
    """A fresh browser with a profile of its own, and one page in it."""
    profile = Path(tempfile.mkdtemp(prefix="cloudfinite-browser-"))
    process = await asyncio.create_subprocess_exec(
        program, *FLAGS[:-1], f"--user-data-dir={profile}", FLAGS[-1],
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    output = process.stderr
    assert output is not None
    drain: asyncio.Task[bytes] | None = None
    try:
        port = await _debugging_port(output)
        drain = asyncio.create_task(output.read())
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                address = next(tab["webSocketDebuggerUrl"] for tab in await answer.json() if tab["type"] == "page")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await page.send(f"{domain}.enable")
                try:
                    yield page
                finally:
                    await page.close()
    finally:
        process.terminate()
        await process.wait()
        if drain:
            await drain
        shutil.rmtree(profile, ignore_errors=True)


async def _debugging_port(output: asyncio.StreamReader) -> int:
    async with asyncio.timeout(_TIME_LIMIT_S):
        async for line in output:
            if b"DevTools listening on" in line:
                return int(line.split(b"127.0.0.1:")[1].split(b"/")[0])
    raise RuntimeError("Chromium ended without telling its debugging port")
