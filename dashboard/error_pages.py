"""Error pages outside of the normal pages. They do as little as possible, because nothing may fail here."""

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from rest import errors

_OURS = "/dashboard/"


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler for an uncaught exception: an error page in the dashboard, the API's JSON elsewhere."""
    if not request.path_info.startswith(_OURS):
        return errors.failed(request)
    text = "It has been logged. Try again. If it fails again, report it to the operator of this gateway."
    return _page("Something went wrong", text, status=500)


def form_refused(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's handler for a form without a valid CSRF token: usually one that was open when the user signed out."""
    del request, reason
    text = "This form belongs to a session that has ended. Open its page again and send it once more."
    return _page("This form is too old", text, status=403)


def _page(heading: str, text: str, *, status: int) -> HttpResponse:
    # Rendered without the request, so that neither the session nor the database is read.
    return HttpResponse(
        render_to_string("dashboard/failed.html", {"heading": heading, "text": text}),
        status=status,
        headers={"Cache-Control": "no-store"},
    )
