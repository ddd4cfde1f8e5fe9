"""What the processes read from their environment, and what they refuse to start without.

Every name may also be given as NAME_FILE, the path of a file that holds the value: the form that container
platforms use for secrets.
"""

import os
from collections.abc import Mapping
from pathlib import Path

EVALUATION = "evaluation"
PRODUCTION = "production"


class EnvironmentIncomplete(Exception):
    """Settings that this mode requires are missing or malformed; the message names each of them."""


def read(name: str, default: str = "", *, environ: Mapping[str, str] | None = None) -> str:
    """The value of NAME, or the content of the file that NAME_FILE points to.

    Raises:
        EnvironmentIncomplete: NAME_FILE is set and cannot be read. The message holds the path, never the content.
    """
    environ = os.environ if environ is None else environ
    if environ.get(name):
        return environ[name]
    path = environ.get(f"{name}_FILE")
    if not path:
        return default
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise EnvironmentIncomplete(
            f"{name}_FILE points to {path}, which cannot be read: {type(fault).__name__}."
        ) from None


def mode(environ: Mapping[str, str] | None = None) -> str:
    """`evaluation` or `production`; evaluation by default only while no server is named.

    Source: docs/decisions/0002-modes.md.
    """
    environ = os.environ if environ is None else environ
    chosen = environ.get("GATEWAY_MODE", "")
    if chosen:
        if chosen not in {EVALUATION, PRODUCTION}:
            raise EnvironmentIncomplete(f"GATEWAY_MODE is {EVALUATION} or {PRODUCTION}, not {chosen!r}.")
        return chosen
    has_server = any(environ.get(name) for name in ("DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL", "REDIS_URL_FILE"))
    return PRODUCTION if has_server else EVALUATION


def is_on(name: str, *, default: bool, environ: Mapping[str, str] | None = None) -> bool:
    """A yes-or-no setting: 1, true, yes, on; 0, false, no, off."""
    text = read(name, environ=environ).lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise EnvironmentIncomplete(f"{name} is true or false, not {text!r}.")


def names(name: str, default: str = "") -> list[str]:
    """A comma-separated list, without its blanks."""
    return [part.strip() for part in read(name, default).split(",") if part.strip()]
