"""What Prometheus shows of deliveries."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class DelivererMetrics:
    """Of the attempts of one process."""

    def __init__(self, registry: CollectorRegistry, in_flight: Callable[[], int]) -> None:
        attempts = Counter(
            "cloudfinite_delivery_attempts", "Attempts by class of their end", ["outcome"], registry=registry
        )
        self.attempts = cache(attempts.labels)  # by outcome
        self.attempt_s = Histogram("cloudfinite_delivery_attempt_seconds", "Duration of one attempt", registry=registry)
        self.latency_s = Histogram(
            "cloudfinite_delivery_latency_seconds",
            "Time from the end of a job to its callback's receipt",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 600, 7200, 86_400),
            registry=registry,
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
