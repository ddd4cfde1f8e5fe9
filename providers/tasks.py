"""The catalog's periodic Celery tasks (gateway_admin.settings has their times)."""

from datetime import timedelta
from typing import Final

import structlog
from celery import shared_task
from django.conf import settings
from django.utils import timezone
from redis.exceptions import RedisError

from providers import price_refresh
from providers.models import PriceRelease
from snapshots.publisher import PublicationRefused
from snapshots.rebuild import publish_catalog_if_changed
from snapshots.redis_client import patient_store

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Prices change a few times a month.
FRESH: Final = timedelta(hours=20)


class _Trouble:
    """Remembers a failure, so that only the first of several equal ones is logged as a warning."""

    reason: str | None = None


@shared_task(name="providers.refresh_prices")
def refresh_prices() -> None:
    """Fetch newer prices if CATALOG_REFRESH allows it, and publish the catalog. After a failure the old prices stay."""
    if not settings.CATALOG_REFRESH or PriceRelease.objects.filter(fetched_at__gt=timezone.now() - FRESH).exists():
        return
    try:
        is_new = price_refresh.refresh()
    except (OSError, ValueError, price_refresh.PricesRefused) as fault:
        reason = str(fault) if isinstance(fault, price_refresh.PricesRefused) else type(fault).__name__
        if _Trouble.reason != reason:
            log.warning("prices were not refreshed; those in use stay", reason=reason)
        _Trouble.reason = reason
        return
    _Trouble.reason = None
    if is_new:
        log.info("prices were refreshed")
        publish()


def publish() -> None:
    """Publish the catalog now; if that fails, the relay does it within a minute."""
    try:
        publish_catalog_if_changed(patient_store())
    except (RedisError, PublicationRefused) as fault:
        log.warning("the relay will publish the catalog", fault=type(fault).__name__)
