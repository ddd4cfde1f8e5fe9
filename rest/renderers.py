"""Answers are JSON, whatever the client says that it accepts."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class JsonRenderer(BaseRenderer):
    """UTF-8 JSON. Fields keep the order in which the serializer names them."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """The body; empty where there is none (204)."""
        del accepted_media_type, renderer_context
        return b"" if data is None else orjson.dumps(data)


class JsonAlways(BaseContentNegotiation):
    """No 406: a client that asks for something else gets JSON, as from the published service."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        """The one parser; it refuses other media types itself."""
        del request
        return next(iter(parsers), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        """The view's first renderer."""
        del request, format_suffix
        renderer = next(iter(renderers))
        return renderer, renderer.media_type
