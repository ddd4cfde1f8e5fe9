"""Read a request's body as strict JSON of at most 1 MiB. A faulty body is answered with 400, 413 or 415."""

import json
from collections.abc import Mapping
from typing import IO, Any, Final

import orjson
from django.utils.http import parse_header_parameters
from rest_framework.parsers import BaseParser

from rest.errors import BodyTooLarge, JsonInvalid, MediaTypeUnsupported
from rest.limits import MAX_BODY_BYTES

_MAX_DEPTH: Final = 64


class JsonParser(BaseParser):
    """DRF's parser for `application/json`."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Read and parse the body.

        Raises:
            MediaTypeUnsupported: Content-Type is not JSON in UTF-8.
            BodyTooLarge: the body is over 1 MiB. Reading stops there, whatever Content-Length is.
            JsonInvalid: see `parse_json`.
        """
        del parser_context
        kind, parameters = parse_header_parameters(media_type or "")
        if kind != self.media_type or parameters.get("charset", "utf-8").lower() not in {"utf-8", "utf8"}:
            raise MediaTypeUnsupported
        body = _read(stream)
        if len(body) > MAX_BODY_BYTES:
            raise BodyTooLarge
        return parse_json(body)


def parse_json(body: bytes) -> Any:
    """Parse strict JSON (RFC 8259): UTF-8, no lone surrogates, no NaN, no name twice in an object, at most 64 levels.

    Raises:
        JsonInvalid: the body breaks one of these rules. The message names the fault and never quotes the body.
    """
    if not body.strip():
        raise JsonInvalid("The body is empty; it must be a JSON object.")
    try:
        # orjson first: it refuses broken UTF-8, lone surrogates and NaN, which the standard library lets through.
        orjson.loads(body)
    except orjson.JSONDecodeError as fault:
        raise JsonInvalid(f"The body is not valid JSON in UTF-8 (line {fault.lineno}, column {fault.colno}).") from None
    try:
        # Then the standard library: it keeps integers of any size exact, and lets us find a repeated name.
        parsed = json.loads(body, object_pairs_hook=_object)
    except RecursionError:
        raise JsonInvalid("The body is nested too deeply.") from None
    except ValueError:  # an integer of more than 4,300 digits
        raise JsonInvalid("The body contains a number that is too long.") from None
    if _is_too_deep(parsed):
        raise JsonInvalid("The body is nested too deeply.")
    return parsed


def _read(stream: IO[Any]) -> bytes:
    # A server may hand out a chunked body piece by piece.
    body = b""
    while len(body) <= MAX_BODY_BYTES and (piece := stream.read(MAX_BODY_BYTES + 1 - len(body))):
        body += piece
    return body


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonInvalid("The body contains an object with the same name twice.")
    return found


def _is_too_deep(parsed: Any) -> bool:
    level = [parsed]
    for _ in range(_MAX_DEPTH):
        level = (
            [
                inner
                for outer in level
                for inner in (outer.values() if isinstance(outer, dict) else outer)
                if isinstance(inner, dict | list)
            ]
            if all(isinstance(outer, dict | list) for outer in level)
            else []
        )
        if not level:
            return False
    return True
