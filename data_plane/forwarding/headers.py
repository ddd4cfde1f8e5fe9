"""Which headers pass: from the caller to an upstream, and from an upstream to the caller. What is not listed does not.

Upstreams take orders by headers too (another host, another user, another method), and servers on WSGI read `a_b` as
`a-b`. So a name with an underscore passes only if it is listed as it is.

Source: contract, section 9; RFC 9110, sections 5.5 and 7.6.1; docs/decisions/0083-what-passes.md.
"""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from data_plane.errors import AccessKeyInQuery, BadRequest
from gateway_core.catalog import BUILT_IN

Headers = list[tuple[bytes, bytes]]

# Of both vendors' packages, of Claude Code and of Codex, and of tracing. `content-type` is the gateway's own.
_UPSTREAM: Final = frozenset(
    (
        *("accept", "user-agent", "traceparent", "tracestate", "idempotency-key", "x-client-request-id"),
        *("session_id", "session-id", "conversation_id", "conversation-id", "thread-id", "originator", "version"),
        *("x-app", "x-openai-subagent"),
    )
)
_UPSTREAM_LEADS: Final = ("openai-", "anthropic-", "x-stainless-", "x-codex-", "x-claude-code-")
# Headers that only some built-in providers read. They are sent to those alone.
_NAMED_BY: Final = {
    provider.id: frozenset(name.encode("ascii") for name in provider.headers) for provider in BUILT_IN.values()
}
_NAMED_BY_ANY: Final = frozenset[bytes]().union(*_NAMED_BY.values())
_NONE: Final = frozenset[bytes]()

_DOWNSTREAM: Final = frozenset(
    (
        *("content-type", "content-language", "content-disposition"),
        *("cache-control", "expires", "etag", "last-modified", "age", "vary", "pragma", "x-accel-buffering"),
        *("retry-after", "retry-after-ms", "x-should-retry", "deprecation", "sunset", "warning"),
        *("ratelimit", "openai-processing-ms", "openai-version", "openai-model", "x-generation-id"),
        *("x-reasoning-included", "x-models-etag"),
    )
)
_DOWNSTREAM_LEADS: Final = (
    *("x-ratelimit-", "ratelimit-", "anthropic-ratelimit-", "anthropic-priority-", "anthropic-fast-", "x-codex-"),
    *("fireworks-", "x-groq-"),
)
_FIRST_PRINTABLE: Final = 0x21
_LAST_PRINTABLE: Final = 0x7E
# What a header may consist of. Upstreams send headers that uvicorn refuses, and it would drop the whole answer.
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# A text may be percent-encoded several times over.
_MOST_DECODINGS: Final = 4


def upstream(received: Iterable[tuple[bytes, bytes]], token: bytes) -> dict[bytes, bytes]:
    """The caller's headers that some upstream may see; `for_provider` takes from them those that this one may.

    Args:
        received: ASGI's headers, names in lower case.
        token: the access key; no header with it passes, however it is written.
    """
    passed: dict[bytes, bytes] = {}
    named: Iterable[bytes] = ()
    for name, value in received:
        if name == b"connection":
            named = (*named, *_named(value))
        elif _passes_up(name) and value.isascii() and not holds(value, token):
            passed[name] = b"%b, %b" % (passed[name], value) if name in passed else value
    for name in named:
        passed.pop(name, None)
    return passed


def for_provider(passed: Mapping[bytes, bytes], provider: str) -> dict[bytes, bytes]:
    """A copy of the headers that passed, without those that only other providers read."""
    of_others = passed.keys() & _NAMED_BY_ANY - _NAMED_BY.get(provider, _NONE) if _NAMED_BY_ANY else _NONE
    return {name: value for name, value in passed.items() if name not in of_others} if of_others else dict(passed)


def downstream(received: Iterable[tuple[bytes, bytes]]) -> Headers:
    """An upstream's headers that the caller may see, lower case, without their length and without malformed ones."""
    named: Iterable[bytes] = ()
    passed: Headers = []
    for raw_name, value in received:
        name = _passing_down(raw_name)
        if name and not _CONTROL.search(value):
            passed.append((name, value))
        elif raw_name.lower() == b"connection":
            named = (*named, *_named(value))
    return [(name, value) for name, value in passed if name not in named] if named else passed


def holds(text: bytes, token: bytes) -> bool:
    """Whether a text holds the token, also percent-encoded, several times over."""
    for _ in range(_MOST_DECODINGS):
        if token in text:
            return True
        decoded = unquote_to_bytes(text) if b"%" in text else text
        if decoded == text:
            return False
        text = decoded
    # Nobody encodes a text so often without a reason.
    return True


def query(raw: bytes, token: bytes) -> bytes:
    """The caller's query as it goes on behind the upstream's own.

    Args:
        raw: as it came.
        token: the access key.

    Raises:
        AccessKeyInQuery: it holds the access key.
        BadRequest: it is not percent-encoded.
    """
    if raw and holds(raw, token):
        raise AccessKeyInQuery
    if raw and (min(raw) < _FIRST_PRINTABLE or max(raw) > _LAST_PRINTABLE):
        raise BadRequest("The query must be percent-encoded.")
    return raw


def _named(value: bytes) -> Iterable[bytes]:
    """The headers that a `Connection` header names: they concern one connection only."""
    return (part.strip().lower() for part in value.split(b","))


# Cached, because the same few names come again and again.
@lru_cache(maxsize=1024)
def _passes_up(name: bytes) -> bool:
    text = name.decode("latin-1")
    return text in _UPSTREAM or name in _NAMED_BY_ANY or (text.startswith(_UPSTREAM_LEADS) and "_" not in text)


@lru_cache(maxsize=1024)
def _passing_down(raw_name: bytes) -> bytes:
    """The name in lower case, empty if it does not pass."""
    name = raw_name.lower()
    text = name.decode("latin-1")
    is_listed = text in _DOWNSTREAM or text.startswith(_DOWNSTREAM_LEADS)
    return name if is_listed and _TOKEN.fullmatch(name) else b""
