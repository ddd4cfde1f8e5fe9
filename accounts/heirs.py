"""API keys that API keys made: they expire with their makers.

Such a key does not live longer than any key of the chain that made it. Its own expiry is capped when it is written, and
the chain is looked at again at each use: a maker's expiry may have been moved forward since. A maker that is deleted or
disabled does not end its heirs, so that a script can replace its own key. A key that a person made has no makers.

Source: docs/decisions/0096-heirs-of-api-keys.md.
"""

import uuid
from datetime import datetime
from typing import Final

from django.utils import timezone

from accounts.models import ApiKey
from accounts.principals import Principal
from gateway_core import ids
from rest.errors import ApiKeyInvalid, InvalidRequest

_TOO_LATE: Final = "An API key cannot let an API key live longer than itself: {} at the latest."


def is_in_force(api_key: ApiKey) -> bool:
    """Whether a key is valid now. A key that a person made takes no query, any other takes one."""
    now = timezone.now()
    if api_key.disabled or (api_key.expires_at and api_key.expires_at <= now):
        return False
    if not api_key.makers:
        return True
    makers = ApiKey.objects.filter(account_id=api_key.account_id, id__in=api_key.makers)
    return not makers.filter(expires_at__lte=now).exists()


def makers_of(by: Principal) -> list[uuid.UUID]:
    """The makers of a key that this principal makes: the chain of an API key and itself; none for a user.

    Raises:
        ApiKeyInvalid: the API key was deleted while its request ran.
    """
    if by.kind != "api_key":
        return []
    maker = ApiKey.objects.filter(id=ids.from_text(ids.Prefix.API_KEY, by.id)).first()
    if maker is None:
        raise ApiKeyInvalid
    return [*maker.makers, maker.id]


def bounded_expiry(asked: datetime | None, *, makers: list[uuid.UUID], is_given: bool) -> datetime | None:
    """The expiry of a key with these makers.

    Args:
        asked: what the client set; None for "never".
        makers: the chain of keys that the new or changed key may not outlive.
        is_given: whether the client set it. Otherwise the key gets the earliest expiry of its makers.

    Raises:
        InvalidRequest: the client asked for a later time than that.
    """
    ends = ApiKey.objects.filter(id__in=makers, expires_at__isnull=False).order_by("expires_at")
    end = ends.values_list("expires_at", flat=True).first() if makers else None
    if end is None or (asked is not None and asked <= end):
        return asked
    if is_given:
        raise InvalidRequest(details={"expiresAt": _TOO_LATE.format(end.isoformat(timespec="seconds"))})
    return end
