"""A receiver in a thread of its own that keeps each POST with its times, and answers when and as the test says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.fault_server import Peer, fault_server
from tests.support.waiting import until

_CLOSE_WAIT = "08"  # in /proc/net/tcp


@dataclass(slots=True)
class Post:
    """One POST as it arrived. Times are the monotonic clock's; `answered` is None while it waits for its answer."""

    path: str
    headers: dict[str, str]
    body: bytes
    arrived: float
    answered: float | None = None

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def attempt(self) -> int:
        return int(self.headers["cloudfinite-attempt"])

    @property
    def sequence(self) -> int:
        return int(self.headers["cloudfinite-sequence"])


class Gate:
    """What a held POST waits at."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, is_open: bool = False) -> None:
        self._loop = loop
        self._event = asyncio.Event()
        if is_open:
            self._event.set()

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._event.set)

    async def passed(self) -> None:
        await self._event.wait()


@dataclass
class PostKeeper:
    """`status` gives a POST's answer, after `delay_s` of it; it runs in the receiver's thread."""

    loop: asyncio.AbstractEventLoop
    url: str = ""
    posts: list[Post] = field(default_factory=list)
    status: Callable[[Post], int] = lambda _: 200
    delay_s: Callable[[Post], float] = lambda _: 0.0

    def __post_init__(self) -> None:
        self._gate = Gate(self.loop, is_open=True)

    def hold(self) -> Gate:
        """POSTs from now on wait at a gate."""
        self._gate = Gate(self.loop)
        return self._gate

    def flow(self) -> None:
        """POSTs from now on are answered at once; those at a gate stay there."""
        self._gate = Gate(self.loop, is_open=True)

    async def behave(self, peer: Peer) -> None:
        post = Post(peer.path, peer.headers, peer.body, time.monotonic())
        gate = self._gate
        self.posts.append(post)
        await gate.passed()
        if delay := self.delay_s(post):
            await asyncio.sleep(delay)
        # Before it is sent: what the sender does next is after it.
        post.answered = time.monotonic()
        await peer.answer(self.status(post))

    # --- for the test's thread --------------------------------------------------------------------------------------

    def wait_for(self, count: int, wait_s: float = 30.0) -> list[Post]:
        until(lambda: len(self.posts) >= count, f"{count} POSTs", wait_s=wait_s)
        return list(self.posts)

    def wait_for_ids(self, ids: set[str], wait_s: float = 60.0) -> None:
        """Until each of these deliveries arrived once."""
        until(lambda: ids <= {post.id for post in list(self.posts)}, "each delivery", wait_s=wait_s)

    def wait_for_the_killed(self) -> None:
        """Until all that senders wrote before they were killed is among `posts`."""
        port = f":{urlsplit(self.url).port:04X}"

        def left() -> list[str]:
            """Connections that the other side closed, and whose bytes and end were not read to the end."""
            lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
            return [line[2] for line in lines if line[1].endswith(port) and line[3] == _CLOSE_WAIT]

        until(lambda: not left(), "the receiver to read what was sent", poll_s=0.005)

    def by_id(self) -> dict[str, list[Post]]:
        found: defaultdict[str, list[Post]] = defaultdict(list)
        for post in list(self.posts):
            found[post.id].append(post)
        return dict(found)

    def check_repeats(self) -> None:
        """Whatever was sent again had the same place in the sequence and the same bytes."""
        for posts in self.by_id().values():
            assert len({(post.path, post.sequence, post.body, post.headers["content-type"]) for post in posts}) == 1

    def check_sequences(self) -> None:
        """Each path's numbers are 1, 2, 3 … without a gap, one per delivery."""
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for posts in self.by_id().values():
            numbers[posts[0].path].append(posts[0].sequence)
        for path, found in numbers.items():
            assert sorted(found) == list(range(1, len(found) + 1)), path

    def overlaps(self) -> list[str]:
        """The deliveries of which two POSTs were under way at once."""
        found = []
        for key, posts in self.by_id().items():
            for earlier, later in pairwise(posts):
                if earlier.answered is None or later.arrived < earlier.answered:
                    found.append(key)
        return found


@contextmanager
def keeping_posts(port: int = 0) -> Iterator[PostKeeper]:
    loop = asyncio.new_event_loop()
    keeper = PostKeeper(loop)
    ready, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with fault_server(keeper.behave, port=port, backlog=500) as server:
            keeper.url = server.url
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="receiver")
    thread.start()
    assert ready.wait(10)
    try:
        yield keeper
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
        loop.close()
