"""Removes what is kept no longer: ended jobs, deliveries with their attempts, events, counters; in small batches."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog

from cloudfinite.ports import Store, Transaction
from cloudfinite.service.loops import Loop

log = structlog.get_logger()

_BATCH = 500  # rows per transaction, so that no submit waits long behind one
_PAUSE_S = 60.0


class Housekeeping:
    """Runs in every process; a lock in the database lets one of them work at a time."""

    def __init__(self, store: Store, keep: timedelta) -> None:
        self._store = store
        self._keep = keep
        self.loop = Loop("housekeeping", self.purge, self._pause)

    async def purge(self) -> None:
        """Remove all that is older than is kept."""
        total = 0
        while removed := await self._store.run(purge_batch, self._keep):
            total += removed
            await asyncio.sleep(0)
        if total:
            log.info("housekeeping.purged", rows=total)

    async def _pause(self) -> None:
        await asyncio.sleep(_PAUSE_S)


def purge_batch(tx: Transaction, keep: timedelta) -> int:
    """One batch; 0 when nothing is left, or another process is at it."""
    if not tx.try_lock("housekeeping"):
        return 0
    before = tx.now - keep
    removed = sum(rows.purge(before, _BATCH) for rows in (tx.deliveries, tx.jobs, tx.executions, tx.batches, tx.events))
    if not removed:
        tx.stats.purge(before)
    return removed
