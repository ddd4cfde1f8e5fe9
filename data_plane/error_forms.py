"""How an error is written: as an answer, with its headers, and as the end of a stream.

Source: contract, section 9. The forms are those that the packages of OpenAI and Anthropic read.
"""

import math
import time
from typing import Any, Final, NamedTuple

import msgspec

from data_plane.errors import GatewayError, MethodNotAllowed, NotAuthorized
from gateway_core.catalog import Format

_OPENAI_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_SERVER_ERROR: Final = 500
_MILLISECONDS: Final = 1000


def body(error: GatewayError, written_as: Format, request_id: str = "") -> bytes:
    """The error as the caller's client library reads it."""
    return msgspec.json.encode(_told(error, written_as, request_id))


def headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that is this error, but for its length."""
    found = [(b"content-type", b"application/json"), (b"gateway-error", error.code.encode()), *error.headers]
    if error.is_lasting:
        found.append((b"x-should-retry", b"false"))
    if (wait := error.retry_after) is not None:
        found.append((b"retry-after", b"%d" % math.ceil(wait)))
        if wait != int(wait):
            found.append((b"retry-after-ms", b"%d" % math.ceil(wait * _MILLISECONDS)))
    if isinstance(error, NotAuthorized):
        found.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, MethodNotAllowed):
        found.append((b"allow", error.allow.encode()))
    return found


def event(error: GatewayError, written_as: Format, request_id: str = "") -> bytes:
    """The error as the last event of a stream that has already begun."""
    lead = b"event: error\n" if written_as is Format.ANTHROPIC else b""
    return lead + b"data: " + body(error, written_as, request_id) + b"\n\n"


class BegunResponse(NamedTuple):
    """A stream on the surface `responses` that has to end."""

    id: str
    model: str
    # The number of the last event that was passed on.
    sequence_number: int


def response_events(error: GatewayError, begun: BegunResponse) -> bytes:
    """The error as the end of a stream on the surface `responses`: the response has failed, and why.

    Some clients read only the one event, some only the other.
    """
    failed = {
        "id": begun.id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "failed",
        "error": {"code": error.code, "message": error.message},
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": begun.model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }
    number = begun.sequence_number + 1
    inner = _told(error, Format.OPENAI, "")["error"]
    told = {"message": error.message, "code": error.code, "param": error.param, "error": inner}
    return _named("response.failed", number, {"response": failed}) + _named("error", number + 1, told)


def _named(name: str, number: int, members: dict[str, Any]) -> bytes:
    data = msgspec.json.encode({"type": name, "sequence_number": number} | members)
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _told(error: GatewayError, written_as: Format, request_id: str) -> dict[str, Any]:
    is_ours = error.status >= _SERVER_ERROR
    if written_as is Format.ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(error.status, "api_error" if is_ours else "invalid_request_error")
        told = {"type": "error", "error": {"type": kind, "message": error.message}}
        return told | {"request_id": request_id} if request_id else told
    kind = _OPENAI_TYPES.get(error.status, "server_error" if is_ours else "invalid_request_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}
