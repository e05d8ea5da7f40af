"""Deliveries that cannot go out: nobody delivers, the store is locked, the receiver is dead; and what operators do."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks.webhooks import Webhook
from tests.crash.test_outages import readiness, submits
from tests.support.api_caller import ApiCaller
from tests.support.outbox import CONCURRENCY, QUICK, Outbox, all_delivered, deliverer
from tests.support.posts import PostKeeper, keeping_posts
from tests.support.storm import all_ended, settings_of_storm
from tests.support.waiting import until
from tests.support.wire_client import WireClient

from cloudfinite.testing import Server

pytestmark = pytest.mark.crash

RED_S = 5.0  # from when nothing is sent any more until readiness says so
BACK_S = 5.0


def until_red(server: Server, since: float) -> None:
    """Readiness is 503 because deliveries stall, and was so in time."""
    until(lambda: readiness(server) == 503, "readiness is red", wait_s=RED_S + 5)
    spent_s = time.monotonic() - since
    assert ApiCaller(server).get("/server")["problems"] == ["due callbacks are not being sent"]
    assert spent_s <= RED_S


# --- readiness tells of a stall ------------------------------------------------------------------------------------


def test_readiness_is_red_while_no_process_delivers_and_green_when_one_does(
    tmp_path: Path, database: str, keeper: PostKeeper
) -> None:
    outbox = Outbox(tmp_path, database)
    with deliverer(outbox, role="api") as front:
        assert readiness(front) == 200
        ids = outbox.put([f"{keeper.url}/cb"], 3)
        until_red(front, time.monotonic())
        with deliverer(outbox):
            all_delivered(outbox, ids)
            until(lambda: readiness(front) == 200, "readiness is green", wait_s=BACK_S)


def test_readiness_is_red_when_the_deliverer_froze_and_its_lease_has_ended(
    tmp_path: Path, database: str, keeper: PostKeeper
) -> None:
    outbox = Outbox(tmp_path, database)
    gate = keeper.hold()
    with deliverer(outbox, role="api") as front, deliverer(outbox) as frozen:
        ids = outbox.put([f"{keeper.url}/cb"], 12)
        keeper.wait_for(CONCURRENCY)
        assert readiness(front) == 200  # slow is no stall
        assert frozen.process is not None
        os.kill(frozen.process.pid, signal.SIGSTOP)
        try:
            until_red(front, time.monotonic() + float(QUICK["lease_s"]))
        finally:
            os.kill(frozen.process.pid, signal.SIGCONT)
        keeper.flow()
        gate.open()
        all_delivered(outbox, ids)
        until(lambda: readiness(front) == 200, "readiness is green", wait_s=BACK_S)


def test_a_locked_store_turns_readiness_red_and_loses_nothing(tmp_path: Path, keeper: PostKeeper) -> None:
    accepted: list[str] = []
    with Server(data=tmp_path, **settings_of_storm(workers=1)) as server, ThreadPoolExecutor(1) as threads:
        client = WireClient(server, timeout_s=40)
        client.put("a")
        job = {"tag": "Brief", "callback": f"{keeper.url}/cb"}
        for _ in range(5):
            assert submits(client, accepted, **job) == 200
        with closing(sqlite3.connect(tmp_path / "cloudfinite.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            late = threads.submit(submits, client, accepted, **job)
            until(lambda: readiness(server) == 503, "readiness is red", wait_s=RED_S)
            assert not late.done()  # never 200 and not stored
        assert late.result() == 200
        until(lambda: readiness(server) == 200, "readiness is green", wait_s=BACK_S)
        until(lambda: len(keeper.by_id()) == len(accepted) == 6, "all told", wait_s=BACK_S)
    bodies = b"".join(post.body for post in keeper.posts)
    assert [job_id for job_id in accepted if job_id.encode() not in bodies] == []


# --- receivers -----------------------------------------------------------------------------------------------------


def test_a_receiver_dead_for_the_whole_run_gets_all_when_it_is_back(tmp_path: Path) -> None:
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        port = place.getsockname()[1]
    urls = [f"http://127.0.0.1:{port}/{number}" for number in range(3)]
    with Server(data=tmp_path, **settings_of_storm(workers=2, retry_schedule_s=[0, 0.2] + [0.5] * 30)) as server:
        client = WireClient(server)
        client.put("a")
        jobs = [client.submit("Brief", callback=urls[number % 3]) for number in range(60)]
        until(lambda: all_ended(client, "Brief"), "all jobs ended")
        outbox = Outbox(tmp_path)
        until(lambda: outbox.attempt_count() >= 5 * len(urls), "the breakers opened")
        server.kill()
        server.start()
        with keeping_posts(port) as keeper:
            for url in urls:
                ApiCaller(server).post("/target/resume", {"url": url})
            until(lambda: len(keeper.by_id()) == len(jobs), "a callback for each job")
            all_delivered(outbox, set(jobs))
            assert len(keeper.posts) == len(jobs)
            keeper.check_sequences()


def test_a_removed_target_cancels_what_waits_and_gets_nothing_more(
    tmp_path: Path, database: str, keeper: PostKeeper
) -> None:
    outbox, url = Outbox(tmp_path, database), f"{keeper.url}/cb"
    keeper.status = lambda _: 503
    with deliverer(outbox, role="api") as front, deliverer(outbox, retry_schedule_s=[0, 1, 1, 1, 1]):
        outbox.put([url], 20)
        keeper.wait_for(1)
        query = f"/target?url={url}"
        status, answer = ApiCaller(front).call("DELETE", query)
        assert (status, answer) == (200, {"count": 20})
        assert outbox.counts() == {"cancelled": 20}
        keeper.status = lambda _: 200
        other = outbox.put([f"{keeper.url}/other"], 1)
        keeper.wait_for_ids(other)
        until(lambda: outbox.attempt_count() == len(keeper.posts), "attempts under way ended")
        sent = len(keeper.posts)
        new = outbox.put([url], 1)
        keeper.wait_for_ids(new)
        assert outbox.rows(f"SELECT state FROM delivery WHERE id = '{min(new)}'") in ([("delivered",)], [("waiting",)])
    assert len(keeper.posts) == sent + 1


def test_a_secret_rotated_during_the_ladder_signs_the_next_try_beside_the_old_one(
    tmp_path: Path, keeper: PostKeeper
) -> None:
    outbox, url = Outbox(tmp_path), f"{keeper.url}/cb"
    with deliverer(outbox, retry_schedule_s=[0, 1.0, 1.0]) as server:
        api = ApiCaller(server)
        old = api.post("/target/secret", {"url": url})["secret"]
        keeper.status = lambda post: 200 if post.attempt > 1 else 500
        api.post("/target/test", {"url": url, "format": "JSON"})
        keeper.wait_for(1)
        new = api.post("/target/secret", {"url": url})["secret"]
        first, second = keeper.wait_for(2)
    Webhook(old).verify(first.body, first.headers)
    for secret in (old, new):
        Webhook(secret).verify(second.body, second.headers)


# --- many ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "count", [pytest.param(1_300, id="short"), pytest.param(13_000, id="full", marks=pytest.mark.full)]
)
def test_failures_of_one_moment_come_back_spread_over_the_jitter_window(
    tmp_path: Path, keeper: PostKeeper, count: int
) -> None:
    outbox = Outbox(tmp_path)
    outbox.put([f"{keeper.url}/{number}" for number in range(13)], count // 13)
    # The first of each target succeeds, and some later, so that no breaker opens and all have their turn at once.
    keeper.status = lambda post: 200 if post.sequence % 50 == 1 else 500
    base_us = 600_000_000
    with deliverer(outbox, retry_schedule_s=[0, base_us // 1_000_000, 1]):
        until(lambda: outbox.attempt_count() == count, "all tried once", wait_s=100, poll_s=0.2)
    rows = outbox.rows(
        "SELECT delivery.next_us - attempt.started_us - attempt.total_us FROM delivery JOIN attempt "
        "ON attempt.delivery_id = delivery.id WHERE delivery.state = 'waiting'"
    )
    waits = [wait for (wait,) in rows]
    assert len(waits) > 0.9 * count and min(waits) >= base_us
    window_s = 0.2 * base_us / 1e6
    busiest = max(Counter(wait // 1_000_000 for wait in waits).values())
    assert busiest <= 2 * len(waits) / window_s + 6  # six: the noise of short counts


def test_the_log_of_a_year_is_bounded_and_its_list_stays_paged(tmp_path: Path, keeper: PostKeeper) -> None:
    outbox = Outbox(tmp_path)
    with deliverer(outbox):  # makes the database
        pass
    days, each = 365, 20
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    day_us = int(timedelta(days=1).total_seconds() * 1e6)
    with closing(sqlite3.connect(tmp_path / "cloudfinite.db")) as database:
        for day in range(days):
            at = now_us - day * day_us
            rows = [(f"d{day}-{number}", at) for number in range(each)]
            database.executemany(
                "INSERT INTO delivery (id, job_id, bucket, url, event, content_type, request_id, state, created_us, "
                "next_us, ended_us) VALUES (?1, 'j', 'b-1', 'http://x/', 'TaskFinish', 'application/xml', '', "
                "'delivered', ?2, ?2, ?2)",
                rows,
            )
            database.executemany(
                "INSERT INTO delivery_body (delivery_id, body) VALUES (?1, x'00')", [(key,) for key, _ in rows]
            )
            database.executemany(
                "INSERT INTO attempt (delivery_id, number, started_us, outcome, status, dns_us, connect_us, total_us, "
                "response_head, response_body, message) VALUES (?1, 1, ?2, 'delivered', 200, 0, 0, 1, '', x'', '')",
                rows,
            )
        database.commit()
    with deliverer(outbox, keep_days=30) as server:
        until(lambda: outbox.counts() == {"delivered": 30 * each}, "what is older is gone", wait_s=60, poll_s=0.1)
        assert outbox.attempt_count() == 30 * each
        seen: list[str] = []
        after = ""
        while True:
            page = ApiCaller(server).get("/deliveries", size=100, after=after)
            assert len(page["items"]) <= 100
            seen += [one["id"] for one in page["items"]]
            if not (after := page["next"]):
                break
        assert len(seen) == len(set(seen)) == 30 * each
