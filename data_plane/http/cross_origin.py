"""Callers in a browser's page: which origins may ask, as CORS has it.

The access key comes in a header, never in a cookie, so no credentials are allowed, and an answer that a page may not
read is only one that its browser withholds: the key is what protects.

Source: https://fetch.spec.whatwg.org/#http-cors-protocol; docs/decisions/0088-requests-as-callers-send-them.md.
"""

import re
from typing import Any, Final

Headers = list[tuple[bytes, bytes]]

ANY: Final = "*"
_NAMES: Final = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+(?:[ \t]*,[ \t]*[A-Za-z0-9!#$%&'*+.^_`|~-]+)*")
# The wildcard is for what upstreams send; browsers that do not know it read the names.
_EXPOSED: Final = (
    b"*, x-request-id, request-id, gateway-attempts, gateway-error, gateway-estimated, gateway-model, "
    b"gateway-provider, gateway-rejected-models, gateway-removed-params, gateway-upstream-request-id, retry-after, "
    b"retry-after-ms, x-should-retry"
)
_METHODS: Final = b"GET, HEAD, POST"
# Chromium keeps it no longer.
_KEPT_SECONDS: Final = b"7200"
_VARY: Final = (b"vary", b"Origin")


class CrossOrigin:
    """The origins that may ask."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        """
        Args:
            origins: as browsers send them, `*` for any; none allows none.
        """
        self.is_on = bool(origins)
        self._origins = frozenset(origin.encode() for origin in origins)
        self._is_any = ANY in origins

    def headers(self, scope: Any) -> Headers:
        """What every answer to this request says of it."""
        origin = _header(scope, b"origin")
        if origin is None or not (self._is_any or origin in self._origins):
            return [] if self._is_any else [_VARY]
        allowed = [(b"access-control-allow-origin", ANY.encode() if self._is_any else origin)]
        if not self._is_any:
            allowed.append(_VARY)
        return [*allowed, (b"access-control-expose-headers", _EXPOSED)]

    @staticmethod
    def preflight(scope: Any) -> Headers | None:
        """The headers that answer a browser's question before a request; None for any other request."""
        if scope["method"] != "OPTIONS" or _header(scope, b"origin") is None:
            return None
        if _header(scope, b"access-control-request-method") is None:
            return None
        told = [(b"access-control-allow-methods", _METHODS), (b"access-control-max-age", _KEPT_SECONDS)]
        wanted = _header(scope, b"access-control-request-headers")
        if wanted is not None and _NAMES.fullmatch(wanted):
            told.append((b"access-control-allow-headers", wanted))
        return told


def _header(scope: Any, wanted: bytes) -> bytes | None:
    return next((value for name, value in scope["headers"] if name == wanted), None)
