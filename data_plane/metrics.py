"""What a worker counts. No label names a tenant, an account's own provider or a key."""

from collections import Counter as Counts
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.registry import Collector

from gateway_core.traces import CoolingCause

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


# Each is named for the bound that was reached.
CONNECTION_REASONS = (
    "connections",
    "connections_per_address",
    "head_bytes",
    "headers",
    "head_timeout",
    "unread_timeout",
)


class Metrics:
    """Counters of one worker process."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        # By the status of their answer; and by outcome. Every request counts here, and a counter of the registry takes
        # twenty times as long: it gets them when it is read.
        self.requests: Counts[int] = Counts()
        self.attempts: Counts[str] = Counts()
        self._requests = Counter(
            "gateway_requests", "Requests by the status of their answer.", ["status"], registry=registry
        )
        self._attempts = Counter("gateway_attempts", "Attempts by their outcome.", ["outcome"], registry=registry)
        for outcome in ("answered", "failed"):
            self._attempts.labels(outcome)
        passed_over = Counter(
            "gateway_attempts_passed_over",
            "Attempts that were not made because their key cooled, by the cause.",
            ["cause"],
            registry=registry,
        )
        self.passed_over = {cause: passed_over.labels(cause.value) for cause in CoolingCause}
        self._cooling = Gauge(
            "gateway_keys_cooling",
            "Keys and models that are passed over now, by the cause.",
            ["cause"],
            registry=registry,
        )
        refused = Counter(
            "gateway_connections_refused", "Connections refused or cut, by reason.", ["reason"], registry=registry
        )
        self.connections_refused = {reason: refused.labels(reason) for reason in CONNECTION_REASONS}
        self.connections = Gauge("gateway_connections", "Connections from callers.", registry=registry)
        self.loop_lag = Histogram(
            "gateway_loop_lag_seconds",
            "How late the event loop came to a timer that is due every 10 ms, in a quiet worker every 50 ms.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5),
            registry=registry,
        )
        self.longest_step = Gauge(
            "gateway_loop_longest_step_seconds",
            "The longest step of the event loop since the start, in seconds of the processor.",
            registry=registry,
        )
        self.left = Counter("gateway_callers_left", "Callers that left before their answer ended.", registry=registry)
        self.refusals = Gauge("gateway_document_refusals", "Documents of the snapshot refused.", registry=registry)
        self.position = Gauge("gateway_snapshot_position", "The newest change applied.", registry=registry)
        self.usage = Gauge(
            "gateway_usage_events",
            "Usage events of this worker by what became of them.",
            ["outcome"],
            registry=registry,
        )
        self.reported = Gauge(
            "gateway_reports_taken", "1 while Redis takes this worker's reports, else 0.", registry=registry
        )
        self.in_sync = Gauge("gateway_snapshot_in_sync", "1 while in sync with Redis.", registry=registry)

    def add(self, collector: Collector) -> None:
        """Show what somebody else counts."""
        self._registry.register(collector)

    def set_cooling(self, causes: Iterable[CoolingCause]) -> None:
        """Gauge how many keys cool for which cause."""
        found = Counts(causes)
        for cause in CoolingCause:
            self._cooling.labels(cause.value).set(found[cause])

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        for counts, counter in ((self.requests, self._requests), (self.attempts, self._attempts)):
            for label, number in counts.items():
                counter.labels(str(label)).inc(number)
            counts.clear()
        return generate_latest(self._registry)
