"""Objects: the server's memory while 2 GiB go in and out, and lists of a million keys.

python -m bench.objects [--mib 2048] [--keys 1000000]
"""

from __future__ import annotations

import argparse
import http.client
import random
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bench.load import quantile, rss_bytes, signed_headers
from bench.report import Row, show
from sqlalchemy import create_engine, insert

from cloudfinite.adapters.schema_base import to_us
from cloudfinite.adapters.schema_objects import stored_object
from cloudfinite.adapters.store import system_clock
from cloudfinite.testing import Server

HOST = f"{Server.bucket}.cos.{Server.region}.myqcloud.com"
CHUNK = bytes(range(256)) * 4096  # 1 MiB
PART_MIB = 64
FEW = 1_000
PAGE = 100
FOLDERS = 200
LISTS = 300
_WARM = 30
_UPLOAD_ID = re.compile(rb"<UploadId>(\w+)</UploadId>")


@dataclass
class Client:
    """One keep-alive connection."""

    server: Server

    def __post_init__(self) -> None:
        address = urlsplit(self.server.url)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)

    def send(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        mib: int = 0,
        body: bytes = b"",
        headers: Mapping[str, str] = {},
    ) -> http.client.HTTPResponse:
        size_bytes = len(body) or mib << 20
        signed = signed_headers(method, path, host=HOST) | {"Content-Length": str(size_bytes), **headers}
        data: bytes | Iterator[bytes] = body or (CHUNK for _ in range(mib))
        self._connection.request(method, path + (f"?{query}" if query else ""), data, signed)
        answer = self._connection.getresponse()
        if answer.status not in (200, 204):
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.read()[:500]!r}")
        return answer

    def ask(self, method: str, path: str, **more: object) -> tuple[bytes, Mapping[str, str]]:
        answer = self.send(method, path, **more)  # type: ignore[arg-type]  # passed on
        return answer.read(), dict(answer.headers)


class Peak:
    """The highest RSS of a process since the start of the block, by the kernel's own count."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self.bytes = 0

    def __enter__(self) -> Peak:
        (self._proc / "clear_refs").write_text("5")
        return self

    def __exit__(self, *_: object) -> None:
        status = (self._proc / "status").read_text()
        self.bytes = int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024


def put(client: Client, mib: int) -> None:
    client.ask("PUT", "/whole.bin", mib=mib)


def get(client: Client, mib: int) -> None:
    answer = client.send("GET", "/whole.bin")
    size_bytes = 0
    while chunk := answer.read(1 << 20):
        size_bytes += len(chunk)
    assert size_bytes == mib << 20


def put_in_parts(client: Client, mib: int) -> None:
    started, _ = client.ask("POST", "/parts.bin", query="uploads")
    (upload_id,) = (match.decode() for match in _UPLOAD_ID.findall(started))
    parts = ""
    for number in range(1, mib // PART_MIB + 1):
        _, head = client.ask("PUT", "/parts.bin", query=f"partNumber={number}&uploadId={upload_id}", mib=PART_MIB)
        parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{head['ETag']}</ETag></Part>"
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    client.ask("POST", "/parts.bin", query=f"uploadId={upload_id}", body=body)


def copy(client: Client, _mib: int) -> None:
    client.ask("PUT", "/copy.bin", headers={"x-cos-copy-source": f"{HOST}/parts.bin"})


def memory(mib: int) -> list[Row]:
    rows = []
    with Server(workers=0, log_level="warning") as server:
        assert server.process is not None
        pid = server.process.pid
        client = Client(server)
        client.ask("PUT", "/warm.bin", body=CHUNK)
        client.ask("GET", "/warm.bin")
        idle = rss_bytes(pid)
        for name, work in (("put", put), ("get", get), ("put in parts", put_in_parts), ("copy", copy)):
            started = time.monotonic()
            with Peak(pid) as peak:
                work(client, mib)
            rate = mib / (time.monotonic() - started)
            note = f"idle {idle / 1e6:.0f} MB" + (f"; {rate:,.0f} MiB/s" if work is not copy else "")
            more = (peak.bytes - idle) / (1 << 20)
            rows.append(Row(f"{mib:,}-MiB object, {name}: peak RSS above idle", more, "MiB", most=32, note=note))
    return rows


def fill(data: Path, keys: int) -> None:
    """Rows of objects in FOLDERS folders, as their puts would leave them; their bytes are not needed for lists."""
    now = to_us(system_clock())
    engine = create_engine(f"sqlite:///{data / 'cloudfinite.db'}")
    with engine.begin() as connection:
        for start in range(0, keys, 10_000):
            rows = [
                {
                    "bucket": Server.bucket,
                    "key": f"{number % FOLDERS:04d}/scan-{number:08d}.png".encode(),
                    "file_id": f"{number:032x}",
                    "is_multipart": False,
                    "size_bytes": 20_481,
                    "etag": f'"{number:032x}"',
                    "crc64": "11051210869376104954",
                    "modified_us": now,
                    "headers": '{"Content-Type": "image/png"}',
                }
                for number in range(start, min(start + 10_000, keys))
            ]
            connection.execute(insert(stored_object), rows)
    engine.dispose()


def list_times(keys: int) -> dict[str, list[float]]:
    """Milliseconds of lists of one page each, from places all over the bucket."""
    draw = random.Random(7)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder)
        with Server(data=data, workers=0, log_level="warning"):
            pass  # makes the tables
        fill(data, keys)
        with Server(data=data, workers=0, log_level="warning") as server:
            client = Client(server)
            found: dict[str, list[float]] = {"keys": [], "folders": []}
            for number in range(LISTS + _WARM):
                for kind, query in (
                    (
                        "keys",
                        f"max-keys={PAGE}&marker={draw.randrange(FOLDERS // 2):04d}/scan-{draw.randrange(keys):08d}",
                    ),
                    ("folders", f"max-keys={PAGE}&delimiter=/&marker={draw.randrange(FOLDERS // 2 - 1):04d}/"),
                ):
                    started = time.perf_counter()
                    body, _ = client.ask("GET", "/", query=query)
                    if number >= _WARM:
                        found[kind].append((time.perf_counter() - started) * 1000)
                    assert body.count(b"<CommonPrefixes>" if kind == "folders" else b"<Contents>") == PAGE
    return found


def flatness(keys: int) -> list[Row]:
    few, many = list_times(FEW), list_times(keys)
    rows = []
    for kind in few:
        for share, most in ((0.5, 1.3), (0.99, 2.0)):
            at_few, at_many = quantile(few[kind], share), quantile(many[kind], share)
            rows.append(
                Row(
                    f"list of {PAGE} {kind}, p{share * 100:g}: {keys:,} keys ÷ {FEW:,}",
                    at_many / at_few,
                    most=most,
                    note=f"{at_many:.2f} ms",
                )
            )
    return rows


def measure(*, mib: int = 2048, keys: int = 1_000_000) -> list[Row]:
    return [*memory(mib), *flatness(keys)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--keys", type=int, default=1_000_000)
    arguments = parser.parse_args()
    rows = measure(mib=arguments.mib, keys=arguments.keys)
    show(rows, Path("bench-out/objects.json"), "python -m bench.objects")


if __name__ == "__main__":
    main()
