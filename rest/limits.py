"""The limits of a request that Django's settings use too. The settings import this module, so it imports no app."""

from typing import Final

MAX_BODY_BYTES: Final = 1024 * 1024
