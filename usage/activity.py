"""Search events for the dashboard: newest first, with filters, one page at a time.

A page reads at most `LOOKED_AT` events, whatever the filters are. A rare event among a million is found by reading
further pages, never by one read of all events.

Source: docs/decisions/0066-activity.md.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from accounts.models import Account
from usage.models import Event
from usage.reading import Place

LOOKED_AT: Final = 20_000
_ROWS_AT_ONCE: Final = 1000


@dataclass(frozen=True)
class Search:
    """The filters. None or an empty text does not filter."""

    since: datetime | None = None
    access_keys: tuple[uuid.UUID, ...] | None = None
    provider: str = ""
    # Part of what the caller asked for, or of what was sent, in any case.
    model: str = ""
    is_error: bool | None = None
    # The upstream's; 0 where there was none.
    status: int | None = None
    # Attempts that another one followed too.
    with_retries: bool = True


@dataclass(frozen=True)
class ActivityPage:
    """One page, and the places where the next newer and older pages begin; None if there is no such page."""

    events: tuple[Event, ...]
    newer: Place | None
    older: Place | None
    # The page ends because it has read LOOKED_AT events, not because it is full.
    is_cut_short: bool


def find(
    account: Account, search: Search, *, before: Place | None = None, after: Place | None = None, size: int
) -> ActivityPage:
    """A page of the account's events, newest first.

    Args:
        account: the account of the events.
        search: the filters.
        before: return only events older than this place.
        after: return the oldest events newer than this place. Takes precedence over `before`.
        size: the largest number of events.
    """
    is_backward = after is None
    looked, values = _looked(account, search, before if is_backward else after, is_backward=is_backward)
    conditions, more = _conditions(search)
    order = "DESC" if is_backward else "ASC"
    events = list(
        Event.objects.raw(
            f"SELECT * FROM ({looked} LIMIT {LOOKED_AT}) AS looked {conditions} "  # noqa: S608 -- our own texts
            f"ORDER BY event_time {order}, id {order} LIMIT %s",
            [*values, *more, size + 1],
        )
    )
    beyond: Place | None
    if len(events) > size:
        events = events[:size]
        beyond = _place(events[-1])
        is_cut_short = False
    else:
        last = list(Event.objects.raw(f"{looked} LIMIT 1 OFFSET {LOOKED_AT - 1}", values))
        beyond = _place(last[0]) if last else None
        is_cut_short = beyond is not None
    if is_backward:
        newer = before and (_place(events[0]) if events else before)
        return ActivityPage(tuple(events), newer=newer, older=beyond, is_cut_short=is_cut_short)
    older = _place(events[0]) if events else after
    return ActivityPage(tuple(reversed(events)), newer=beyond, older=older, is_cut_short=is_cut_short)


def every(account: Account, search: Search) -> Iterator[Event]:
    """Yield all matching events, newest first, read in pieces."""
    place: Place | None = None
    while True:
        found = find(account, search, before=place, size=_ROWS_AT_ONCE)
        yield from found.events
        if found.older is None:
            return
        place = found.older


def _looked(account: Account, search: Search, place: Place | None, *, is_backward: bool) -> tuple[str, list[object]]:
    """(SQL, values) of the events that a page reads, by the filters that have an index. The SQL has no LIMIT."""
    clauses: list[str] = ["account_id = %s"]
    values: list[object] = [account.id]
    if search.access_keys is not None:
        clauses.append("access_key_id = ANY(%s)")
        values.append(list(search.access_keys))
    if search.since is not None:
        clauses.append("event_time >= %s")
        values.append(search.since)
    if place is not None:
        clauses.append(f"(event_time, id) {'<' if is_backward else '>'} (%s, %s)")
        values += place
    order = "DESC" if is_backward else "ASC"
    statement = f"SELECT * FROM usage_event WHERE {' AND '.join(clauses)} ORDER BY event_time {order}, id {order}"  # noqa: S608 -- our own texts
    return statement, values


def _conditions(search: Search) -> tuple[str, list[object]]:
    """(SQL, values) of the WHERE clause with the other filters."""
    clauses: list[str] = []
    values: list[object] = []
    if search.provider:
        clauses.append("provider = %s")
        values.append(search.provider)
    if search.model:
        clauses.append("(position(lower(%s) IN lower(model)) > 0 OR position(lower(%s) IN lower(requested_model)) > 0)")
        values += [search.model, search.model]
    if search.is_error is not None:
        clauses.append("is_error = %s")
        values.append(search.is_error)
    if search.status is not None:
        clauses.append("status = %s")
        values.append(search.status)
    if not search.with_retries:
        clauses.append("is_final")
    return f"WHERE {' AND '.join(clauses)}" if clauses else "", values


def _place(event: Event) -> Place:
    return Place(event.event_time, event.id)
