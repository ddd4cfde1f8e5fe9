"""The settings that processes read from their environment, with the errors that stop a process at its start.

Every name may also be given as NAME_FILE, the path of a file that holds the value: the form that container
platforms use for secrets.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from gateway_core import environment as core
from gateway_core.environment import EVALUATION, PRODUCTION, EnvironmentIncomplete

__all__ = [
    "EVALUATION",
    "PRODUCTION",
    "EnvironmentIncomplete",
    "is_on",
    "mode",
    "names",
    "parsed",
    "ports_of",
    "read",
]

_Value = TypeVar("_Value")


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
    """The mode, `evaluation` or `production`. The default is evaluation, or production once a server is named.

    Source: docs/decisions/0002-modes.md.
    """
    return core.mode(os.environ if environ is None else environ)


def is_on(name: str, *, default: bool, environ: Mapping[str, str] | None = None) -> bool:
    """Read a boolean setting: 1, true, yes or on; 0, false, no or off.

    Raises:
        EnvironmentIncomplete: it has another value.
    """
    text = read(name, environ=environ).lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise EnvironmentIncomplete(f"{name} is true or false, not {text!r}.")


def names(name: str, default: str = "") -> list[str]:
    """Read a comma-separated list. White space around the entries and empty entries are dropped."""
    return [part.strip() for part in read(name, default).split(",") if part.strip()]


def parsed(name: str, parse: Callable[[list[str]], _Value]) -> _Value:
    """Read a comma-separated list, and parse its entries.

    Raises:
        EnvironmentIncomplete: `parse` raised a ValueError.
    """
    try:
        return parse(names(name))
    except ValueError as fault:
        raise EnvironmentIncomplete(f"{name} has an entry that is not valid: {fault}.") from None


def ports_of(*urls: str) -> frozenset[int]:
    """The ports in these URLs of servers."""
    return frozenset(port for port in (urlsplit(url).port for url in urls) if port)
