"""Deliveries: the whole path against wrk, limits, and good receivers beside dead ones.

python -m bench.deliver [--only path|rates|holes|silent|waiting] [--long]
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import structlog
import uvloop
from bench import load
from bench.delivery_desk import BODY, LIST, Desk, desk_in
from bench.receiver import Receiver, receiving
from bench.report import Row, show

from cloudfinite.testing import Server

ROUNDS = 3
TARGETS = 13  # with four attempts at once each: as many connections as wrk has
CONNECTIONS = 50
SLICE_S = 2.0  # of wrk, and of bare aiohttp, in each round; the path takes as long
BACKLOG = 10_000
NO_WRK = "wrk is not installed (Debian: apt-get install wrk)"
AHEAD = 1_600  # deliveries put in before they are sent: fewer than the deliverer takes from memory
PRODUCERS = 4  # of lists, as jobs end beside one another: who puts them in is not to be what is measured
GOOD_PER_S = 50
SILENT_TOTAL_S = 5.0


# --- the whole path ------------------------------------------------------------------------------------------------


def wrk_rate(url: str, folder: Path) -> tuple[float, float]:
    """POSTs per second of wrk, and its CPU seconds per POST."""
    script = folder / "post.lua"
    script.write_text(
        'wrk.method = "POST"\nwrk.body = [[' + BODY.decode() + ']]\nwrk.headers["Content-Type"] = "application/xml"\n'
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SLICE_S:g}s", "-s", str(script), url]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    count = re.search(r"(\d+) requests in", words)
    rate = re.search(r"Requests/sec: *([\d.]+)", words)
    assert count and rate and "Non-2xx" not in words, words
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return float(rate[1]), cpu_s / int(count[1])


async def bare_rate(url: str) -> float:
    """POSTs per second of aiohttp alone, in this process."""
    ends_at, count = time.monotonic() + SLICE_S, 0

    async with load.session(CONNECTIONS) as client:

        async def worker() -> None:
            nonlocal count
            while time.monotonic() < ends_at:
                async with client.post(url, data=BODY, headers={"Content-Type": "application/xml"}) as answer:
                    await answer.read()
                count += 1

        await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    return count / SLICE_S


def own_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def path_rate(desk: Desk, urls: list[str], count: int) -> tuple[float, float]:
    """Deliveries per second from the outbox's commit to the attempt's, and CPU seconds for each."""
    before = desk.ended()
    cpu_s, started = own_cpu_s(), time.monotonic()
    lists = iter([urls[number % len(urls)] for number in range(start, start + LIST)] for start in range(0, count, LIST))
    put = 0

    async def produce() -> None:
        nonlocal put
        for some in lists:
            put += LIST
            while put - (desk.ended() - before) > AHEAD:
                await asyncio.sleep(0.005)
            await desk.put(some)

    await asyncio.gather(*(produce() for _ in range(PRODUCERS)))
    await desk.wait_recorded(before + count)
    return count / (time.monotonic() - started), (own_cpu_s() - cpu_s) / count


async def whole_path(count: int) -> list[Row]:
    """ABAB: wrk, bare aiohttp and the path in each round; then a backlog of failures is drained."""
    has_wrk = shutil.which("wrk") is not None
    rates, cpus, to_wrk, to_bare, cpu_to_wrk = [], [], [], [], []
    with tempfile.TemporaryDirectory() as name, receiving() as receiver:
        folder = Path(name)
        urls = [f"{receiver.url}/{number}" for number in range(TARGETS)]
        async with desk_in(folder) as desk:
            await path_rate(desk, urls, count // 5)
            for _ in range(ROUNDS):
                bare = await bare_rate(urls[0])
                rate, cpu_s = await path_rate(desk, urls, count)
                rates.append(rate)
                cpus.append(cpu_s * 1e6)
                to_bare.append(rate / bare)
                if has_wrk:
                    wrk, wrk_cpu_s = await asyncio.to_thread(wrk_rate, urls[0], folder)
                    to_wrk.append(rate / wrk)
                    cpu_to_wrk.append(cpu_s / wrk_cpu_s)
            backlog = await backlog_rate(desk, receiver, BACKLOG)
        disk = load.fdatasync_rate(folder)
    rate = median(rates)
    rows = [Row("deliveries, outbox > claim > sign > POST > attempt row, one process", rate, "/s",
                note=f"fdatasync {disk:,.0f}/s; {', '.join(f'{one:,.0f}' for one in rates)}")]  # fmt: skip
    if has_wrk:
        rows.append(Row("the same ÷ wrk, same body and receiver", median(to_wrk), "", least=0.07))
        rows.append(Row("their CPU per POST ÷ wrk's", median(cpu_to_wrk)))
    else:
        rows.append(Row("the same ÷ wrk, same body and receiver", 0.0, note=f"skipped: {NO_WRK}"))
    return [
        *rows,
        Row("the same ÷ bare aiohttp", median(to_bare), "", least=0.5),
        Row("CPU per delivery", median(cpus), "µs"),
        Row(f"{BACKLOG:,} failed ones drained after `resume` ÷ the path's rate", backlog / rate, "", least=0.8),
    ]


async def backlog_rate(desk: Desk, receiver: Receiver, count: int) -> float:
    """Deliveries per second of a backlog from the moment all targets are told to go on."""
    urls = [f"{receiver.url}/fail/{number}" for number in range(TARGETS)]
    before = desk.ended()
    await desk.put_many(urls, count)
    while desk.ended("http_5xx") < 5 * TARGETS or desk.in_flight:  # until all breakers are open
        await asyncio.sleep(0.05)
    await asyncio.sleep(0.2)  # the last failures are recorded: one that is later than `resume` would wait its 5 s
    await asyncio.to_thread(receiver.get, "heal")
    started = time.monotonic()
    for url in urls:
        await desk.service.resume_target(url)
    await desk.wait_recorded(before + count)
    return count / (time.monotonic() - started)


# --- limits --------------------------------------------------------------------------------------------------------


async def rates(waiting: int, watched_s: float) -> list[Row]:
    """Targets with limits of 1, 10 and 100 a second, and many waiting for each."""
    found = []
    with tempfile.TemporaryDirectory() as name, receiving(keeps=True) as receiver:
        async with desk_in(Path(name)) as desk:
            limits = {f"/{rate}": rate for rate in (1, 10, 100)}
            for path, rate in limits.items():
                await desk.service.limit_target(receiver.url + path, rate)
            await desk.put_many([receiver.url + path for path in limits], 3 * waiting)
            await asyncio.to_thread(receiver.get, "clear")
            await asyncio.sleep(watched_s)
            arrivals = by_path(receiver)
    for path, rate in limits.items():
        times = [at for _, at in arrivals[path]]
        mean = (len(times) - 1) / (times[-1] - times[0])
        note = f"mean {mean:.3g}/s, {waiting:,} waiting, {watched_s:g} s"
        found.append(Row(f"limit of {rate}/s: busiest second", busiest_second(times), "", most=rate + 1, note=note))
        found.append(Row(f"limit of {rate}/s: mean ÷ limit", mean / rate, "", least=0.9))
    return found


def busiest_second(times: list[float]) -> int:
    most, first = 0, 0
    for last, at in enumerate(times):
        while times[first] <= at - 1:
            first += 1
        most = max(most, last - first + 1)
    return most


def by_path(receiver: Receiver) -> dict[str, list[tuple[str, float]]]:
    found: defaultdict[str, list[tuple[str, float]]] = defaultdict(list)
    for path, key, at in receiver.arrivals():
        found[path].append((key, at))
    return found


# --- dead receivers ------------------------------------------------------------------------------------------------


async def beside(holes: int, each: int, watched_s: float, total_s: float) -> tuple[list[float], list[float], float]:
    """A good receiver's waits in ms, alone and beside so many that never answer; a new one's first wait in s."""
    with tempfile.TemporaryDirectory() as name, receiving(keeps=True) as receiver:
        good = [f"{receiver.url}/good/{what}" for what in ("warm", "alone", "beside", "new")]
        async with desk_in(Path(name), total_s=total_s) as desk:
            await good_traffic(desk, good[0], 2.0)
            await desk.put(good[1:3])
            await asyncio.sleep(0.5)  # from here on both are known as receivers that answer
            await good_traffic(desk, good[1], watched_s)
            await desk.put_many([f"{receiver.url}/hole/{number}" for number in range(holes)], holes * each)
            await asyncio.sleep(1)
            await desk.put(good[3:])
            await good_traffic(desk, good[2], watched_s)
            ends_at = time.monotonic() + 3 * total_s
            while not (arrivals := by_path(receiver)).get("/good/new") and time.monotonic() < ends_at:
                await asyncio.sleep(0.2)

        def waits(what: str) -> list[float]:
            return [(at - desk.put_at[key]) * 1000 for key, at in arrivals[f"/good/{what}"]]

        return waits("alone")[1:], waits("beside")[1:], (waits("new") or [float("inf")])[0] / 1000


async def rounds(holes: int, each: int, watched_s: float, total_s: float) -> tuple[list[float], list[float], float]:
    """Several times one after the other, for what else this machine does."""
    alone: list[float] = []
    others: list[float] = []
    first_s = 0.0
    for _ in range(ROUNDS):
        one, other, first = await beside(holes, each, watched_s / ROUNDS, total_s)
        alone, others, first_s = alone + one, others + other, max(first_s, first)
    return alone, others, first_s


async def good_traffic(desk: Desk, url: str, seconds: float) -> None:
    """Deliveries to a receiver that is well, one after another at a steady rate."""
    started = time.monotonic()
    for number in range(int(seconds * GOOD_PER_S)):
        await asyncio.sleep(max(0.0, started + number / GOOD_PER_S - time.monotonic()))
        await desk.put([url])
    await asyncio.sleep(0.5)


async def black_holes(watched_s: float) -> list[Row]:
    alone, with_holes, _ = await rounds(100, 10, watched_s, 15.0)
    return fairness("100 black holes", alone, with_holes, most=2)


async def silent(watched_s: float) -> list[Row]:
    alone, with_silent, first_s = await rounds(1_000, 3, watched_s, SILENT_TOTAL_S)
    note = f"the total time limit is {SILENT_TOTAL_S:g} s here"
    return [
        *fairness("1,000 silent receivers", alone, with_silent),
        Row("1,000 silent receivers: first callback of a new one", first_s, "s", most=2 * SILENT_TOTAL_S, note=note),
    ]


def fairness(what: str, alone: list[float], beside: list[float], *, most: float | None = None) -> list[Row]:
    """Bar C4, where a p99 below a millisecond is taken as one: less is the noise of the machine."""
    one, other = (load.quantile(values, 0.99) for values in (alone, beside))
    note = f"{one:.1f} ms > {other:.1f} ms; {len(beside)} deliveries, {GOOD_PER_S}/s"
    late = sum(wait > 1000 for wait in beside)
    return [
        Row(f"{what}: a good receiver's p99 ÷ alone", other / max(one, 1.0), "", most=most, note=note),
        Row(f"{what}: its callbacks late by more than 1 s", late, "", most=0),
    ]


# --- waiting retries -----------------------------------------------------------------------------------------------


def waiting_retries(count: int, watched_s: float) -> list[Row]:
    """The CPU of a server that has nothing to do but to know when the next one is due."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Server(data=folder, workers=0, log_level="warning"):
            pass  # makes the database
        fill_retries(folder / "cloudfinite.db", count)
        with Server(data=folder, workers=0, log_level="warning") as server:
            assert server.process is not None
            time.sleep(15)  # all leases of the start have ended
            before = load.cpu_s(server.process.pid)
            time.sleep(watched_s)  # the time that the CPU is counted over
            spent = load.cpu_s(server.process.pid) - before
            rss = load.rss_bytes(server.process.pid)
    note = f"over {watched_s:g} s; RSS {rss / 1e6:.0f} MB"
    return [Row(f"{count:,} waiting retries: CPU of the idle server", spent / watched_s * 100, "%", most=2, note=note)]


