"""Answers are always JSON, whatever the Accept header is."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class JsonRenderer(BaseRenderer):
    """UTF-8 JSON. The fields keep the serializer's order."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """Encode the body; an answer without data (204) has an empty body."""
        del accepted_media_type, renderer_context
        return b"" if data is None else orjson.dumps(data)


class JsonAlways(BaseContentNegotiation):
    """Never answer 406: a client that asks for another type gets JSON, as from the published service."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        """Return the view's only parser; it refuses other media types itself."""
        del request
        return next(iter(parsers), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """Return the view's first renderer and its media type."""
        del request, format_suffix
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
