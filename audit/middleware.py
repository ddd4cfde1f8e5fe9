"""Lets every write of a request know where it came from."""

from collections.abc import Callable

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from audit import origin


class OriginMiddleware:
    """Stands after rest.middleware, which settles the address, and after what gives the request its ID."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Pass the request on."""
        with origin.of_request(
            address=str(request.META.get("REMOTE_ADDR", "")),
            user_agent=request.headers.get("User-Agent", ""),
            request_id=str(structlog.contextvars.get_contextvars().get("request_id", "")),
        ):
            return self.get_response(request)
