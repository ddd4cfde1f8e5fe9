"""Which headers pass: from the caller to an upstream, and from an upstream to the caller.

Source: contract, section 9; RFC 9110, sections 5.5 and 7.6.1.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

Headers = list[tuple[bytes, bytes]]

_HOP_BY_HOP: Final = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-authentication-info",
        "proxy-connection",
        "te",
        "trailer",
        "trailers",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    )
)
# Headers that may hold credentials, show where the request came from, or concern only this connection.
_NOT_UPSTREAM: Final = _HOP_BY_HOP | {
    "authorization",
    "x-api-key",
    "api-key",
    "x-goog-api-key",
    "ocp-apim-subscription-key",
    "cookie",
    "cookie2",
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "accept-encoding",
    "expect",
    "origin",
    "referer",
    "forwarded",
    "via",
    "true-client-ip",
    "client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-real-ip",
    "x-original-url",
    "x-rewrite-url",
    "x-request-id",
    "x-amzn-trace-id",
}
_NOT_UPSTREAM_LEADS: Final = ("x-forwarded", "x-envoy", "x-original-", "cf-", "gateway-", "sec-", "proxy-", "fly-")
# The upstream's cookies and account names, and headers that the server or this gateway sets itself.
_NOT_DOWNSTREAM: Final = _HOP_BY_HOP | {
    "set-cookie",
    "set-cookie2",
    "content-length",
    "date",
    "server",
    "via",
    "alt-svc",
    "strict-transport-security",
    "location",
    "x-request-id",
    "openai-organization",
    "openai-project",
    "anthropic-organization-id",
    "www-authenticate",
    "nel",
    "report-to",
}
_NOT_DOWNSTREAM_LEADS: Final = ("gateway-", "access-control-", "cf-")
# What a header may consist of. The client reads more from an upstream than the server sends: it would drop the answer.
_TOKEN: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def upstream(received: Iterable[tuple[bytes, bytes]], token: bytes) -> dict[bytes, bytes]:
    """The caller's headers that an upstream may see.

    Args:
        received: ASGI's headers, names in lower case.
        token: the access key; no header with it passes, whatever its name.
    """
    passed: dict[bytes, bytes] = {}
    named: Iterable[bytes] = ()
    for name, value in received:
        if name == b"connection":
            named = (*named, *_named(value))
        elif _passes_up(name) and token not in value and value.isascii():
            passed[name] = b"%b, %b" % (passed[name], value) if name in passed else value
    for name in named:
        passed.pop(name, None)
    return passed


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


def _named(value: bytes) -> Iterable[bytes]:
    """The headers that a `Connection` header names: they concern one connection only."""
    return (part.strip().lower() for part in value.split(b","))


# Cached, because the same few names come again and again.
@lru_cache(maxsize=1024)
def _passes_up(name: bytes) -> bool:
    text = name.decode("latin-1")
    return text not in _NOT_UPSTREAM and not text.startswith(_NOT_UPSTREAM_LEADS)


@lru_cache(maxsize=1024)
def _passing_down(raw_name: bytes) -> bytes:
    """The name in lower case, empty if it does not pass."""
    name = raw_name.lower()
    text = name.decode("latin-1")
    is_ours = text in _NOT_DOWNSTREAM or text.startswith(_NOT_DOWNSTREAM_LEADS)
    return b"" if is_ours or not _TOKEN.fullmatch(name) else name
