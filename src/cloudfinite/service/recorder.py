"""Commits ended attempts in batches, again and again while the store cannot take them: no POST is ever forgotten."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta

import structlog

from cloudfinite.domain.delivery import AttemptResult, DeliveryState
from cloudfinite.errors import CloudfiniteError
from cloudfinite.ports import Clock, Store
from cloudfinite.service.batching import Batcher
from cloudfinite.service.outbox import record
from cloudfinite.service.targets import HeldTarget

log = structlog.get_logger()

_RETRY_S = 1.0


class Recorder:
    """`on_recorded` is told the targets whose attempts are in the store now."""

    def __init__(
        self,
        store: Store,
        on_recorded: Callable[[Iterable[HeldTarget]], None],
        *,
        clock: Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._store = store
        self._on_recorded = on_recorded
        self._clock = clock
        self._monotonic = monotonic
        self._since: float | None = None
        self._batches: Batcher[tuple[HeldTarget, AttemptResult]] = Batcher(self._record)

    @property
    def busy_s(self) -> float:
        """For how long the store has had attempts in hand without taking them."""
        return 0.0 if self._since is None else self._monotonic() - self._since

    def add(self, held: HeldTarget, result: AttemptResult) -> None:
        held.unrecorded.add(result.attempt.delivery_id)
        self._batches.add((held, result))

    async def drain(self, limit: timedelta) -> None:
        """Return when all is recorded, or the limit is reached."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._batches.drain(), limit.total_seconds())

    async def _record(self, ended: Sequence[tuple[HeldTarget, AttemptResult]]) -> None:
        """Commit attempts. While the store cannot take them they wait here, and their targets with them."""
        targets = {held.url: held for held, _ in ended}
        self._since = self._monotonic()
        news = [held for held in targets.values() if held.has_news(self._since)]
        lost = await self._commit([result for _, result in ended], news)
        self._since = None
        now = self._monotonic()
        for held, result in ended:
            held.unrecorded.discard(result.attempt.delivery_id)
            held.version += 1
            if result.state is DeliveryState.WAITING:
                held.more_in(result.wait.total_seconds(), now)
        for url in lost:
            targets[url].is_ending = True
            log.warning("target.lease_lost", url=url)
        self._on_recorded(targets.values())

    async def _commit(self, results: Sequence[AttemptResult], targets: Sequence[HeldTarget]) -> set[str]:
        while True:
            now, wall = self._monotonic(), self._clock()
            leases = [held.lease_as_of(now, wall) for held in targets]
            try:
                return await self._store.run(record, results, leases, wall)
            except CloudfiniteError as exc:
                log.warning("deliver.record_failed", attempts=len(results), reason=exc.message)
                await asyncio.sleep(_RETRY_S)
