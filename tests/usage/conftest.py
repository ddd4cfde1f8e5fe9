"""What tests of usage have in common: workers that send events, and who ingests them."""

from collections.abc import Callable, Sequence

import pytest
from redis import Redis

from gateway_core.usage_events import UsageEvent
from tests.events import send
from usage.ingest import Ingest

Emit = Callable[[Sequence[UsageEvent]], int]


@pytest.fixture
def ingest(redis: "Redis") -> Ingest:
    """A consumer on the test's Redis."""
    return Ingest(redis)


@pytest.fixture
def emit(redis: "Redis", ingest: Ingest) -> Emit:
    """Send events and ingest them; returns how many were added."""

    def send_and_ingest(events: Sequence[UsageEvent]) -> int:
        for start in range(0, len(events), 200):
            send(redis, events[start : start + 200])
        return ingest.run(seconds=60)

    return send_and_ingest
