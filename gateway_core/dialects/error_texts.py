"""What an upstream's error says: its codes and its message, in whichever of the known forms it was written.

Source: https://platform.openai.com/docs/guides/error-codes, https://docs.anthropic.com/en/api/errors,
https://cloud.google.com/apis/design/errors; the forms of xAI, Mistral AI, vLLM, FastAPI and MiniMax.
"""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

_CODES: Final = ("code", "type", "status", "reason", "status_code", "error_code")
_MESSAGES: Final = ("message", "detail", "msg", "error_msg", "status_msg", "error_message", "title", "error")
_STATUSES: Final = range(400, 600)
_MOST_CODES: Final = 20
_LONGEST_CODE: Final = 100
_DEEPEST: Final = 4
_FAILED_TYPES: Final = frozenset({"error", "response.failed"})


class ErrorText(NamedTuple):
    """An error as far as it can be read."""

    # Lower case.
    codes: frozenset[str] = frozenset()
    message: str = ""
    # An HTTP status that stands in it, 0 if there is none.
    status: int = 0


def is_error(payload: object) -> bool:
    """Whether a decoded event or answer is an error, though its status says otherwise."""
    if not isinstance(payload, dict):
        return False
    kind = payload.get("type")
    return (
        (isinstance(kind, str) and kind in _FAILED_TYPES)
        or payload.get("object") == "error"
        or bool(payload.get("error"))
        or _status_of(payload.get("base_resp")) > 0
    )


def read(text: bytes | str) -> ErrorText:
    """What the error in a text says; nothing, if it is no JSON."""
    try:
        payload = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorText()
    return error_text(payload)


def error_text(payload: object) -> ErrorText:
    """What the error in a decoded answer or event says."""
    codes: set[str] = set()
    message = ""
    status = 0
    for part in _parts(payload, _DEEPEST):
        for name in _CODES:
            value = part.get(name)
            if isinstance(value, str) and len(value) <= _LONGEST_CODE and len(codes) < _MOST_CODES:
                codes.add(value.lower())
            elif type(value) is int and value in _STATUSES:
                status = status or value
        # The inmost message is the upstream's own; what is around it was written by who passed it on.
        found = next((text for name in _MESSAGES if isinstance(text := part.get(name), str) and text), "")
        message = found if found and not found.lstrip().startswith("{") else message
    return ErrorText(frozenset(codes), message, status)


def _parts(payload: object, depth: int) -> Iterator[dict[str, Any]]:
    """The objects that describe the error, from the outside in."""
    if isinstance(payload, list):
        # Gemini's answers in OpenAI's form are lists of one error.
        payload = payload[0] if payload else None
    if not isinstance(payload, dict) or not depth:
        return
    yield payload
    for name in ("response", "base_resp", "error"):
        yield from _parts(payload.get(name), depth - 1)
    details = payload.get("details")
    for detail in details[:5] if isinstance(details, list) else ():
        if isinstance(detail, dict):
            yield {"reason": detail.get("reason")}
    metadata = payload.get("metadata")
    for nested in (payload.get("message"), metadata.get("raw") if isinstance(metadata, dict) else None):
        # Some pass on another upstream's error as a text within theirs.
        if isinstance(nested, str) and nested.lstrip().startswith("{"):
            try:
                yield from _parts(msgspec.json.decode(nested), depth - 1)
            except (msgspec.DecodeError, RecursionError):
                continue


def _status_of(part: object) -> int:
    value = part.get("status_code") if isinstance(part, dict) else None
    return value if type(value) is int else 0
