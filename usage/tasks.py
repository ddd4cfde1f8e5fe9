"""What Celery does with usage, by the clock (gateway_admin.settings). A task may run twice, or not at all for once."""

from functools import cache

import structlog
from celery import shared_task
from redis.exceptions import RedisError

from providers import price_refresh
from snapshots.redis_client import patient_store
from usage import ledger, limit_rounds, partitions
from usage.ingest import Ingest, forget_consumers

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Longer than the beat's second: under load the next message finds this one at work, and is out of date soon.
_SECONDS = 2.0


@cache
def _ingest() -> Ingest:
    """This process's consumer of the stream."""
    return Ingest(patient_store().redis)


@shared_task(name="usage.ingest")
def ingest() -> None:
    """Write the workers' usage events to PostgreSQL."""
    price_refresh.follow()
    try:
        _ingest().run(seconds=_SECONDS)
        limit_rounds.send(patient_store().redis)
    except RedisError as fault:
        log.warning("Redis did not answer; usage waits there", fault=type(fault).__name__)


@shared_task(name="usage.expire_credits")
def expire_credits() -> None:
    """Write off grants that have expired."""
    ledger.expire_due()


@shared_task(name="usage.keep_partitions")
def keep_partitions() -> None:
    """Make the months ahead, drop those behind the retention, forget consumers that are gone."""
    partitions.make_ahead()
    partitions.drop_expired()
    try:
        forget_consumers(patient_store().redis)
    except RedisError as fault:
        log.warning("Redis did not answer; its consumers are looked at later", fault=type(fault).__name__)
