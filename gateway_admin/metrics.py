"""`/metrics` of the control plane: the state of the deployment, for Prometheus.

Each scrape reads PostgreSQL and Redis, so every process of the control plane shows the same values. No metric names a
tenant, a host or a key. The path needs no API key, so do not make it public; the same holds for the data plane's.
"""

from collections.abc import Iterator
from typing import Any, Final

from django.db import DatabaseError, connection, models
from django.http import HttpResponse
from django.utils import timezone
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError, ResponseError
from rest_framework.request import Request

from gateway_admin.heartbeats import silent_seconds
from gateway_core.redis_errors import trouble_of
from providers.price_refresh import waiting_count
from rest.views import RestViews
from snapshots.models import WHOLE_ACCOUNT, Change
from snapshots.redis_client import inline_store, keys
from snapshots.workers import read_workers


class _Deployment(Collector):
    """Reads PostgreSQL and Redis at each scrape."""

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering this collector does not read from the servers."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The gauges. Where a server does not answer, its `…_up` gauge is 0 and its other gauges are left out."""
        for name, read in (("gateway_database_up", _read_changes), ("gateway_redis_up", _read_redis)):
            try:
                found = list(read())
            except (DatabaseError, RedisError):
                found = []
            yield GaugeMetricFamily(name, "1 while the server answers, else 0.", value=bool(found))
            yield from found


def _read_changes() -> Iterator[Metric]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_read_only') = 'on'")
        (is_read_only,) = cursor.fetchone()
    yield GaugeMetricFamily(
        "gateway_database_read_only", "1 while PostgreSQL takes no writes, else 0.", value=is_read_only
    )
    changes: Any = Change.objects.exclude(document=WHOLE_ACCOUNT)
    found = changes.aggregate(
        pending=models.Count("id", filter=models.Q(parked_at=None)),
        parked=models.Count("id", filter=models.Q(parked_at__isnull=False)),
        oldest=models.Min("recorded_at", filter=models.Q(parked_at=None)),
    )
    age = (timezone.now() - found["oldest"]).total_seconds() if found["oldest"] else 0.0
    yield GaugeMetricFamily("gateway_changes_pending", "Changes that are not published yet.", value=found["pending"])
    yield GaugeMetricFamily(
        "gateway_changes_pending_seconds",
        "Age of the oldest change that is not published yet, in seconds.",
        value=max(age, 0.0),
    )
    yield GaugeMetricFamily(
        "gateway_changes_parked", "Changes that could not be published and are set aside.", value=found["parked"]
    )
    yield GaugeMetricFamily(
        "gateway_prices_waiting", "Fetched prices that wait until an operator accepts them.", value=waiting_count()
    )
    silent = GaugeMetricFamily(
        "gateway_silent_seconds",
        "Seconds since a thread of the relay or a periodic task last succeeded, or could do so for the first time.",
        labels=["of"],
    )
    for name, seconds in silent_seconds().items():
        silent.add_metric([name], seconds)
    yield silent


def _read_redis() -> Iterator[Metric]:
    workers = read_workers()
    lags = [workers.lag_of(report) for report in workers.reports]
    yield GaugeMetricFamily(
        "gateway_workers",
        "Data-plane workers that count: each has a report and is not silent beyond its limit.",
        value=len(workers.reports),
    )
    yield GaugeMetricFamily(
        "gateway_workers_out_of_sync",
        "Workers that are out of sync with Redis, or follow another epoch.",
        value=sum(not report.is_in_sync or lag is None for report, lag in zip(workers.reports, lags, strict=True)),
    )
    yield GaugeMetricFamily(
        "gateway_workers_behind",
        "Workers that have not put in force every change that they have passed.",
        value=sum(bool(report.behind) for report in workers.reports),
    )
    yield GaugeMetricFamily(
        "gateway_workers_lag",
        "Changes that the slowest worker is behind.",
        value=max((lag or 0 for lag in lags), default=0),
    )
    yield GaugeMetricFamily(
        "gateway_workers_refusals",
        "Documents that workers have refused.",
        value=sum(report.refusals for report in workers.reports),
    )
    yield GaugeMetricFamily(
        "gateway_workers_silent_seconds",
        "Seconds since the last report of the worker that has been silent longest.",
        value=max((workers.seconds_since(report.heartbeat_at) or 0.0 for report in workers.reports), default=0.0),
    )
    waiting: Any = inline_store().redis.xlen(keys().usage)
    yield GaugeMetricFamily("gateway_usage_batches_waiting", "Batches of usage that wait in Redis.", value=waiting)
    yield GaugeMetricFamily(
        "gateway_redis_takes_writes",
        "1 while Redis takes writes, else 0: it is full, a replica, or does not permit them.",
        value=_takes_writes(),
    )


def _takes_writes() -> bool:
    """Whether Redis takes an entry of the stream that wakes waiting requests; it keeps one entry."""
    try:
        inline_store().redis.xadd(keys().acknowledged, {"worker": "-"}, maxlen=1, approximate=False)
    except ResponseError as fault:
        return not trouble_of(fault).is_of_the_server
    return True


_REGISTRY: Final = CollectorRegistry()
_REGISTRY.register(_Deployment())


class MetricsViews(RestViews):
    """`/metrics`, in Prometheus's text format. It needs no API key."""

    authentication_classes = ()
    permission_classes = ()
    schema = None

    def retrieve(self, _request: Request) -> HttpResponse:
        """All metrics of the deployment."""
        return HttpResponse(generate_latest(_REGISTRY), content_type=CONTENT_TYPE_LATEST)
