"""What a client may send back: an object as it was read, with the members that only the server sets."""

from collections.abc import Collection, Mapping
from typing import Any, Final

# The server moves these by itself, or writes them by the base that the client called, so an older value is no mistake.
_MOVING: Final = frozenset({"uri", "updatedAt", "lastUpdatedBy", "lastUsed"})


def without_own(body: Any, shown: Mapping[str, Any], writable: Collection[str]) -> Any:
    """The body of a PATCH without those members that are read only and say what the object has already.

    Any other read-only member stays, so that the form refuses it together with the body's other faults.

    Args:
        body: the parsed body, unchecked.
        shown: the object as a GET shows it.
        writable: the members that the form has.
    """
    if not isinstance(body, Mapping):
        return body
    return {
        name: value
        for name, value in body.items()
        if name in writable or name not in shown or not (name in _MOVING or _identity(value) == _identity(shown[name]))
    }


def _identity(value: Any) -> Any:
    """The ID of a link `{id, uri, …}`; any other value as it is."""
    return value.get("id", value) if isinstance(value, Mapping) else value
