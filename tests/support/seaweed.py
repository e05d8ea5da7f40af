"""SeaweedFS from a wheel: a real S3 server of the tests' own, on free loopback ports and a temporary folder."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

from tests.support.waiting import until

from cloudfinite.adapters.s3 import S3Place, S3Storage
from cloudfinite.adapters.store import system_clock
from cloudfinite.wire.s3 import Credentials, sign

KEY_ID, SECRET = "seaweed-key", "seaweed-secret"
CREDENTIALS = Credentials(KEY_ID, SECRET, "us-east-1")


def free_ports(count: int) -> list[int]:
    """SeaweedFS also takes each port plus 10,000 for gRPC, so those must be free too."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as low, socket.socket() as high:
            low.bind(("127.0.0.1", 0))
            port = low.getsockname()[1]
            try:
                high.bind(("127.0.0.1", port + 10_000))
            except (OSError, OverflowError):
                continue
            found.append(port)
    return found


class Seaweed:
    """`weed server` with an S3 endpoint; may be killed and started again on the same ports and folder."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="cloudfinite-weed-"))
        self._ports = free_ports(4)
        self.endpoint = f"http://127.0.0.1:{self._ports[3]}"
        self._process: subprocess.Popen[bytes] | None = None
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": KEY_ID, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        (self.folder / "s3.json").write_text(json.dumps({"identities": [identity]}))

    @property
    def command(self) -> list[str]:
        master, volume, filer, s3 = map(str, self._ports)
        weed = shutil.which("weed", path=str(Path(sys.executable).parent)) or "weed"
        return [
            weed, "-logtostderr", "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
            f"-master.port={master}", "-master.telemetry=false", "-master.peers=none", "-master.volumeSizeLimitMB=1024",
            f"-volume.port={volume}", "-volume.max=1000", "-filer", f"-filer.port={filer}",
            "-s3", f"-s3.port={s3}", f"-s3.config={self.folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-filer.localSocket={self.folder / 'filer.sock'}", f"-s3.localSocket={self.folder / 's3.sock'}",
        ]  # fmt: skip

    def start(self) -> None:
        """Return when it answers."""
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(self._is_ready, "SeaweedFS to answer", wait_s=60)

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"weed ended: {(self.folder / 'weed.log').read_text()[-2000:]}")
        try:
            # An object too: after a new start its volumes are known a while later than the buckets.
            return self._put("/probes") in (200, 409) and self._put("/probes/probe", b"x") == 200
        except OSError:
            return False

    def make_bucket(self, name: str) -> None:
        if self._put(f"/{name}") not in (200, 409):
            raise RuntimeError(f"the bucket {name} could not be made")

    def _put(self, path: str, body: bytes = b"") -> int:
        host = {"Host": self.endpoint.removeprefix("http://")}
        headers = sign("PUT", path, "", host, hashlib.sha256(body).hexdigest(), CREDENTIALS, datetime.now(UTC))
        request = urllib.request.Request(self.endpoint + path, body, headers, method="PUT")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code

    def make_durable(self) -> None:
        """Have it fsync what is put into buckets, as we do; by the filer's own settings file."""
        rules = {"version": 0, "locations": [{"location_prefix": "/buckets/", "fsync": True}]}
        path = f"http://127.0.0.1:{self._ports[2]}/etc/seaweedfs/filer.conf"
        request = urllib.request.Request(path, json.dumps(rules).encode(), method="PUT")
        with urllib.request.urlopen(request, timeout=5) as answer:
            answer.read()

    def storage(self, bucket: str, name: str) -> S3Storage:
        """Our client of its bucket `name`, as the storage of our bucket `bucket`."""
        return S3Storage(bucket, S3Place(name, self.endpoint, CREDENTIALS), system_clock)

    def access(self, **more: object) -> dict[str, object]:
        """A row of the setting `storages`."""
        return {"endpoint": self.endpoint, "access_key_id": KEY_ID, "secret_access_key": SECRET, **more}

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def remove(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
