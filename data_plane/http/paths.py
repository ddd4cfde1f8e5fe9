"""Which path of the worker a caller means, however its client puts base URL and path together.

Clients disagree on whether `/v1` belongs to the base URL, and people put a slash too many. What can mean one path only
is served; anything else is answered with the paths that there are.

Source: contract, section 9; docs/decisions/0087-calls-beside-the-surfaces.md.
"""

from typing import Any, Final

from gateway_core.catalog import Format, Surface

COUNT_TOKENS: Final = f"/v1{Surface.MESSAGES.path}/count_tokens"
MODELS: Final = "/v1/models"
# The paths that are forwarded.
SURFACES: Final = {f"/v1{surface.path}": surface for surface in Surface} | {COUNT_TOKENS: Surface.MESSAGES}
# For uptime checks and people; the last is where Claude Code looks whether there is a network.
GREETINGS: Final = frozenset({"/", "/v1", "/api/hello"})
GREETING: Final = (
    b'{"status":"ok","message":"This is a gateway for AI models. OpenAI clients take this address with /v1 behind it '
    b'as their base URL, Anthropic clients this address alone."}'
)
_NOTHING: Final = "There is nothing at this path."
_OPENAIS: Final = "OpenAI clients take this server's address with /v1 behind it as their base URL"
_ANTHROPICS: Final = "Anthropic clients take this server's address alone, without /v1, as their base URL"


def meant(path: str) -> str:
    """The path of the worker that a path means: the same one if it is one, or if it means none."""
    if path in SURFACES or path == MODELS:
        return path
    head, marked, name = path.partition("/models/")
    parts = [part for part in head.split("/") if part]
    own = [part for part in parts if part != "v1"]
    if parts[len(parts) - len(own) :] != own:
        # `v1` within it.
        return path
    if marked:
        return path if own or not name else f"{MODELS}/{name}"
    found = f"/v1/{'/'.join(own)}"
    if found in SURFACES or found == MODELS:
        return found
    return "/v1" if parts and not own else path


def surface_of(scope: Any) -> Surface | None:
    """The surface of a request, None for what is not forwarded. Its scope then has the path that it means."""
    surface = SURFACES.get(scope["path"])
    if surface is None:
        scope["path"] = meant(scope["path"])
        surface = SURFACES.get(scope["path"])
    return surface


def format_of(path: str, headers: Any) -> Format:
    """Whose format an answer has at a path that is not forwarded: the one that the caller shows to speak.

    Args:
        path: as it came.
        headers: ASGI's.
    """
    if "messages" in path.split("/") or any(name == b"anthropic-version" for name, _ in headers):
        return Format.ANTHROPIC
    return Format.OPENAI


def nothing_at(path: str) -> str:
    """The message for a path that means none of the worker's: where what it seems to mean is."""
    plain = f"/{'/'.join(part for part in path.split('/') if part)}"
    for known, surface in sorted(SURFACES.items(), key=lambda one: -len(one[0])):
        if plain.endswith(known.removeprefix("/v1")):
            whose = _ANTHROPICS if surface is Surface.MESSAGES else _OPENAIS
            return f"{_NOTHING} It is {known} here: {whose}."
    if plain.endswith("/models"):
        return f"{_NOTHING} It is {MODELS} here: {_OPENAIS}; {_ANTHROPICS}."
    return f"{_NOTHING} {_OPENAIS}; {_ANTHROPICS}."