def fill_retries(path: Path, count: int) -> None:
    """Deliveries that failed once, to a thousand targets, due from an hour on over a day."""
    now_us = time.time_ns() // 1000
    hour_us = 3_600_000_000
    with closing(sqlite3.connect(path)) as database:
        database.executemany(
            "INSERT INTO delivery (id, job_id, bucket, url, event, content_type, request_id, state, attempts, "
            "sequence, created_us, next_us) "
            "VALUES (?, 'j', 'b-1', ?, 'TaskFinish', 'application/xml', '', 'waiting', 1, ?, ?, ?)",
            (
                (f"d{number}", f"http://127.0.0.1:9/{number % 1000}", number // 1000 + 1, now_us,
                 now_us + hour_us + number * 23 * hour_us // count)
                for number in range(count)
            ),
        )  # fmt: skip
        database.executemany(
            "INSERT INTO delivery_body (delivery_id, body) VALUES (?, ?)",
            ((f"d{number}", BODY) for number in range(count)),
        )
        database.execute(
            "INSERT INTO target (url, next_sequence, failures_in_row, wake_us) "
            "SELECT url, max(sequence) + 1, 1, min(next_us) FROM delivery GROUP BY url"
        )
        database.commit()


# --- all -----------------------------------------------------------------------------------------------------------


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def parts(*, is_long: bool) -> dict[str, Callable[[], list[Row]]]:
    return {
        "path": lambda: uvloop.run(whole_path(30_000 if is_long else 15_000)),
        "rates": lambda: uvloop.run(rates(10_000 if is_long else 2_000, 30 if is_long else 10)),
        "holes": lambda: uvloop.run(black_holes(30 if is_long else 12)),
        "silent": lambda: uvloop.run(silent(30 if is_long else 12)),
        "waiting": lambda: waiting_retries(100_000, 30 if is_long else 15),
    }


def measure(*, is_long: bool = False, only: str = "") -> list[Row]:
    # Attempts that fail are meant to; the rest is as `serve` has it.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40), cache_logger_on_first_use=True)
    return [row for name, part in parts(is_long=is_long).items() if only in ("", name) for row in part()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", choices=["", *parts(is_long=False)])
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    rows = measure(is_long=arguments.long, only=arguments.only)
    show(rows, Path("bench-out/deliver.json"), "python -m bench.deliver")


if __name__ == "__main__":
    main()
