"""Deliverers that are killed, frozen, drained and doubled: what the receiver and the attempts' rows say of it."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.outbox import CONCURRENCY, Outbox, all_delivered, attempts_made, deliverer
from tests.support.posts import PostKeeper
from tests.support.waiting import until

pytestmark = pytest.mark.crash

# --- kill -9 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_a_kill_between_answer_and_commit_repeats_once_with_the_same_id_and_bytes(
    request: pytest.FixtureRequest, tmp_path: Path, keeper: PostKeeper, kind: str
) -> None:
    outbox = Outbox(tmp_path, request.getfixturevalue("database") if kind == "postgres" else "")
    (key,) = outbox.put([f"{keeper.url}/cb"], 1)
    with deliverer(outbox) as server:
        keeper.wait_for(1)  # one that is well, so that only the crash below is special
        all_delivered(outbox, {key})
    (key,) = outbox.put([f"{keeper.url}/cb"], 1)
    dying = deliverer(outbox, start_wait_s=60)
    dying.command = ("-m", "tests.support.crashing", "INSERT INTO attempt", "0")
    with suppress(RuntimeError):  # it may be gone before it was asked whether it is ready
        dying.start()
    assert dying.process is not None and dying.process.wait(timeout=20) == -signal.SIGKILL
    assert [post.id for post in keeper.posts[1:]] == [key]
    assert outbox.counts() == {"delivered": 1, "waiting": 1}
    with deliverer(outbox) as server:
        first, second = keeper.wait_for(3)[1:]
        until(lambda: outbox.counts() == {"delivered": 2}, "the repeat is recorded")
        assert attempts_made(server) == 1
    assert [(post.id, post.body, post.sequence, post.attempt) for post in (first, second)] == [
        (key, first.body, 2, 1),
        (key, first.body, 2, 2),
    ]
    assert (outbox.attempts()[key], outbox.unknown()) == (1, {key: 1}) and len(keeper.posts) == 3


@pytest.mark.parametrize(
    ("kills", "each"),
    [
        pytest.param(3, 15, id="short"),
        pytest.param(20, 30, id="full", marks=[pytest.mark.full, pytest.mark.timeout(400)]),
    ],
)
def test_killed_deliverers_lose_nothing_and_repeat_only_what_was_under_way(
    tmp_path: Path, database: str, keeper: PostKeeper, kills: int, each: int
) -> None:
    outbox, dice = Outbox(tmp_path, database), random.Random(kills)
    urls = [f"{keeper.url}/{number}" for number in range(6)]
    keeper.delay_s = lambda _: 0.005
    servers = [deliverer(outbox), deliverer(outbox)]
    ids: set[str] = set()
    cut: Counter[str] = Counter()  # how many kills each delivery was under way in
    try:
        for server in servers:
            server.start()
        for turn in range(kills):
            before = len(keeper.by_id())
            ids |= outbox.put(urls, each)
            mark = before + dice.randrange(1, 5 * each)
            until(lambda mark=mark: len(keeper.by_id()) >= mark, "some of them", poll_s=0.005)  # type: ignore[misc]
            servers[turn % 2].kill()
            keeper.wait_for_the_killed()
            waiting = {key for (key,) in outbox.rows("SELECT id FROM delivery WHERE state = 'waiting'")}
            cut.update(waiting & {post.id for post in list(keeper.posts)})
            servers[turn % 2].start()
        keeper.wait_for_ids(ids)
        all_delivered(outbox, ids)
    finally:
        for server in servers:
            server.stop()
    keeper.check_repeats()
    keeper.check_sequences()
    rows, unknown = outbox.attempts(), Counter(outbox.unknown())
    for key, posts in keeper.by_id().items():
        # R6: each POST has its row; where a kill cut it off, one that says that it may have been sent.
        assert rows[key] <= len(posts) <= rows[key] + unknown[key], key
    repeats = len(keeper.posts) - len(ids)
    print(f"{len(ids)} deliveries, {kills} kills, {repeats} repeated, {sum(cut.values())} under way at a kill")
    assert repeats <= sum(cut.values())


# --- two at once ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "least", [pytest.param(600, id="short"), pytest.param(6_000, id="full", marks=pytest.mark.full)]
)
def test_two_deliverers_never_send_one_delivery_at_once_and_each_post_has_its_row(
    tmp_path: Path, database: str, keeper: PostKeeper, least: int
) -> None:
    outbox, dice = Outbox(tmp_path, database), random.Random(least)
    urls = [f"{keeper.url}/{number}" for number in range(13)]
    keeper.status = lambda _: 500 if dice.random() < 0.2 else 200
    keeper.delay_s = lambda _: dice.random() * 0.01
    ids: set[str] = set()
    with deliverer(outbox) as one, deliverer(outbox) as two:

        def both_worked() -> bool:
            # In pieces to random targets, which are let go of between them: so they change hands.
            for _ in range(10):
                ids.update(outbox.put(dice.sample(urls, 3), least // 60))
            return len(ids) >= least and min(attempts_made(one), attempts_made(two)) >= least // 20

        until(both_worked, "both deliver", wait_s=60)
        keeper.wait_for_ids(ids)
        all_delivered(outbox, ids)
        assert attempts_made(one) + attempts_made(two) == len(keeper.posts)
    assert keeper.overlaps() == []
    assert outbox.attempts() == {key: len(posts) for key, posts in keeper.by_id().items()}
    for posts in keeper.by_id().values():
        assert [post.attempt for post in posts] == list(range(1, len(posts) + 1))
    keeper.check_repeats()
    keeper.check_sequences()


def test_a_deliverer_frozen_past_its_lease_sends_nothing_more_when_it_wakes(
    tmp_path: Path, database: str, keeper: PostKeeper
) -> None:
    outbox, url = Outbox(tmp_path, database), f"{keeper.url}/cb"
    gate = keeper.hold()
    with deliverer(outbox) as frozen:
        ids = outbox.put([url], 12)
        held = {post.id for post in keeper.wait_for(CONCURRENCY)}
        keeper.flow()
        assert frozen.process is not None
        os.kill(frozen.process.pid, signal.SIGSTOP)
        try:
            with deliverer(outbox):
                all_delivered(outbox, ids)
                os.kill(frozen.process.pid, signal.SIGCONT)
                gate.open()
                # It records what it learnt of its own attempts, and nothing else.
                until(lambda: outbox.attempt_count() == 12 + CONCURRENCY, "the late answers are recorded")
                until(lambda: "target.lease_lost" in frozen.log(), "the woken deliverer is told")
                ids |= outbox.put([url], 12)
                all_delivered(outbox, ids)
        finally:
            os.kill(frozen.process.pid, signal.SIGCONT)
    counts = Counter(post.id for post in keeper.posts)
    assert {key for key, count in counts.items() if count == 2} == held and max(counts.values()) == 2
    assert outbox.attempts() == dict(counts)
    keeper.check_repeats()
    keeper.check_sequences()


# --- SIGTERM -------------------------------------------------------------------------------------------------------


def test_a_drain_lets_attempts_under_way_end_and_the_rest_goes_on_after_the_start(
    tmp_path: Path, keeper: PostKeeper
) -> None:
    outbox = Outbox(tmp_path)
    gate = keeper.hold()
    ids = outbox.put([f"{keeper.url}/cb"], 40)
    with deliverer(outbox) as server, ThreadPoolExecutor(1) as threads:
        keeper.wait_for(CONCURRENCY)
        exit_code = threads.submit(server.stop)
        until(lambda: "deliver.draining" in server.log(), "it starts no more attempts")
        gate.open()
        assert exit_code.result() == 0
    assert len(keeper.posts) == CONCURRENCY
    assert outbox.counts() == {"delivered": CONCURRENCY, "waiting": 40 - CONCURRENCY}
    with deliverer(outbox):
        all_delivered(outbox, ids)
    assert len(keeper.posts) == 40 == outbox.attempt_count()


def test_a_drain_ends_at_the_time_limit_of_silent_receivers_and_records_it(tmp_path: Path, keeper: PostKeeper) -> None:
    outbox = Outbox(tmp_path)
    keeper.hold()
    outbox.put([f"{keeper.url}/cb"], 10)
    with deliverer(outbox, callback_total_s=1) as server:
        posts = keeper.wait_for(CONCURRENCY)
        assert server.stop() == 0
    assert outbox.counts() == {"waiting": 10}
    outcomes = outbox.rows("SELECT outcome, total_us FROM attempt")
    assert len(outcomes) == len(keeper.posts) >= len(posts)
    assert {outcome for outcome, _ in outcomes} == {"timeout"} and max(took for _, took in outcomes) < 1_500_000
