"""Wake-ups between the parts of one process.

A wake-up only saves waiting: whoever misses one finds the work at the next slow poll.
"""

from __future__ import annotations

from collections.abc import Callable

from cloudfinite.ports import Topic


class LocalWakeups:
    """`ports.Wakeups` inside one process."""

    def __init__(self) -> None:
        self._listeners: dict[Topic, list[Callable[[], None]]] = {}

    def listen(self, topic: Topic, wake: Callable[[], None]) -> None:
        self._listeners.setdefault(topic, []).append(wake)

    def send(self, topic: Topic) -> None:
        for wake in self._listeners.get(topic, ()):
            wake()

    def tell_others(self, topic: Topic) -> None:
        """There are none."""

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""
