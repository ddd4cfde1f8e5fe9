"""Holds: gateway_admin.metrics

What the control plane tells Prometheus: the state of the deployment, and nothing of a tenant.
"""

import pytest
from django.core.cache import cache
from django.utils import timezone

from providers import price_refresh
from snapshots.models import Change
from snapshots.redis_client import inline_store, keys

pytestmark = pytest.mark.django_db


def gauges(api):
    answer = api.get("metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    lines = [line for line in answer.content.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_parked_and_pending_changes_are_told_without_an_api_key(anonymous, account):
    Change.objects.create(account=account, document="settings")
    Change.objects.create(account=account, document="settings", parked_at=timezone.now(), reason="too large")

    told = gauges(anonymous)

    assert told["gateway_changes_pending"] == told["gateway_changes_parked"] == 1
    assert told["gateway_changes_pending_seconds"] > 0
    assert told["gateway_database_up"] == told["gateway_redis_up"] == 1
    assert told["gateway_workers"] == 0
    assert {name.partition("{")[0] for name in told if "{" in name} == {"gateway_silent_seconds"}
    assert told['gateway_silent_seconds{of="relay.publishing"}'] > 0


def test_prices_that_wait_for_an_operator_are_told(anonymous):
    assert gauges(anonymous)["gateway_prices_waiting"] == 0
    cache.set(price_refresh._WAITING, 3)

    assert gauges(anonymous)["gateway_prices_waiting"] == 3


def test_usage_that_nobody_takes_is_told(anonymous, redis):
    redis.xadd(keys().usage, {"x": "y"})

    assert gauges(anonymous)["gateway_usage_batches_waiting"] == 1


def test_without_redis_the_rest_is_told(anonymous, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    inline_store.cache_clear()
    try:
        told = gauges(anonymous)
    finally:
        inline_store.cache_clear()

    assert told["gateway_redis_up"] == 0
    assert told["gateway_changes_pending"] == 0
    assert "gateway_workers" not in told
