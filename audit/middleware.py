"""Makes a request's origin available to every write within it."""

from collections.abc import Callable

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from audit import origin


class OriginMiddleware:
    """Must run after rest.middleware, which finds the client's address, and after the request ID's middleware."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on with its address, browser and ID as the origin of its writes."""
        with origin.of_request(
            address=str(request.META.get("REMOTE_ADDR", "")),
            user_agent=request.headers.get("User-Agent", ""),
            request_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
        ):
            return self.get_response(request)
