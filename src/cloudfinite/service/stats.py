"""Counts jobs per minute, bucket, queue and tag; added up in memory and written every few seconds.

A crash loses the counts of those seconds, never a job: they are for charts, and rows that all processes add to in the
transactions of jobs would make these wait for one another.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from cloudfinite.domain.job import Job, JobState
from cloudfinite.domain.stats import Counts, StatKey
from cloudfinite.errors import CloudfiniteError
from cloudfinite.ports import Store
from cloudfinite.service.loops import Loop

log = structlog.get_logger()

_FLUSH_S = 5.0


class Stats:
    """One per process."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: defaultdict[StatKey, Counts] = defaultdict(Counts)
        self.loop = Loop("stats.flush", self.flush, self._pause)

    def count_submitted(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self._counts[_key(job, job.created_at)] += Counts(submitted=1)

    def count_ended(self, jobs: Sequence[Job]) -> None:
        """Those of the jobs that have ended by running."""
        for job in jobs:
            if job.ended_at is None or job.started_at is None:
                continue
            self._counts[_key(job, job.ended_at)] += Counts(
                succeeded=int(job.state is JobState.SUCCESS),
                failed=int(job.state is JobState.FAILED),
                waited_ms=_ms(job.started_at - job.created_at),
                ran_ms=_ms(job.ended_at - job.started_at),
            )

    async def flush(self) -> None:
        if not self._counts:
            return
        counts, self._counts = self._counts, defaultdict(Counts)
        try:
            await self._store.run(lambda tx: tx.stats.add(counts))
        except CloudfiniteError:
            for key, count in counts.items():
                self._counts[key] += count  # written in a later turn
            raise

    async def select(self, start: datetime, end: datetime, bucket: str, limit: int) -> list[tuple[StatKey, Counts]]:
        """What is written of the minutes from `start` until before `end`, in order; "" is all buckets."""
        return await self._store.read(lambda tx: tx.stats.select(start, end, bucket, limit))

    async def close(self) -> None:
        await self.loop.stop()
        try:
            await self.flush()
        except CloudfiniteError as exc:
            log.warning("stats.lost", counters=len(self._counts), reason=exc.message)

    async def _pause(self) -> None:
        await asyncio.sleep(_FLUSH_S)


def _key(job: Job, at: datetime) -> StatKey:
    return StatKey(at.replace(second=0, microsecond=0), job.bucket, job.queue_id, job.tag)


def _ms(span: timedelta) -> int:
    return max(0, span // timedelta(milliseconds=1))
