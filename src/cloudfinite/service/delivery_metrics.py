"""What Prometheus shows of deliveries."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import INF, floatToGoString


class Durations(Collector):
    """A histogram of seconds that one thread fills: the library's takes two locks and a walk for each of them."""

    def __init__(self, name: str, words: str, bounds: Sequence[float], registry: CollectorRegistry) -> None:
        """bounds: upper ones, ascending; one without an end is added."""
        self._name = name
        self._words = words
        self._bounds = [*bounds, INF]
        self._counts = [0] * len(self._bounds)
        self._sum_s = 0.0
        registry.register(self)

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum_s += seconds

    def collect(self) -> Iterator[HistogramMetricFamily]:
        labels = map(floatToGoString, self._bounds)
        buckets = [*zip(labels, accumulate(self._counts), strict=True)]
        yield HistogramMetricFamily(self._name, self._words, buckets=buckets, sum_value=self._sum_s)


class DelivererMetrics:
    """Of the attempts of one process."""

    def __init__(self, registry: CollectorRegistry, in_flight: Callable[[], int]) -> None:
        attempts = Counter(
            "cloudfinite_delivery_attempts", "Attempts by class of their end", ["outcome"], registry=registry
        )
        self.attempts = cache(attempts.labels)  # by outcome
        self.attempt_s = Durations(
            "cloudfinite_delivery_attempt_seconds", "Duration of one attempt", Histogram.DEFAULT_BUCKETS[:-1], registry
        )
        self.latency_s = Durations(
            "cloudfinite_delivery_latency_seconds",
            "Time from the end of a job to its callback's receipt",
            (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 600, 7200, 86_400),
            registry,
        )
        Gauge("cloudfinite_deliveries_in_flight", "Attempts under way here", registry=registry).set_function(in_flight)
        self.paused = Counter("cloudfinite_targets_paused", "Targets that were paused", registry=registry)


class BacklogMetrics:
    """Of all deliveries, whichever process sends them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.waiting = Gauge("cloudfinite_deliveries_pending", "Deliveries that wait, in all", registry=registry)
        self.oldest_s = Gauge(
            "cloudfinite_delivery_oldest_pending_seconds", "Age of the oldest one that waits", registry=registry
        )
        self.late_s = Gauge(
            "cloudfinite_delivery_late_seconds", "How long something due has been nobody's", registry=registry
        )
