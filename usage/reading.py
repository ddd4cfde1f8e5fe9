"""What was used, as the API and the dashboard read it: one page of events, an overview by day, an account's movements.

A page is one range of an index whatever the size of the table. An overview reads the sums of whole days and hours, and
events only where its bounds cut through an hour.

Source: docs/decisions/0064-overview.md.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Final, NamedTuple

from django.db import connection
from django.db.models import Q
from django.utils import timezone

from accounts.models import Account
from gateway_core import base64url
from gateway_core.usage_events import time_of
from usage.models import Event, LedgerEntry, Period, Rollup
from usage.partitions import following, month_of

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_SMALLEST: Final = timedelta(microseconds=1)
# Nobody's clock is so far ahead; later bounds are no bounds.
_FAR: Final = timedelta(days=2)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIME_BYTES: Final = 8
_PLACE_BYTES: Final = _TIME_BYTES + 16


class Place(NamedTuple):
    """Where in the order of events one stands."""

    event_time: datetime
    id: uuid.UUID

    def to_text(self) -> str:
        """As it stands in a URL."""
        microseconds = (self.event_time - _EPOCH) // timedelta(microseconds=1)
        return base64url.encode(microseconds.to_bytes(_TIME_BYTES, "big") + self.id.bytes)

    @classmethod
    def from_text(cls, text: str) -> "Place":
        """The place of a text of ours.

        Raises:
            ValueError: the text is not a place. An event's ID contains its time, so an invented place is detected.
        """
        raw = base64url.decode(text)
        if len(raw) != _PLACE_BYTES:
            raise ValueError("not a place")
        microseconds, last = int.from_bytes(raw[:_TIME_BYTES], "big"), uuid.UUID(bytes=raw[_TIME_BYTES:])
        if time_of(last) != microseconds // 1000:
            raise ValueError("not a place")
        try:
            return cls(_EPOCH + timedelta(microseconds=microseconds), last)
        except OverflowError:
            raise ValueError("not a place") from None


def events(
    account: Account,
    *,
    start: datetime,
    end: datetime | None,
    access_key: uuid.UUID | None,
    with_retries: bool,
    after: Place | None,
    limit: int,
) -> list[Event]:
    """A page of the account's events, newest first.

    Args:
        account: whose.
        start: the earliest event time, included.
        end: the latest one, included; None for any.
        access_key: of this access key alone; it may have been deleted.
        with_retries: attempts that were not final too.
        after: only what stands after this place in the order.
        limit: so many at most.
    """
    found = Event.objects.filter(account_id=account.id, event_time__gte=start)
    if end is not None:
        found = found.filter(event_time__lte=end)
    if access_key is not None:
        found = found.filter(access_key_id=access_key)
    if not with_retries:
        found = found.filter(is_final=True)
    if after is not None:
        found = found.filter(event_time__lte=after.event_time).filter(
            Q(event_time__lt=after.event_time) | Q(id__lt=after.id)
        )
    return list(found.order_by("-event_time", "-id")[:limit])


class Bucket(NamedTuple):
    """The sums of one UTC day and one provider or access key."""

    # `2026-11-22`: thousands of buckets are of a few days, and a text is what becomes of them.
    day: str
    group_key: str
    # US dollars, of all attempts.
    cost: Decimal
    # Final attempts, and how many of them failed.
    requests: int
    errors: int


class _Piece(NamedTuple):
    """A part of an overview's time, `start` included and `end` not, and what it is read from."""

    source: str
    start: datetime
    end: datetime | None


_EVENTS: Final = "events"


def overview(account: Account, *, start: datetime, end: datetime | None, by: Rollup.Dimension) -> list[Bucket]:
    """The account's buckets, by day and then key.

    Args:
        account: whose.
        start: the earliest event time, included.
        end: the latest one, included; None for any.
        by: the dimension of the buckets of a day.
    """
    horizon = timezone.now() + _FAR
    if start > horizon:
        return []
    pieces = list(_pieces(start, None if end is None or end > horizon else end + _SMALLEST))
    if not pieces:
        return []
    statements, values = zip(*(_statement(account, piece, by) for piece in pieces), strict=True)
    parts = " UNION ALL ".join(statements)
    day = "(start AT TIME ZONE 'UTC')::date"
    statement = (
        f"SELECT {day}::text, group_key, sum(cost), sum(requests)::bigint, sum(errors)::bigint "  # noqa: S608 -- our own
        f'FROM ({parts}) AS part GROUP BY {day}, group_key ORDER BY {day}, group_key COLLATE "C"'
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [value for some in values for value in some])
        return [Bucket(*row) for row in cursor.fetchall()]


class Point(NamedTuple):
    """The sums of one hour or UTC day, and one provider or access key."""

    start: datetime
    # A `providerId`, an access key's UUID as text, or OTHERS.
    group_key: str
    cost: Decimal
    requests: int
    errors: int
    # Input and output tokens of all attempts.
    tokens: int


# The name of the group that sums the small groups.
OTHERS: Final = ""


