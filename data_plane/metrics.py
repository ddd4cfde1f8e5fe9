"""What a worker counts. No label names a tenant, a provider or a key."""

from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

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
        requests = Counter("gateway_requests", "Requests by the status of their answer.", ["status"], registry=registry)
        # Looked up once for each status: `labels` costs more than the counting.
        self.requests_with = lru_cache(maxsize=None)(lambda status: requests.labels(str(status)))
        attempts = Counter("gateway_attempts", "Attempts by their outcome.", ["outcome"], registry=registry)
        self.answered = attempts.labels("answered")
        self.failed = attempts.labels("failed")
        refused = Counter(
            "gateway_connections_refused", "Connections refused or cut, by reason.", ["reason"], registry=registry
        )
        self.connections_refused = {reason: refused.labels(reason) for reason in CONNECTION_REASONS}
        self.connections = Gauge("gateway_connections", "Connections from callers.", registry=registry)
        self.loop_lag = Histogram(
            "gateway_loop_lag_seconds",
            "How late the event loop came to a timer that is due every 10 ms.",
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

    def text(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self._registry)
