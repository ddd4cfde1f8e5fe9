"""The limits of a request that the settings of Django share with this room. Imports nothing, so that they can."""

from typing import Final

MAX_BODY_BYTES: Final = 1024 * 1024
