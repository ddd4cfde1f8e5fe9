"""The part of a custom provider's form that says how requests to it deviate: `auth`, `headers`, `paths`, `dialect`."""

from collections.abc import Callable
from typing import Any, Final

from dashboard.kit.forms import Field
from gateway_core.catalog import Surface
from gateway_core.dialects import DIALECTS
from providers.models import Provider

NAMES: Final = ("auth", "headers", "paths", "dialect")
HEADER: Final = "auth-header"
PREFIX: Final = "auth-prefix"
_PATH: Final = "path-"

FIELDS: Final = (
    Field(HEADER, "Header of the key", placeholder="api-key", hint="If left out, usually Authorization with Bearer."),
    Field(PREFIX, "Before the key", placeholder="Bearer ", hint="With the space, if there is one."),
    Field(
        "headers",
        "Static headers",
        "textarea",
        placeholder="x-region: eu",
        hint="One a line; every request gets them. Secrets are provider keys.",
    ),
    *(
        Field(
            f"{_PATH}{surface}",
            f"Path of {surface}",
            placeholder=f"/openai/deployments/{{model}}{surface.path}?api-version=2024-10-21"
            if surface is Surface.CHAT_COMPLETIONS
            else surface.path,
        )
        for surface in Surface
    ),
    Field(
        "dialect",
        "Dialect",
        "choice",
        choices=(("", "That of the format"), *((name, name) for name in DIALECTS)),
        hint="Whose errors and parameters it has.",
    ),
)
PATHS: Final = tuple(f"{_PATH}{surface}" for surface in Surface)


def present(provider: Provider) -> dict[str, Any]:
    """The values of the fields for a provider."""
    auth = provider.auth or {}
    return {
        HEADER: auth.get("header"),
        PREFIX: auth.get("prefix"),
        "headers": "\n".join(f"{name}: {value}" for name, value in (provider.headers or {}).items()),
        **{f"{_PATH}{surface}": path for surface, path in (provider.paths or {}).items()},
        "dialect": provider.dialect,
    }


def written(value_of: Callable[[str], str]) -> dict[str, Any]:
    """What the fields say, by the API's names; None where they say nothing.

    Args:
        value_of: the submitted value of a field.
    """
    header, prefix = value_of(HEADER), value_of(PREFIX)
    auth = {"header": header} | ({"prefix": prefix} if prefix else {}) if header or prefix else None
    paths = {str(surface): path for surface in Surface if (path := value_of(f"{_PATH}{surface}"))}
    return {
        "auth": auth,
        "headers": _headers(value_of("headers")) or None,
        "paths": paths or None,
        "dialect": value_of("dialect") or None,
    }


def field_at(path: str) -> str:
    """The name of the field for a JSON path of the request; the path again if it is none of these."""
    if path in {"auth", "auth.header"}:
        return HEADER
    if path == "auth.prefix":
        return PREFIX
    if path.startswith("paths."):
        return path.replace("paths.", _PATH, 1)
    return PATHS[0] if path == "paths" else path


def _headers(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.split("\n"):
        name, _, value = line.strip().partition(":")
        if not name and not value:
            continue
        # A name that stands there twice is kept, so that the API refuses it.
        while name in found:
            name += " "
        found[name] = value.strip()
    return found
