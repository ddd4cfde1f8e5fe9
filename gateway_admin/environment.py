"""The settings that the control plane's processes read from their environment, with the errors that stop a process.

The reading itself is gateway_core.environment, the same for both planes.
"""

import os
from collections.abc import Callable, Mapping
from typing import TypeVar

from gateway_core import environment as core
from gateway_core.environment import EVALUATION, PRODUCTION, EnvironmentIncomplete, ports_of, upstream_rules

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
    "upstream_rules",
]

_Value = TypeVar("_Value")


def read(name: str, default: str = "", *, environ: Mapping[str, str] | None = None) -> str:
    """The value of NAME, or the content of the file that NAME_FILE points to.

    Raises:
        EnvironmentIncomplete: NAME_FILE is set and cannot be read. The message holds the path, never the content.
    """
    return core.read(os.environ if environ is None else environ, name, default)


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
    return core.listed(read(name, default))


def parsed(name: str, parse: Callable[[str], _Value], default: _Value) -> _Value:
    """Read a setting, and parse its text; the default where it is not set.

    Raises:
        EnvironmentIncomplete: `parse` raised a ValueError.
    """
    text = read(name)
    if not text:
        return default
    try:
        return parse(text)
    except ValueError as fault:
        raise EnvironmentIncomplete(f"{name} has an entry that is not valid: {fault}.") from None
