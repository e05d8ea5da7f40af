"""Whether callbacks are being sent at all, seen from any process: what waits, for how long, and whether that stalls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import timedelta

from cloudfinite.ports import Clock, Store
from cloudfinite.service.delivery_metrics import BacklogMetrics
from cloudfinite.service.loops import Loop

_LOOK_S = 0.5
_COUNT_EVERY = 20  # looks between two counts of all that waits
STALL = timedelta(seconds=3)  # with the look and the readiness page it turns red within 5 s
_BLIND_S = 4.0  # without an answer of the store


class DeliveryWatch:
    """Runs in every role: where no process delivers, it is the others that have to tell.

    `owner` is this process's own deliverer, which tells of itself. Another one that has something to send and does not
    renew its `lease` counts as frozen after two renewals.
    """

    def __init__(
        self,
        store: Store,
        metrics: BacklogMetrics,
        clock: Clock,
        *,
        owner: str,
        lease: timedelta,
        renew: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._owner = owner
        self._lease = lease
        self._silence = min(max(2 * renew, STALL), lease)
        self._monotonic = monotonic
        self._late = timedelta(0)
        self._looks = 0
        self._looked_at = monotonic()
        self.loop = Loop("deliver.watch", self._look, self._pause)

    @property
    def is_stalled(self) -> bool:
        """Whether something due has been nobody's for too long, or nobody can tell."""
        return self._late > STALL or self._monotonic() - self._looked_at > _BLIND_S

    async def _look(self) -> None:
        is_count = self._looks % _COUNT_EVERY == 0
        self._looks += 1
        self._late = await self._store.read(
            lambda tx: tx.deliveries.late(self._owner, silence=self._silence, lease=self._lease)
        )
        self._looked_at = self._monotonic()
        self._metrics.late_s.set(self._late.total_seconds())
        if is_count:
            waiting, oldest_at = await self._store.read(lambda tx: tx.deliveries.backlog())
            self._metrics.waiting.set(waiting)
            self._metrics.oldest_s.set((self._clock() - oldest_at).total_seconds() if oldest_at else 0)

    async def _pause(self) -> None:
        await asyncio.sleep(_LOOK_S)
