"""What a client may send back: an object as it was read, with the members that only the server sets."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from rest_framework import serializers

# The server moves these by itself, or writes them by the base that the client called, so an older value is no mistake.
_MOVING: Final = frozenset({"uri", "updatedAt", "lastUpdatedBy", "lastUsed"})


def without_read_only(body: Any, shown: Mapping[str, Any], writable: Collection[str]) -> Any:
    """The body of a PATCH without those members that are read only and say what the object has already.

    Args:
        body: the parsed body, unchecked.
        shown: the object as a GET shows it.
        writable: the members that the form has.

    Raises:
        rest_framework.exceptions.ValidationError: a read-only member differs from the object's own.
    """
    if not isinstance(body, Mapping):
        return body
    read_only = {name for name in body if name in shown and name not in writable}
    faults = {
        name: ["This is read only; leave it out, or send it as it was read."]
        for name in sorted(read_only - _MOVING)
        if _identity(body[name]) != _identity(shown[name])
    }
    if faults:
        raise serializers.ValidationError(faults)
    return {name: value for name, value in body.items() if name not in read_only}


def _identity(value: Any) -> Any:
    """The ID of a link `{id, uri, …}`; any other value as it is."""
    return value.get("id", value) if isinstance(value, Mapping) else value
