"""Pages of lists, newest first. A page begins at an ID and not at an offset, so each page costs the same.

IDs are UUIDv7 and grow with time. `beforeId` may also be the ID of an item that has been deleted.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from django.db.models import Model, QuerySet
from rest_framework.request import Request

from gateway_core import ids
from rest import uris
from rest.errors import QueryInvalid

MAX_LIMIT: Final = 100
_LIMIT: Final = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)

M = TypeVar("M", bound=Model)


@dataclass(frozen=True)
class Page(Generic[M]):
    """One page of a list, its own URI, and the next page's URI (None: this is the last page)."""

    items: list[M]
    uri: str
    next_page_uri: str | None


def one_value(request: Request, name: str) -> str | None:
    """A query parameter's value; None if it is not given.

    Raises:
        QueryInvalid: it is given more than once.
    """
    values = request.GET.getlist(name)
    if len(values) > 1:
        raise QueryInvalid(details={name: "This is given more than once."})
    return values[0] if values else None


def limit_of(request: Request) -> int:
    """`limit`: 1 to 100, 100 by default.

    Raises:
        QueryInvalid: the value is not such a number.
    """
    text = one_value(request, "limit")
    if text is None:
        return MAX_LIMIT
    if not _LIMIT.fullmatch(text) or int(text) > MAX_LIMIT:
        raise QueryInvalid(details={"limit": f"This must be a number from 1 to {MAX_LIMIT}."})
    return int(text)


def id_of(request: Request, name: str, prefix: ids.Prefix) -> uuid.UUID | None:
    """The UUID behind an ID in the query; None if it is not given.

    Raises:
        QueryInvalid: the value is not an ID with this prefix.
    """
    text = one_value(request, name)
    if text is None:
        return None
    try:
        return ids.from_text(prefix, text)
    except ids.InvalidId:
        raise QueryInvalid(details={name: f"This must be an ID that begins with {prefix}_."}) from None


def before_id_of(request: Request, prefix: ids.Prefix) -> uuid.UUID | None:
    """`beforeId`: the ID of an item that exists or has existed; None if it is not given.

    Raises:
        QueryInvalid: the value is not an ID with this prefix.
    """
    return id_of(request, "beforeId", prefix)


def page_of(request: Request, items: QuerySet[M], prefix: ids.Prefix) -> Page[M]:
    """Read the page that the request asks for, in one query.

    Args:
        request: `limit` and `beforeId` are read from it; its other parameters are kept in the next page's URI.
        items: the account's items, filtered, in any order.
        prefix: of the items' IDs.
    """
    limit, before_id = limit_of(request), before_id_of(request, prefix)
    if before_id is not None:
        items = items.filter(id__lt=before_id)
    # Read one item more than asked for: it shows whether there is a next page, without a count.
    found = list(items.order_by("-id")[: limit + 1])
    next_page_uri = None
    if len(found) > limit:
        found = found[:limit]
        last: Any = found[-1]
        next_page_uri = uris.own_with(request, limit=limit, beforeId=ids.to_text(prefix, last.id))
    return Page(items=found, uri=uris.own(request), next_page_uri=next_page_uri)
