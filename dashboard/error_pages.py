"""What a person sees where there is no page to show: as little as possible, for nothing may fail here."""

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from rest import errors

_OURS = "/dashboard/"


def failed(request: HttpRequest) -> HttpResponse:
    """Django's handler for an exception that nobody caught: a page in the dashboard, the API's shape elsewhere."""
    if not request.path_info.startswith(_OURS):
        return errors.failed(request)
    text = "It has been logged. Going back and trying again may help; else tell whoever runs this gateway."
    return _page("Something went wrong", text, status=500)


def form_refused(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's handler for a form without its CSRF token: most often one that was open when somebody signed out."""
    del request, reason
    text = "This form belongs to a session that has ended. Open its page again and send it once more."
    return _page("This form is too old", text, status=403)


def _page(heading: str, text: str, *, status: int) -> HttpResponse:
    # Without the request: neither the session nor the database is asked for anything.
    return HttpResponse(
        render_to_string("dashboard/failed.html", {"heading": heading, "text": text}),
        status=status,
        headers={"Cache-Control": "no-store"},
    )
