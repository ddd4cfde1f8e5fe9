"""Lists of the dashboard: newest first, paged by key in both directions, without offsets and without counts."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import HttpRequest

from gateway_core import ids

PAGE_SIZE: Final = 50
_BEFORE: Final = "before"
_AFTER: Final = "after"
_LONGEST_SEARCH: Final = 255
_SUFFIX_LENGTH: Final = 26


@dataclass(frozen=True)
class Listing:
    """One page of a list, with the links to its neighbours (empty where there is none)."""

    items: Sequence[Any]
    newer: str
    older: str

    @property
    def is_only_page(self) -> bool:
        """Whether there is neither a newer nor an older page."""
        return not self.newer and not self.older


def listing_of(
    request: HttpRequest, items: QuerySet[Any], prefix: ids.Prefix | None, *, size: int = PAGE_SIZE
) -> Listing:
    """The page that the request selects with `before` or `after`, in one query.

    An invalid ID shows the first page, because a user may shorten an address.

    Args:
        request: the links keep its other query parameters, the filters.
        items: the account's items, already filtered, in any order.
        prefix: the prefix of the items' IDs; None for items whose only ID is a UUID.
        size: the number of items on a page.
    """
    before, after = (_id(prefix, request.GET.get(name, "")) for name in (_BEFORE, _AFTER))
    if after is not None:
        found = list(items.filter(id__gt=after).order_by("id")[: size + 1])
        has_newer, has_older = len(found) > size, True
        found = found[:size][::-1]
    else:
        if before is not None:
            items = items.filter(id__lt=before)
        found = list(items.order_by("-id")[: size + 1])
        has_newer, has_older = before is not None, len(found) > size
        found = found[:size]
    if not found:
        return Listing([], link_to(request) if has_newer or after is not None else "", "")
    newest, oldest = (ids.to_text(prefix, item.id) if prefix else str(item.id) for item in (found[0], found[-1]))
    return Listing(
        found,
        link_to(request, **{_AFTER: newest}) if has_newer else "",
        link_to(request, **{_BEFORE: oldest}) if has_older else "",
    )


def id_range(prefix: ids.Prefix, text: str) -> tuple[uuid.UUID, uuid.UUID] | None:
    """Return (lowest, highest) of the IDs that begin with a text such as `aigk_01kz`; None where no ID can.

    A search uses this range of UUIDs, because no column holds the text of an ID.
    """
    lead = f"{prefix}_"
    begun = text.removeprefix(lead)
    try:
        low = ids.from_text(prefix, lead + begun.ljust(_SUFFIX_LENGTH, "0"))
        # The first character of an ID is at most 7.
        high = ids.from_text(prefix, lead + (begun or "7").ljust(_SUFFIX_LENGTH, "z"))
    except ids.InvalidId:
        return None
    return low, high


@dataclass(frozen=True)
class Filter:
    """One filter of a list: a query parameter.

    Args:
        name: the name of the query parameter.
        label: the text that users read.
        choices: (value, label) of each choice; empty for a search text.
        placeholder: an example of a search text.
        searches_keys: whether a key is found by its beginning. The browser sends no more of a text that may be a key.
    """

    name: str
    label: str
    choices: Sequence[tuple[str, str]] = ()
    placeholder: str = ""
    searches_keys: bool = False


class Filters:
    """The filters of a list with their values in the request. An unknown choice counts as not chosen."""

    def __init__(self, request: HttpRequest, filters: Sequence[Filter]) -> None:
        self.filters = filters
        self._values = {filter_.name: _asked(request, filter_) for filter_ in filters}

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    @property
    def is_narrowed(self) -> bool:
        """Whether any filter is in use. Templates explain an empty list differently then."""
        return any(self._values.values())

    @property
    def shown(self) -> list[tuple[Filter, str]]:
        """(filter, present value) of each filter."""
        return [(filter_, self._values[filter_.name]) for filter_ in self.filters]


def _asked(request: HttpRequest, filter_: Filter) -> str:
    text = request.GET.get(filter_.name, "").strip()[:_LONGEST_SEARCH].replace("\x00", "")
    if filter_.choices and text not in {value for value, _ in filter_.choices}:
        return ""
    return text


def _id(prefix: ids.Prefix | None, text: str) -> uuid.UUID | None:
    try:
        return ids.from_text(prefix, text) if prefix else uuid.UUID(text)
    except (ids.InvalidId, ValueError):
        return None


def link_to(request: HttpRequest, **query: str) -> str:
    """The request's path with its filters, and with this place in the list."""
    kept = [
        (name, value)
        for name, values in request.GET.lists()
        if name not in {_BEFORE, _AFTER}
        for value in values
        if value
    ]
    asked = urlencode([*kept, *query.items()])
    return f"{request.path}?{asked}" if asked else request.path
