"""The monthly partitions of the event table: created before they are needed, dropped after the retention.

A partition is made beside the table and attached, which blocks neither readers nor writers; dropping one needs the
table to itself for a moment and gives up after two seconds, to try again an hour later.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import structlog
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from usage.models import Rollup

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

_NAME: Final = "usage_event_%Y_%m"
# Months that are made ahead.
_AHEAD: Final = 2
# What is still on its way must never be older than what has been forgotten, or it would count a second time.
MINIMUM_RETENTION_MONTHS: Final = 2
# The lock of every process that creates or drops partitions.
_LOCK: Final = 0x75736167_65706172


def month_of(moment: datetime) -> datetime:
    """The first moment of the moment's month, UTC."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def following(month: datetime, count: int = 1) -> datetime:
    """The first moment of a later month, or with a negative count of an earlier one."""
    year, index = divmod(month.year * 12 + month.month - 1 + count, 12)
    return month.replace(year=year, month=index + 1)


def make(months: Iterable[datetime]) -> None:
    """Make the partitions that are missing among these."""
    wanted = {month.strftime(_NAME): month for month in months}
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM unnest(%s::text[]) name WHERE to_regclass(name) IS NULL", [list(wanted)])
        missing = sorted(name for (name,) in cursor.fetchall())
    for name in missing:
        _make(name, wanted[name])


def make_ahead() -> None:
    """Make this month's partition and those of the next two."""
    this_month = month_of(timezone.now())
    make(following(this_month, count) for count in range(_AHEAD + 1))


def oldest_kept(now: datetime) -> datetime:
    """The first moment that the retention keeps: so many whole months before this one."""
    return following(month_of(now), -max(settings.USAGE_RETENTION_MONTHS, MINIMUM_RETENTION_MONTHS))


def drop_expired() -> list[str]:
    """Forget the months before the retention: their events, and what was summed of them. Returns what was dropped.

    The ledger keeps what they cost.
    """
    horizon = oldest_kept(timezone.now())
    dropped = []
    for name in existing():
        if datetime.strptime(name, _NAME).replace(tzinfo=UTC) >= horizon:
            break
        try:
            _drop(name)
        except OperationalError as fault:
            log.warning("a month of usage could not be dropped yet", partition=name, reason=str(fault.__cause__))
            break
        dropped.append(name)
    return dropped


def existing() -> list[str]:
    """The partitions' names, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = 'usage_event'::regclass ORDER BY c.relname"
        )
        return [name for (name,) in cursor.fetchall()]


@transaction.atomic
def _make(name: str, month: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute("SELECT to_regclass(%s) IS NULL", [name])
        if not cursor.fetchone()[0]:
            return  # another process was faster
        # The names are ours (a date), not a caller's.
        cursor.execute(f"CREATE TABLE {name} (LIKE usage_event INCLUDING ALL)")
        # An event counts once. Its ID is of one moment, so it can be in no other partition.
        cursor.execute(f"CREATE UNIQUE INDEX {name}_counts_once ON {name} (id)")
        cursor.execute(
            f"ALTER TABLE usage_event ATTACH PARTITION {name} FOR VALUES FROM ('{month.isoformat()}') "
            f"TO ('{following(month).isoformat()}')"
        )
    log.info("a month of usage begins", partition=name)


@transaction.atomic
def _drop(name: str) -> None:
    end = following(datetime.strptime(name, _NAME).replace(tzinfo=UTC))
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = '2s'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        cursor.execute(f"DROP TABLE IF EXISTS {name}")
    Rollup.objects.filter(start__lt=end).delete()
    log.info("a month of usage is forgotten", partition=name)