def trend(account: Account, *, since: datetime, span: Rollup.Span, by: Rollup.Dimension, most: int) -> list[Point]:
    """Usage by hour or by day, in the order of time. At each time the groups with the most requests overall come first.

    Args:
        account: the account.
        since: the beginning of the first hour or day.
        span: an hour or a day for each point.
        by: what the usage is grouped by.
        most: the number of groups. The groups with the fewest requests are summed as OTHERS.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TREND, [account.id, by.value, span.value, since, most, OTHERS])
        return [Point(*row) for row in cursor.fetchall()]


_TREND: Final = """
WITH part AS MATERIALIZED (
    SELECT start, group_key, cost, requests, errors, input_tokens + output_tokens AS tokens FROM usage_rollup
    WHERE account_id = %s AND dimension = %s AND span = %s AND start >= %s
), first AS (
    SELECT group_key, rank() OVER (ORDER BY sum(requests) DESC, sum(cost) DESC, group_key) AS place
    FROM part GROUP BY group_key ORDER BY place LIMIT %s
)
SELECT start, coalesce(first.group_key, %s) AS named, sum(cost), sum(requests)::bigint, sum(errors)::bigint,
       sum(tokens)::bigint
FROM part LEFT JOIN first USING (group_key)
GROUP BY start, named, first.place ORDER BY start, first.place NULLS LAST
"""


def _pieces(start: datetime, end: datetime | None) -> Iterator[_Piece]:
    """Cuts a range of time into whole days, whole hours at its ends, and parts of hours, which are read as events."""
    first_day, last_day = _ceiling(start, _DAY), None if end is None else _floor(end, _DAY)
    if last_day is not None and first_day > last_day:
        yield from _hours(start, end)
        return
    if last_day is None or first_day < last_day:
        yield _Piece(Rollup.Span.DAY, first_day, last_day)
    yield from _hours(start, first_day)
    if end is not None and last_day is not None:
        yield from _hours(last_day, end)


def _hours(start: datetime, end: datetime | None) -> Iterator[_Piece]:
    assert end is not None  # noqa: S101 -- only whole days go on without an end
    first, last = _ceiling(start, _HOUR), _floor(end, _HOUR)
    if first > last:
        yield _Piece(_EVENTS, start, end)
        return
    for piece in (_Piece(_EVENTS, start, first), _Piece(Rollup.Span.HOUR, first, last), _Piece(_EVENTS, last, end)):
        if piece.end is not None and piece.start < piece.end:
            yield piece


def _floor(moment: datetime, step: timedelta) -> datetime:
    moment = moment.astimezone(UTC)
    if step == _DAY:
        return moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return moment.replace(minute=0, second=0, microsecond=0)


def _ceiling(moment: datetime, step: timedelta) -> datetime:
    floor = _floor(moment, step)
    return floor if floor == moment else floor + step


def _statement(account: Account, piece: _Piece, by: Rollup.Dimension) -> tuple[str, list[object]]:
    if piece.source == _EVENTS:
        key = "provider" if by == Rollup.Dimension.PROVIDER else "access_key_id::text"
        statement = (
            f"SELECT event_time AS start, {key} AS group_key, cost, is_final::int AS requests, "  # noqa: S608 -- our own
            "(is_final AND is_error)::int AS errors FROM usage_event WHERE account_id = %s AND event_time >= %s"
        )
        bounds: list[object] = [account.id, piece.start]
        column = "event_time"
    else:
        statement = (
            "SELECT start, group_key, cost, requests, errors FROM usage_rollup "
            "WHERE account_id = %s AND dimension = %s AND span = %s AND start >= %s"
        )
        bounds = [account.id, by.value, piece.source, piece.start]
        column = "start"
    if piece.end is None:
        return statement, bounds
    return f"{statement} AND {column} < %s", [*bounds, piece.end]


@dataclass(frozen=True)
class Invoice:
    """A month's charges in whole cents; a preview while the month is running."""

    created_at: datetime
    period_start: datetime
    # The next month's first moment.
    period_end: datetime
    total_cents: int
    applied_credits_cents: int
    amount_due_cents: int
    amount_paid_cents: int
    amount_remaining_cents: int
    is_preview: bool

    @classmethod
    def of(cls, period: Period, *, is_preview: bool, now: datetime) -> "Invoice":
        """The invoice of a month.

        Each sum is rounded as a whole, and what is derived from it is derived from the rounded: the lines add up.
        """
        end = following(period.start)
        total, applied = _cents(period.charged), _cents(period.applied)
        paid = _cents(period.applied + period.paid) - applied
        return cls(
            created_at=now if is_preview else end,
            period_start=period.start,
            period_end=end,
            total_cents=total,
            applied_credits_cents=applied,
            amount_due_cents=total - applied,
            amount_paid_cents=paid,
            amount_remaining_cents=total - applied - paid,
            is_preview=is_preview,
        )


def transactions(account: Account) -> list[LedgerEntry | Invoice]:
    """The account's grants and its months of usage, newest first. The running month is always among them."""
    now = timezone.now()
    this_month = month_of(now)
    periods = {period.start: period for period in Period.objects.filter(account=account)}
    running = periods.pop(this_month, None) or Period(account=account, start=this_month)
    found: list[LedgerEntry | Invoice] = [
        Invoice.of(running, is_preview=True, now=now),
        *(Invoice.of(period, is_preview=False, now=now) for period in periods.values()),
        *LedgerEntry.objects.filter(account=account, kind=LedgerEntry.Kind.GRANT).order_by("-id"),
    ]
    return sorted(found, key=lambda one: one.created_at, reverse=True)


def _cents(amount: Decimal) -> int:
    return int(amount.to_integral_value(ROUND_HALF_EVEN))
