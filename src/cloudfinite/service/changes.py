"""What changed, told to whoever is looking: one feed per process, from job ids to open console pages.

A feed carries no state: who hears of a change reads the store. So changes may be merged, and a slow reader loses
nothing but the order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from cloudfinite.errors import SlowDown

MAX_SUBSCRIBERS = 64  # Open pages of one process; each holds a connection.
MAX_PENDING = 100  # Ids kept for one reader; beyond that it hears "look at everything".

EVERYTHING: frozenset[str] = frozenset()


class Subscription:
    """One reader's changes since it last asked."""

    def __init__(self) -> None:
        self._pending: set[str] = set()
        self._is_everything = False
        self._is_closed = False
        self._woken = asyncio.Event()

    def add(self, job_id: str) -> None:
        if not self._is_everything:
            self._pending.add(job_id)
            if len(self._pending) > MAX_PENDING:
                self._is_everything = True
                self._pending.clear()
        self._woken.set()

    def close(self) -> None:
        self._is_closed = True
        self._woken.set()

    async def take(self) -> frozenset[str] | None:
        """Wait for changes: ids of jobs, EVERYTHING when there were too many, None when the feed has closed."""
        await self._woken.wait()
        if self._is_closed:
            return None
        self._woken.clear()
        changed = EVERYTHING if self._is_everything else frozenset(self._pending)
        self._pending.clear()
        self._is_everything = False
        return changed


class ChangeFeed:
    """Where the services say that a job, or a delivery of it, has changed. Used on the event loop only."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()
        self._is_closed = False

    def publish(self, job_id: str) -> None:
        """Tell all readers. Costs next to nothing while nobody looks."""
        for subscription in self._subscriptions:
            subscription.add(job_id)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Changes from now on. Raises SlowDown when too many pages are open."""
        if len(self._subscriptions) >= MAX_SUBSCRIBERS:
            raise SlowDown(f"{MAX_SUBSCRIBERS} pages are being kept up to date already; close one")
        subscription = Subscription()
        if self._is_closed:
            subscription.close()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def close(self) -> None:
        """End all subscriptions, so that a stopping server need not wait for open pages. Twice is harmless."""
        self._is_closed = True
        for subscription in self._subscriptions:
            subscription.close()
