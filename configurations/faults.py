"""The faults of a request, by JSON path: all of them at once, not the first alone.

Clients write `access` and `router` as nested JSON, where one text can break a rule of form and the next one a rule of
routing. Whoever fixes a router wants both told in one answer, so both are looked for in one walk, which these few
functions share. The sentences are those of rest.fields; none repeats what the client wrote.

Source: docs/decisions/0031-faults-all-at-once.md.
"""

from collections.abc import Iterator
from typing import Any, Final

from rest_framework.exceptions import ValidationError

from rest.errors import json_path
from rest.fields import StrictCharField
from rest.serializers import unknown_field

# Of a machine's rubbish the first few fields tell enough, and each suggestion costs time.
_MOST_UNKNOWN_FIELDS: Final = 20


class Faults:
    """What is wrong, by JSON path. The first fault of a place is the one that is told."""

    def __init__(self) -> None:
        self.by_path: dict[str, str] = {}

    def add(self, path: str, sentence: str) -> None:
        """Tell of a fault."""
        self.by_path.setdefault(path, sentence)

    def fields(
        self, value: object, path: str, *, known: tuple[str, ...], required: tuple[str, ...] = ()
    ) -> dict[str, Any] | None:
        """The known fields of a JSON object, or None where the value is none.

        Fields that are null are faults and not returned: inside `access` and `router` nothing can be cleared, only
        left out.
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
        """The items of a JSON array, each with its path. One of the wrong length is a fault and is not looked into."""
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
        """A text of 1 to `longest` characters, none of them a control character; None where the value is none."""
        found: str | None = self.field(StrictCharField(max_length=longest), value, path)
        return found

    def field(self, field: StrictCharField, value: object, path: str) -> Any:
        """What a field of rest.fields makes of the value; None where it refuses it."""
        try:
            return field.run_validation(value)
        except ValidationError as refusal:
            self.add(path, " ".join(str(sentence) for sentence in _sentences(refusal)))
            return None


def _sentences(refusal: ValidationError) -> list[Any]:
    return refusal.detail if isinstance(refusal.detail, list) else [refusal.detail]
