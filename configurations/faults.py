"""Collect the faults of a request by JSON path: all of them, not only the first.

Clients write `access` and `router` as nested JSON, where one text can break a rule of form and the next one a rule of
routing. A client wants both faults in one answer, so one walk checks both kinds; it uses these functions. The sentences
are those of rest.fields; none repeats the client's value.

Source: docs/decisions/0031-faults-all-at-once.md.
"""

from collections.abc import Iterator
from typing import Any, Final

from rest_framework.exceptions import ValidationError

from rest.errors import json_path
from rest.fields import StrictCharField
from rest.serializers import unknown_field

# At most this many unknown fields are reported, because each suggestion costs time.
_MOST_UNKNOWN_FIELDS: Final = 20


class Faults:
    """The faults by JSON path. Only the first fault of a path is kept."""

    def __init__(self) -> None:
        self.by_path: dict[str, str] = {}

    def add(self, path: str, sentence: str) -> None:
        """Add a fault, unless this path has one already."""
        self.by_path.setdefault(path, sentence)

    def fields(
        self, value: object, path: str, *, known: tuple[str, ...], required: tuple[str, ...] = ()
    ) -> dict[str, Any] | None:
        """The known fields of a JSON object, or None if the value is not an object.

        A null field is a fault and is not returned: inside `access` and `router` a field can only be left out.
        """
        if not isinstance(value, dict):
            self.add(path, "This must be an object.")
            return None
        unknown = [name for name in value if name not in known]
        for name in unknown[:_MOST_UNKNOWN_FIELDS]:
            self.add(json_path((path, str(name))), unknown_field(str(name), known))
        for name in known:
            if name in value and value[name] is None:
                self.add(f"{path}.{name}", "This field may not be null; leave it out instead.")
            elif name in required and name not in value:
                self.add(f"{path}.{name}", "This field is required.")
        return {name: value[name] for name in known if value.get(name) is not None}

    def items(self, value: object, path: str, *, most: int, least: int = 0) -> Iterator[tuple[str, Any]]:
        """Yield (path, item) of a JSON array. A wrong length is a fault, and then the items are not checked."""
        if not isinstance(value, list):
            self.add(path, "This must be an array.")
        elif len(value) > most:
            self.add(path, f"This must have at most {most} items; it has {len(value)}.")
        elif len(value) < least:
            self.add(path, "This must not be empty.")
        else:
            for place, item in enumerate(value):
                yield f"{path}[{place}]", item

    def text(self, value: object, path: str, *, longest: int) -> str | None:
        """A text of 1 to `longest` characters without control characters; None and a fault for another value."""
        found: str | None = self.field(StrictCharField(max_length=longest), value, path)
        return found

    def field(self, field: StrictCharField, value: object, path: str) -> Any:
        """The value as a field of rest.fields returns it; None and a fault if the field refuses it."""
        try:
            return field.run_validation(value)
        except ValidationError as refusal:
            self.add(path, " ".join(str(sentence) for sentence in _sentences(refusal)))
            return None


def _sentences(refusal: ValidationError) -> list[Any]:
    return refusal.detail if isinstance(refusal.detail, list) else [refusal.detail]
