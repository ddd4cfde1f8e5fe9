"""Forms that make something each time they are sent. Sent again, by a reload or by going back, they make no second one.

A token is shown in the answer to the POST itself, which no redirect follows, so the browser can repeat that POST. The
form carries a stamp; the session remembers which stamps were used and where what they made can be seen. It never holds
the token.

Source: docs/decisions/0093-keys-in-the-dashboard.md.
"""

import secrets
from typing import Final

from django.http import HttpRequest

# The name of the hidden field; a form that a script sends as JSON has the stamp in a header.
FIELD: Final = "once"
_HEADER: Final = "Form-Once"
_USED: Final = "used_stamps"
_MOST_KEPT: Final = 20
_LONGEST: Final = 64


def new_stamp() -> str:
    """For a form that is shown for the first time."""
    return secrets.token_urlsafe(12)


def used_for(request: HttpRequest) -> str | None:
    """The address of what the submitted form made before; None for a form that made nothing yet."""
    stamp = _stamp_of(request)
    found: str | None = dict(request.session.get(_USED, [])).get(stamp) if stamp else None
    return found


def use(request: HttpRequest, address: str) -> None:
    """The submitted form has made what can be seen at this address."""
    if stamp := _stamp_of(request):
        request.session[_USED] = [*request.session.get(_USED, []), [stamp, address]][-_MOST_KEPT:]


def _stamp_of(request: HttpRequest) -> str:
    return (request.headers.get(_HEADER) or request.POST.get(FIELD, ""))[:_LONGEST]
