"""Background loops: a turn that fails is logged and tried again; five failures in a row are told to `/-/ready`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

log = structlog.get_logger()

UNHEALTHY_AFTER = 5  # failed turns in a row
_RETRY_S = 0.2
_RETRY_LIMIT_S = 2.0  # so that work goes on soon after the database is back


class Loop:
    """Runs `turn`, then `pause`, until stopped."""

    def __init__(self, name: str, turn: Callable[[], Awaitable[None]], pause: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self.failures_in_row = 0
        self._turn = turn
        self._pause = pause
        self._task: asyncio.Task[None] | None = None

    @property
    def is_healthy(self) -> bool:
        return self.failures_in_row < UNHEALTHY_AFTER

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(), name=self.name)

    async def stop(self) -> None:
        """Return when the loop has ended; a turn under way is cancelled."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except Exception as exc:
                self.failures_in_row += 1
                log.error("loop.turn_failed", loop=self.name, in_row=self.failures_in_row, error=repr(exc))
                await asyncio.sleep(min(_RETRY_S * 2 ** (self.failures_in_row - 1), _RETRY_LIMIT_S))
            else:
                self.failures_in_row = 0
                await self._pause()
