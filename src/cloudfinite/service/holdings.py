"""The targets that one deliverer holds: who may send now, who wants more from the store, who is to be let go."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from cloudfinite.service.targets import HeldTarget

_ROUNDS_LEFT = 2  # of attempts at once, when more is asked for: a target sends on while the store answers


class Holdings:
    """Held targets by their URL. `wake` is called when the deliverer has something to do that it did not know of.

    Nothing later than `horizon_s` is kept in timers: an idle target is released, and the store tells when it is due.
    """

    def __init__(
        self,
        concurrency: int,
        horizon_s: float,
        *,
        monotonic: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._concurrency = concurrency
        self._horizon_s = horizon_s
        self._monotonic = monotonic
        self._wake = wake
        self._held: dict[str, HeldTarget] = {}
        self._trusted: dict[str, None] = {}  # rings of URLs that may send: those that answered lately, the others
        self._others: dict[str, None] = {}
        self._hungry: set[str] = set()
        self._leaving: set[str] = set()
        self._timers: list[tuple[float, str]] = []
        self.unsent: set[str] = set()
        """Deliveries that were in memory and are not to be sent now; the store does not know it yet."""

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[HeldTarget]:
        return iter(list(self._held.values()))

    def get(self, url: str) -> HeldTarget | None:
        return self._held.get(url)

    def add(self, held: HeldTarget) -> None:
        self._held[held.url] = held

    @property
    def is_restless(self) -> bool:
        """Whether a look at the store is wanted now."""
        return bool(self._hungry or self._leaving)

    @property
    def next_timer_at(self) -> float | None:
        return self._timers[0][0] if self._timers else None

    def arrange(self, held: HeldTarget) -> None:
        """Put a target where it belongs after something changed: a ring, the timers, the hungry or the leaving."""
        now = self._monotonic()
        if held.is_closed(now):
            # The store wakes us, or somebody else, when something may be sent again.
            self._put_back(held)
            self._set_aside(held.url)
            if held.is_idle:
                self._leaving.add(held.url)
                self._wake()
            return
        wait = held.wait_s(now) if held.ready else None
        if wait == 0:
            ring = self._trusted if held.is_trusted else self._others
            ring[held.url] = None
        elif wait:
            self._arm(now + wait, held)
        if held.more_at is None or len(held.ready) >= _ROUNDS_LEFT * self._concurrency:
            return
        if held.more_at <= now:
            self._hungry.add(held.url)
            self._wake()
        elif held.more_at < now + self._horizon_s:
            self._arm(held.more_at, held)

    def next_trusted(self) -> HeldTarget | None:
        """The next that may send, of those that answered lately; it goes to the end when it is arranged again."""
        return self._next(self._trusted)

    def next_other(self) -> HeldTarget | None:
        return self._next(self._others)

    def _next(self, ring: dict[str, None]) -> HeldTarget | None:
        while ring:
            url = next(iter(ring))
            del ring[url]
            held = self._held.get(url)
            if held is None or not held.ready:
                continue
            if held.wait_s(self._monotonic()) == 0:
                return held
            self.arrange(held)
        return None

    def fire_timers(self) -> None:
        now = self._monotonic()
        while self._timers and self._timers[0][0] <= now:
            _, url = heapq.heappop(self._timers)
            if held := self._held.get(url):
                held.armed_at = None
                self.arrange(held)

    def _arm(self, at: float, held: HeldTarget) -> None:
        if held.armed_at is not None and held.armed_at <= at:
            return
        held.armed_at = at
        if not self._timers or at < self._timers[0][0]:
            self._wake()
        heapq.heappush(self._timers, (at, held.url))

    # --- hunger, leave ----------------------------------------------------------------------------------------------

    def take_hungry(self) -> list[HeldTarget]:
        """Those that want more from the store, once; whatever is noted from now on is news."""
        found = [held for held in map(self._held.get, self._hungry) if held is not None]
        self._hungry.clear()
        for held in found:
            held.more_at = None
        return found

    def starve(self, urls: set[str]) -> None:
        """Note again what `take_hungry` gave: the store could not be asked."""
        self._hungry |= urls

    def retire(self, held: HeldTarget) -> None:
        """Have a target released soon, unless something happens to it meanwhile."""
        self._leaving.add(held.url)

    def make_room(self) -> None:
        """Give up targets that have no attempt under way: the store hands them out by how long they have waited."""
        for url, held in self._held.items():
            if not held.in_flight:
                self._put_back(held)
                self._leaving.add(url)

    def put_all_back(self) -> None:
        for held in self._held.values():
            self._put_back(held)

    def _put_back(self, held: HeldTarget) -> None:
        self.unsent.update(held.ready)
        held.ready.clear()

    def let_go(self) -> set[str]:
        """Forget those that are to leave, and idle still; returns their URLs, which are to be released."""
        gone = {url for url in self._leaving if (held := self._held.get(url)) is not None and held.is_idle}
        self._leaving.clear()
        for url in gone:
            del self._held[url]
            self._set_aside(url)
        return gone

    def _set_aside(self, url: str) -> None:
        self._trusted.pop(url, None)
        self._others.pop(url, None)
        self._hungry.discard(url)
