"""Protects forms that create an object: a form that is sent again, by a reload or by going back, creates no second one.

A token is shown in the answer to the POST itself, without a redirect, so the browser can repeat that POST. The form
carries a stamp. The session remembers the used stamps with the address of the object that each created. It never holds
the token.

Source: docs/decisions/0093-keys-in-the-dashboard.md.
"""

import secrets
from typing import Final

from django.http import HttpRequest

# The name of the hidden field. A script that sends JSON puts the stamp into a header.
FIELD: Final = "once"
_HEADER: Final = "Form-Once"
_USED: Final = "used_stamps"
_MOST_KEPT: Final = 20
_LONGEST: Final = 64


def new_stamp() -> str:
    """A new stamp, for a form that is shown for the first time."""
    return secrets.token_urlsafe(12)


def used_for(request: HttpRequest) -> str | None:
    """The address of the object that the submitted form created before, or None."""
    stamp = _stamp_of(request)
    found: str | None = dict(request.session.get(_USED, [])).get(stamp) if stamp else None
    return found


def use(request: HttpRequest, address: str) -> None:
    """Remember that the submitted form created the object at this address."""
    if stamp := _stamp_of(request):
        request.session[_USED] = [*request.session.get(_USED, []), [stamp, address]][-_MOST_KEPT:]


def _stamp_of(request: HttpRequest) -> str:
    return (request.headers.get(_HEADER) or request.POST.get(FIELD, ""))[:_LONGEST]
