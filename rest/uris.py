"""Absolute URIs, built on the base URI that the client called (rest.middleware finds it)."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from rest_framework.request import Request


def base_of(request: Request | HttpRequest) -> str:
    """`https://gateway.example.com/prefix`, without a slash at the end."""
    prefix = str(request.META.get("SCRIPT_NAME", "")).rstrip("/")
    return f"{request.scheme}://{request.get_host()}{prefix}"


def absolute(request: Request | HttpRequest, path: str) -> str:
    """The absolute URI of a path that has no leading slash, for example `access-keys/aigk_…`."""
    return f"{base_of(request)}/{path}"


def own(request: Request | HttpRequest) -> str:
    """The request's own URI with its query."""
    return f"{request.scheme}://{request.get_host()}{request.get_full_path()}"


def own_with(request: Request | HttpRequest, **query: Any) -> str:
    """The request's own URI; the given query parameters replace its own, the others stay."""
    kept = [(name, value) for name, values in request.GET.lists() if name not in query for value in values]
    return f"{request.scheme}://{request.get_host()}{request.path}?{urlencode([*kept, *query.items()])}"
