"""Settings that both planes read from their environment in the same way. The environment is passed as a mapping."""

from collections.abc import Mapping
from typing import Final

EVALUATION: Final = "evaluation"
PRODUCTION: Final = "production"

_SERVERS: Final = ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE")


class EnvironmentIncomplete(Exception):
    """Settings that this mode requires are missing or malformed; the message names each of them."""


def mode(environ: Mapping[str, str]) -> str:
    """The mode, `evaluation` or `production`. The default is evaluation, or production once a server is named.

    Raises:
        EnvironmentIncomplete: GATEWAY_MODE has another value.

    Source: docs/decisions/0002-modes.md.
    """
    chosen = environ.get("GATEWAY_MODE", "")
    if chosen:
        if chosen not in {EVALUATION, PRODUCTION}:
            raise EnvironmentIncomplete(f"GATEWAY_MODE is {EVALUATION} or {PRODUCTION}, not {chosen!r}.")
        return chosen
    return PRODUCTION if any(environ.get(name) for name in _SERVERS) else EVALUATION
