"""For users' tests: a server of your own on a free port, with temporary data.

Example::

    with Server(ocr_engine="fixed", ocr_options={"lines": []}) as server:
        client = CosS3Client(CosConfig(Region=server.region, SecretId=server.secret_id,
                                       SecretKey=server.secret_key, Scheme="http", Proxies={"http": server.url}))
        callback = server.wait_for_callbacks("my-inbox", 1)[0]
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ReceivedCallback:
    """One POST that the inbox took: the headers in lower case, the body as it came."""

    headers: Mapping[str, str]
    body: bytes


class Server:
    """`cloudfinite serve` as a process of its own. Keywords are settings, by their names in `cloudfinite serve --help`.

    `data` keeps what the server stores; without it everything is temporary. Raises RuntimeError with the server's last
    words when it does not become ready.
    """

    region = "ap-chongqing"
    bucket = "examplebucket-1250000000"
    secret_id = "AKIDtesttesttesttesttesttesttest"
    secret_key = "test-secret-key-test-secret-key"

    def __init__(
        self,
        *,
        data: Path | None = None,
        start_wait_s: float = 30.0,
        command: Sequence[str] = ("-m", "cloudfinite.cli", "serve"),
        **settings: Any,
    ) -> None:
        self._is_temporary = data is None
        self.data = data or Path(tempfile.mkdtemp(prefix="cloudfinite-test-"))
        self._start_wait_s = start_wait_s
        self.command = command  # for a server started in a way of your own; the settings come by environment
        self._settings: dict[str, Any] = {
            "host": "127.0.0.1",
            "port": 0,
            "secret_id": self.secret_id,
            "secret_key": self.secret_key,
            "buckets": f"{self.bucket}:{self.region}",
            **settings,
            "data": self.data,
        }
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._is_temporary:
            shutil.rmtree(self.data, ignore_errors=True)

    # --- the process ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until `/-/ready` answers 200."""
        (self.data / "address").unlink(missing_ok=True)
        with (self.data / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        ends_at = time.monotonic() + self._start_wait_s
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > ends_at:
                self.kill()
                raise RuntimeError(f"the server did not become ready; it said: {self.log()[-2000:]}")
            time.sleep(_POLL_S)

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDFINITE_")}
        path = os.pathsep.join(filter(None, [*sys.path, inherited.get("PYTHONPATH")]))
        settings = {f"CLOUDFINITE_{name.upper()}": _text(value) for name, value in self._settings.items()}
        return {**inherited, "PYTHONPATH": path, **settings}

    def _is_ready(self) -> bool:
        try:
            self.url = (self.data / "address").read_text().strip()
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    def stop(self) -> int:
        """Ask it to drain, and wait; returns its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        """What it has written to its log so far."""
        return (self.data / "server.log").read_text(errors="replace")

    # --- its inbox --------------------------------------------------------------------------------------------------

    def inbox(self, name: str) -> str:
        """The URL of an inbox, for a job's CallBack."""
        return f"{self.url}/-/inbox/{name}"

    def callbacks(self, name: str) -> list[ReceivedCallback]:
        """What the inbox has received, oldest first."""
        listed = json.loads(self.get(f"/-/inbox/{name}"))["messages"]
        return [
            ReceivedCallback(
                {header.lower(): value for header, value in message["headers"]},
                self.get(f"/-/inbox/{name}/{message['id']}"),
            )
            for message in listed
        ]

    def wait_for_callbacks(self, name: str, count: int, wait_s: float = 30.0) -> list[ReceivedCallback]:
        """Wait until the inbox has `count` callbacks. Raises TimeoutError saying how many it has."""
        ends_at = time.monotonic() + wait_s
        while True:
            number = len(json.loads(self.get(f"/-/inbox/{name}"))["messages"])
            if number >= count:
                return self.callbacks(name)
            if time.monotonic() > ends_at:
                raise TimeoutError(f"the inbox {name} has {number} of {count} callbacks; log: {self.log()[-2000:]}")
            time.sleep(_POLL_S)

    def get(self, path: str) -> bytes:
        """GET one of the server's own pages. Raises urllib.error.HTTPError."""
        with urllib.request.urlopen(f"{self.url}{path}", timeout=30) as answer:
            return bytes(answer.read())


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value))
    return str(value)
