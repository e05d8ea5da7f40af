"""Wake-ups between processes, through PostgreSQL's LISTEN and NOTIFY."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import psycopg
import structlog

from cloudfinite.adapters.postgres import CONNECT_ARGUMENTS
from cloudfinite.adapters.wakeups import LocalWakeups
from cloudfinite.ports import Topic

log = structlog.get_logger()

_CHANNEL = "cloudfinite"
_LEAST_GAP_S = 0.01  # one NOTIFY per process in this time: more would make the database's queue the bottleneck
_LAST_WORDS_S = 1.0  # how long a stop waits for the last NOTIFY
_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 2.0


class PostgresWakeups(LocalWakeups):
    """Also tells the other processes on the same database, over a connection of its own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._pending: set[Topic] = set()
        self._has_pending = asyncio.Event()
        self._is_told = asyncio.Event()
        self._is_told.set()
        self._own_pid = 0  # of the connection that tells
        self._tasks: list[asyncio.Task[None]] = []

    def send(self, topic: Topic) -> None:
        super().send(topic)
        self.tell_others(topic)

    def tell_others(self, topic: Topic) -> None:
        self._pending.add(topic)
        self._is_told.clear()
        self._has_pending.set()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        # Two connections: one inside `notifies()` cannot run statements.
        self._tasks = [
            loop.create_task(self._keep(self._hear), name="wakeups.hear"),
            loop.create_task(self._keep(self._tell), name="wakeups.tell"),
        ]

    async def close(self) -> None:
        # A drain has just given jobs back: the others are to hear of them.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._is_told.wait(), _LAST_WORDS_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, talk: Callable[[psycopg.AsyncConnection[tuple[object, ...]]], object]) -> None:
        """Talk over a connection for ever; a lost one is made anew."""
        retry_s = _FIRST_RETRY_S
        while True:
            try:
                connecting = psycopg.AsyncConnection.connect(self._url, autocommit=True, **CONNECT_ARGUMENTS)
                async with await connecting as connection:
                    retry_s = _FIRST_RETRY_S
                    await talk(connection)  # type: ignore[misc]  # both are coroutines
            except psycopg.Error as exc:
                log.warning("wakeups.connection_lost", reason=str(exc).strip(), retry_s=retry_s)
            await asyncio.sleep(retry_s)
            retry_s = min(2 * retry_s, _LAST_RETRY_S)

    async def _hear(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        await connection.execute(f"LISTEN {_CHANNEL}")
        for topic in Topic:
            super().send(topic)  # what was sent while nobody listened is lost: look once
        async for notification in connection.notifies():
            if notification.pid == self._own_pid:
                continue  # who listens here was woken by `send`
            with contextlib.suppress(ValueError):  # a topic of a newer version
                super().send(Topic(notification.payload))

    async def _tell(self, connection: psycopg.AsyncConnection[tuple[object, ...]]) -> None:
        self._own_pid = connection.info.backend_pid
        while True:
            await self._has_pending.wait()
            self._has_pending.clear()
            topics, self._pending = self._pending, set()
            try:
                for topic in topics:
                    await connection.execute("SELECT pg_notify(%s, %s)", (_CHANNEL, topic.value))
            except psycopg.Error:
                self._pending |= topics
                self._has_pending.set()
                raise
            if not self._pending:
                self._is_told.set()
            await asyncio.sleep(_LEAST_GAP_S)
