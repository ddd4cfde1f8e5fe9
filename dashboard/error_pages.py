"""Error pages outside of the normal pages. They do as little as possible, because nothing may fail here."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.middleware import csrf
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
    """Django's handler for a form without a valid CSRF token; the page names the cause.

    Usually the form was open when the user signed out. In a new deployment the page may have come without TLS, and then
    no browser keeps its cookie. Or a proxy is not trusted, and then the gateway does not know its own address.
    """
    if reason == csrf.REASON_NO_CSRF_COOKIE and settings.CSRF_COOKIE_SECURE and not request.is_secure():
        return _page(
            "This page needs HTTPS",
            "Browsers keep the cookie of this page only over HTTPS, and this page came over HTTP. Open it with "
            "https://. If you did, the proxy in front does not pass X-Forwarded-Proto, or TRUSTED_PROXIES does not "
            "name the proxy.",
            status=403,
        )
    origin = request.META.get("HTTP_ORIGIN", "")
    if origin and reason == csrf.REASON_BAD_ORIGIN % origin:
        here = f"{request.scheme}://{request.get_host()}"
        return _page(
            "This form came from another address",
            f"Your browser says that it is at {origin}, and the gateway understands its own address as {here}. "
            "If both are this gateway, the proxy in front does not pass X-Forwarded-Proto and X-Forwarded-Host, or "
            "TRUSTED_PROXIES does not name the proxy.",
            status=403,
        )
    text = "This form belongs to a session that has ended. Open its page again and send it once more."
    return _page("This form is too old", text, status=403)


def _page(heading: str, text: str, *, status: int) -> HttpResponse:
    # Rendered without the request, so that neither the session nor the database is read.
    return HttpResponse(
        render_to_string("dashboard/failed.html", {"heading": heading, "text": text}),
        status=status,
        headers={"Cache-Control": "no-store"},
    )
