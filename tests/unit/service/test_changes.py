"""The change feed: what a reader hears, and what it costs nobody."""

from __future__ import annotations

import asyncio

import pytest

from cloudfinite.errors import SlowDown
from cloudfinite.service.changes import EVERYTHING, MAX_PENDING, MAX_SUBSCRIBERS, ChangeFeed


async def test_changes_between_two_looks_are_merged() -> None:
    feed = ChangeFeed()
    with feed.subscribe() as changes:
        for job_id in ("a1", "a2", "a1"):
            feed.publish(job_id)
        assert await changes.take() == {"a1", "a2"}
        feed.publish("a3")
        assert await changes.take() == {"a3"}


async def test_reader_waits_until_something_changes() -> None:
    feed = ChangeFeed()
    with feed.subscribe() as changes:
        waiting = asyncio.create_task(changes.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        feed.publish("a1")
        assert await waiting == {"a1"}


async def test_slow_reader_is_told_to_look_at_everything() -> None:
    feed = ChangeFeed()
    with feed.subscribe() as changes:
        for number in range(MAX_PENDING * 3):
            feed.publish(f"a{number}")
        assert await changes.take() == EVERYTHING
        feed.publish("a1")
        assert await changes.take() == {"a1"}


async def test_closed_feed_ends_its_readers_and_those_that_come_late() -> None:
    feed = ChangeFeed()
    with feed.subscribe() as changes:
        feed.publish("a1")
        feed.close()
        assert await changes.take() is None
    with feed.subscribe() as late:
        assert await late.take() is None


async def test_readers_are_bounded_and_make_room_when_they_leave() -> None:
    feed = ChangeFeed()
    readers = [feed.subscribe() for _ in range(MAX_SUBSCRIBERS)]
    for reader in readers:
        reader.__enter__()
    with pytest.raises(SlowDown), feed.subscribe():
        pass
    readers[0].__exit__(None, None, None)
    with feed.subscribe():
        pass
