"""Objects here against the S3 server of the tests, SeaweedFS: the same client code puts and gets, large and small.

python -m bench.object_stores [--rounds 3]

Both fsync: we always, SeaweedFS by its setting for the bucket's folder. Rounds alternate, medians count.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from bench.load import signed_headers
from bench.report import Row, show
from tests.support.seaweed import CREDENTIALS, Seaweed

from cloudfinite.testing import Server
from cloudfinite.wire import s3

HOST = f"{Server.bucket}.cos.{Server.region}.myqcloud.com"
BUCKET = "bench"
SMALL = bytes(1024)
CHUNK = bytes(range(256)) * 4096  # 1 MiB
LARGE_MIB = 64
SMALL_COUNT, CLIENTS, LARGE_COUNT = 800, 16, 3
_UNSIGNED = "UNSIGNED-PAYLOAD"  # The COS signature does not cover bodies either.


@dataclass(frozen=True)
class Side:
    """One server: where it is, and the path and headers of a request for a key."""

    url: str
    sign: Callable[[str, str], tuple[str, Mapping[str, str]]]

    def connect(self) -> http.client.HTTPConnection:
        address = urlsplit(self.url)
        return http.client.HTTPConnection(address.hostname or "", address.port, timeout=600)

    def ask(self, connection: http.client.HTTPConnection, method: str, key: str, *, mib: int = 0) -> None:
        path, headers = self.sign(method, key)
        if method == "PUT":
            data: bytes | Iterator[bytes] = (CHUNK for _ in range(mib)) if mib else SMALL
            headers = {**headers, "Content-Length": str((mib << 20) or len(SMALL))}
            connection.request(method, path, data, headers)
        else:
            connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        size_bytes = 0
        while chunk := answer.read(1 << 20):
            size_bytes += len(chunk)
        if answer.status != 200 or (method == "GET" and size_bytes != ((mib << 20) or len(SMALL))):
            raise RuntimeError(f"{method} {key} at {self.url}: {answer.status}, {size_bytes} bytes")


def ours(server: Server) -> Side:
    return Side(server.url, lambda method, key: (f"/{key}", signed_headers(method, f"/{key}", host=HOST)))


def theirs(weed: Seaweed) -> Side:
    host = {"Host": weed.endpoint.removeprefix("http://")}

    def sign(method: str, key: str) -> tuple[str, Mapping[str, str]]:
        path = f"/{BUCKET}/{key}"
        return path, s3.sign(method, path, "", host, _UNSIGNED, CREDENTIALS, datetime.now(UTC))

    return Side(weed.endpoint, sign)


def small(side: Side, method: str, start: int) -> float:
    """Objects per second by CLIENTS connections."""

    def work(client: int) -> None:
        connection = side.connect()
        for number in range(client, SMALL_COUNT, CLIENTS):
            side.ask(connection, method, f"small/{start + number}")
        connection.close()

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(work, range(CLIENTS)))
    return SMALL_COUNT / (time.perf_counter() - started)


def large(side: Side, method: str, start: int) -> float:
    """MiB per second by one connection."""
    connection = side.connect()
    started = time.perf_counter()
    for number in range(LARGE_COUNT):
        side.ask(connection, method, f"large/{start + number}", mib=LARGE_MIB)
    rate = LARGE_COUNT * LARGE_MIB / (time.perf_counter() - started)
    connection.close()
    return rate


def measure(*, rounds: int = 3) -> list[Row]:
    weed = Seaweed()
    found: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
    try:
        weed.start()
        weed.make_durable()
        weed.make_bucket(BUCKET)
        with Server(workers=0, log_level="warning") as server:
            sides = (ours(server), theirs(weed))
            for side in sides:  # warm
                large(side, "PUT", 900)
                small(side, "PUT", 900_000)
            for turn in range(rounds):
                for name, work in ((f"{LARGE_MIB} MiB", large), ("1 KiB", small)):
                    for method in ("PUT", "GET"):
                        for index, side in enumerate(sides):
                            rate = work(side, method, turn * SMALL_COUNT)
                            found.setdefault((name, method), ([], []))[index].append(rate)
    finally:
        weed.remove()
    rows = []
    for (name, method), (here, there) in found.items():
        at_us, at_them = statistics.median(here), statistics.median(there)
        note = f"{at_us:,.0f} to {at_them:,.0f} {'objects' if name == '1 KiB' else 'MiB'}/s"
        least = 1.0 if name == "1 KiB" else 0.8
        rows.append(Row(f"{method} of {name} ÷ SeaweedFS, both fsyncing", at_us / at_them, "×", least=least, note=note))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rows = measure(rounds=parser.parse_args().rounds)
    show(rows, Path("bench-out/object_stores.json"), "python -m bench.object_stores")


if __name__ == "__main__":
    main()
