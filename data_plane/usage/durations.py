"""How long upstreams take, for Prometheus: two histograms by provider and model, whose labels are bounded.

Counted are the attempts that answered. A built-in provider is named, and its model if the catalog has it; all others
are `custom` and `other`. So no label names a tenant, and nobody can make labels by asking for models.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway_core.catalog import BUILT_IN
from gateway_core.traces import Completion
from gateway_core.usage_events import UsageEvent

# Milliseconds.
BOUNDS: Final = (100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000)
# Pairs of a provider and a model that are named. Later ones are `other`.
MOST_NAMED: Final = 200
CUSTOM: Final = "custom"
OTHER: Final = "other"
_MILLISECONDS: Final = 1000

_Labels = tuple[str, str]


class _Histogram:
    """Counts by bucket, the last one without a bound, and the sum in milliseconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0

    def add(self, milliseconds: int) -> None:
        self.counts[bisect_left(BOUNDS, milliseconds)] += 1
        self.total += milliseconds


class Durations(Collector):
    """The histograms of one worker process."""

    def __init__(self, is_catalogued: Callable[[str, str], bool]) -> None:
        """
        Args:
            is_catalogued: whether the catalog has a model of a built-in provider.
        """
        self._is_catalogued = is_catalogued
        self._whole: dict[_Labels, _Histogram] = {}
        self._first: dict[_Labels, _Histogram] = {}

    def note(self, event: UsageEvent) -> None:
        """Count an attempt, if it answered."""
        if event.trace is None or event.trace.completion != Completion.SUCCEEDED:
            return
        labels = event.provider, event.model
        whole = self._whole.get(labels)
        if whole is None:
            labels = self._named(*labels)
            whole = self._whole.setdefault(labels, _Histogram())
        whole.add(event.duration_ms)
        if event.first_byte_ms is not None:
            self._first.setdefault(labels, _Histogram()).add(event.first_byte_ms)

    def _named(self, provider: str, model: str) -> _Labels:
        if provider not in BUILT_IN:
            return CUSTOM, OTHER
        if len(self._whole) < MOST_NAMED and self._is_catalogued(provider, model):
            return provider, model
        return provider, OTHER

    def describe(self) -> Iterator[Metric]:
        """The names, without values."""
        return iter(self._families())

    def collect(self) -> Iterator[Metric]:
        """The histograms as they are now."""
        for family, histograms in zip(self._families(), (self._whole, self._first), strict=True):
            for labels, histogram in histograms.items():
                sums = accumulate(histogram.counts)
                bounds = [*(str(bound / _MILLISECONDS) for bound in BOUNDS), "+Inf"]
                family.add_metric(list(labels), list(zip(bounds, sums, strict=True)), histogram.total / _MILLISECONDS)
            yield family

    def _families(self) -> tuple[HistogramMetricFamily, HistogramMetricFamily]:
        labels = ["provider", "model"]
        return (
            HistogramMetricFamily(
                "gateway_attempt_duration_seconds", "How long attempts that answered took, to their end.", labels=labels
            ),
            HistogramMetricFamily(
                "gateway_attempt_first_byte_seconds",
                "How long they took to the beginning of the answer: a stream's first content, else the head.",
                labels=labels,
            ),
        )
