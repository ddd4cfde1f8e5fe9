"""The form of a dialect: the facts that the data plane asks for."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway_core.catalog import KeyHeader, Surface
from gateway_core.dialects.error_texts import ErrorText

_BEARER: Final = KeyHeader()
_USUAL_KEY_HEADERS: Final = {Surface.MESSAGES: KeyHeader(name="x-api-key", prefix="")}


class Meaning(NamedTuple):
    """An error that means another status than the one that it comes under. One of `code` and `message` is given.

    Only an error's own members are compared, never all of an answer: a caller's words that an upstream repeats mean
    nothing.
    """

    # 401 an invalid key, 402 nothing to pay with, 403 not allowed to this key.
    means: int
    # One of the error's codes (`code`, `type`, `status`, `reason`), lower case.
    code: str = ""
    # What the error's message begins with, lower case; a regular expression.
    message: str = ""


class Dialect(NamedTuple):
    """How one upstream deviates from the format that it speaks."""

    id: str
    # By surface, for those that do not take their key as `Authorization: Bearer`.
    key_headers: Mapping[Surface, KeyHeader] = _USUAL_KEY_HEADERS
    # The first that fits counts.
    meanings: tuple[Meaning, ...] = ()
    # The headers in which it names a request, the best first.
    request_ids: tuple[str, ...] = ("x-request-id", "request-id")
    # The surfaces where it keeps requests and answers unless it is asked not to.
    stores: frozenset[Surface] = frozenset()
    # Whether it counts the tokens of a request that is not made, at the path of the surface `messages` and this.
    counts_tokens: bool = False

    def key_header(self, surface: Surface) -> KeyHeader:
        """The header in which the key is sent on this surface."""
        return self.key_headers.get(surface, _BEARER)

    def meaning(self, error: ErrorText) -> int:
        """The status that an error means; 0 where it means the one that it comes under."""
        message = error.message.lower()
        for known in self.meanings:
            if known.code in error.codes if known.code else re.match(known.message, message):
                return known.means
        return 0
