"""The form of a dialect: the facts that the data plane asks for."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from gateway_core.catalog import KeyHeader, Surface

_BEARER: Final = KeyHeader()
_USUAL_KEY_HEADERS: Final = {Surface.MESSAGES: KeyHeader(name="x-api-key", prefix="")}


class Dialect(NamedTuple):
    """How one upstream deviates from the format that it speaks."""

    id: str
    # By surface, for those that do not take their key as `Authorization: Bearer`.
    key_headers: Mapping[Surface, KeyHeader] = _USUAL_KEY_HEADERS

    def key_header(self, surface: Surface) -> KeyHeader:
        """The header in which the key is sent on this surface."""
        return self.key_headers.get(surface, _BEARER)
