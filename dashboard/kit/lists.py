"""Lists of the dashboard: newest first, by key in both directions, never by offset and never with a count."""

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
    """One page of a list, and where its neighbours are (empty: there is none)."""

    items: Sequence[Any]
    newer: str
    older: str

    @property
    def is_only_page(self) -> bool:
        """Whether there is nothing to page through."""
        return not self.newer and not self.older


def listing_of(
    request: HttpRequest, items: QuerySet[Any], prefix: ids.Prefix | None, *, size: int = PAGE_SIZE
) -> Listing:
    """The page that the request asks for with `before` or `after`, in one query.

    An ID that is none shows the first page: whoever shortens an address means no harm.

    Args:
        request: its other query parameters, the filters, are kept in the links.
        items: the account's items, filtered, in any order.
        prefix: of the items' IDs; None for items that have no name on the wire, only a UUID.
        size: items a page.
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
    newest, oldest = (ids.to_text(prefix, one.id) if prefix else str(one.id) for one in (found[0], found[-1]))
    return Listing(
        found,
        link_to(request, **{_AFTER: newest}) if has_newer else "",
        link_to(request, **{_BEFORE: oldest}) if has_older else "",
    )


def id_range(prefix: ids.Prefix, text: str) -> tuple[uuid.UUID, uuid.UUID] | None:
    """The lowest and the highest ID that begins with a text such as `aigk_01kz`; None where none can.

    A range of the index, where the text of the ID is in no column.
    """
    lead = f"{prefix}_"
    begun = text.removeprefix(lead)
    try:
        low = ids.from_text(prefix, lead + begun.ljust(_SUFFIX_LENGTH, "0"))
        # No ID's first character is higher than 7.
        high = ids.from_text(prefix, lead + (begun or "7").ljust(_SUFFIX_LENGTH, "z"))
    except ids.InvalidId:
        return None
    return low, high


@dataclass(frozen=True)
class Filter:
    """A way to narrow a list: one query parameter.

    Args:
        name: of the query parameter.
        label: what people read.
        choices: (value, label); empty for a text to search for.
        placeholder: of a text.
    """

    name: str
    label: str
    choices: Sequence[tuple[str, str]] = ()
    placeholder: str = ""


class Filters:
    """The filters of a list with what the request asks of them. What cannot be chosen counts as not chosen."""

    def __init__(self, request: HttpRequest, filters: Sequence[Filter]) -> None:
        self.filters = filters
        self._values = {one.name: _asked(request, one) for one in filters}

    def __getitem__(self, name: str) -> str:
        return self._values[name]

    @property
    def is_narrowed(self) -> bool:
        """Whether any is in use: an empty list then means something else."""
        return any(self._values.values())

    @property
    def shown(self) -> list[tuple[Filter, str]]:
        """Each filter with its present value."""
        return [(one, self._values[one.name]) for one in self.filters]


def _asked(request: HttpRequest, one: Filter) -> str:
    text = request.GET.get(one.name, "").strip()[:_LONGEST_SEARCH].replace("\x00", "")
    if one.choices and text not in {value for value, _ in one.choices}:
        return ""
    return text


def _id(prefix: ids.Prefix | None, text: str) -> uuid.UUID | None:
    try:
        return ids.from_text(prefix, text) if prefix else uuid.UUID(text)
    except (ids.InvalidId, ValueError):
        return None


def link_to(request: HttpRequest, **query: str) -> str:
    """The request's own path with its filters and this place in the list."""
    kept = [
        (name, value)
        for name, values in request.GET.lists()
        if name not in {_BEFORE, _AFTER}
        for value in values
        if value
    ]
    asked = urlencode([*kept, *query.items()])
    return f"{request.path}?{asked}" if asked else request.path
