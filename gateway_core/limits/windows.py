"""When a limit's window begins and ends. Times are microseconds since 1970.

Minutes and hours are those of UTC. Days, weeks (which begin on Monday) and months begin at midnight in the limit's time
zone. Where a clock change leaves out midnight, they begin when the clocks change. Where midnight comes twice, they
begin with the first.

Source: docs/decisions/0120-limits.md.
"""

from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from gateway_core.limits.limit import Limit, Period

_SECOND: Final = 1_000_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE
# The end of a window that does not end. As a number of Lua it is exact.
NEVER: Final = 2**53 - 1


class TimeZoneUnknown(ValueError):
    """No time zone has this name."""


class Window(NamedTuple):
    """From the first moment to the one at which the next window begins."""

    start: int
    end: int


@lru_cache(maxsize=1024)
def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name.

    Raises:
        TimeZoneUnknown: there is none.
    """
    try:
        return UTC if name == "UTC" else ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise TimeZoneUnknown(name) from None


def window_at(limit: Limit, now: int) -> Window:
    """The window of a limit that holds a moment. Rates, `total` and `concurrency` have one that never ends.

    Raises:
        TimeZoneUnknown: the limit's time zone is not known here.
    """
    if limit.is_rate:
        return Window(0, NEVER)
    match limit.period:
        case Period.MINUTE:
            return _aligned(now, _MINUTE)
        case Period.HOUR:
            return _aligned(now, _HOUR)
        case Period.DAY | Period.WEEK | Period.MONTH:
            return _of_calendar(limit.period, zone_of(limit.time_zone), now)
        case _:
            return Window(0, NEVER)


def _aligned(now: int, length: int) -> Window:
    start = now - now % length
    return Window(start, start + length)


def _of_calendar(period: Period, zone: tzinfo, now: int) -> Window:
    day = datetime.fromtimestamp(now // _SECOND, UTC).astimezone(zone).replace(tzinfo=None)
    first = day.replace(hour=0, minute=0, second=0, microsecond=0)
    if period is Period.WEEK:
        first -= timedelta(days=first.weekday())
    elif period is Period.MONTH:
        first = first.replace(day=1)
    return Window(_moment(first, zone), _moment(_next(period, first), zone))


def _next(period: Period, first: datetime) -> datetime:
    if period is Period.MONTH:
        return (first + timedelta(days=32)).replace(day=1)
    return first + timedelta(days=7 if period is Period.WEEK else 1)


def _moment(local: datetime, zone: tzinfo) -> int:
    """The moment of a local midnight; the first of two, and the change of clocks where there is none (fold 0)."""
    return int(local.replace(tzinfo=zone, fold=0).timestamp()) * _SECOND
