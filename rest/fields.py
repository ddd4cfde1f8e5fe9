"""Fields that take a JSON type as it is: a number is no text and "true" is no boolean.

They ask whether a value is well formed and never echo it. A required field refuses null always; an optional one refuses
it in a POST, and takes it in a PATCH as "clear this" (contract, section 1), which rest.serializers arranges.
"""

import re
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rest_framework import serializers
from rest_framework.fields import empty

from gateway_core import ids

NAME_LENGTH: Final = 255
DESCRIPTION_LENGTH: Final = 255
METADATA_LENGTH: Final = 4096

_TIMESTAMP: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(\.\d{1,9})?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
TYPEID_SUFFIX: Final = "[0-7][0-9a-hjkmnp-tv-z]{25}"

_REQUIRED: Final = "This field is required."
_NULL: Final = "This field may not be null."


def id_pattern(prefix: ids.Prefix) -> str:
    """The regular expression of an ID, for the OpenAPI document."""
    return f"^{prefix}_{TYPEID_SUFFIX}$"


class Strict:
    """Required means required, in nested objects of a PATCH too, which DRF would let through."""

    def validate_empty_values(self: Any, data: Any) -> tuple[bool, Any]:
        """DRF's, but for that."""
        if data is empty and self.required and not self.read_only:
            is_of_the_patch_itself = self.parent is None or self.parent is self.root
            if not (is_of_the_patch_itself and getattr(self.root, "partial", False)):
                self.fail("required")
        found: tuple[bool, Any] = super().validate_empty_values(data)  # type: ignore[misc]
        return found


class StrictCharField(Strict, serializers.CharField):
    """A text without control characters.

    A required text must hold something other than white space. An optional text that is empty is one that has no
    value: it is taken as absent in a POST, and as cleared in a PATCH.
    """

    default_error_messages = {
        "required": _REQUIRED,
        "null": _NULL,
        "invalid": "This must be a string.",
        "blank": "This must not be empty.",
        "control": "This holds a control character.",
        "surrogate": "This contains a code point that is not a character.",
    }

    def __init__(self, *, multiline: bool = False, **options: Any) -> None:
        """
        Args:
            multiline: tab and newline are allowed (metadata, description).
            options: DRF's.
        """
        super().__init__(trim_whitespace=False, **options)
        self.multiline = multiline

    def run_validation(self, data: Any = empty) -> Any:
        """Strings only; the rest as DRF."""
        is_absent, data = self.validate_empty_values(data)
        if is_absent:
            return data
        if not isinstance(data, str):
            self.fail("invalid")
        if self.required:
            if not data.strip() and not self.allow_blank:
                self.fail("blank")
        elif not data and not self.allow_blank:
            return None
        value = self.to_internal_value(data)
        self.run_validators(value)
        return value

    def to_internal_value(self, data: Any) -> str:
        """The text itself."""
        text = str(data)
        allowed = "\t\n" if self.multiline else ""
        for character in text:
            if character < " " or "\x7f" <= character <= "\x9f":
                if character not in allowed:
                    self.fail("control")
            elif "\ud800" <= character <= "\udfff":
                self.fail("surrogate")
        return text


class NameField(StrictCharField):
    """`name`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": NAME_LENGTH, **options})


class DescriptionField(StrictCharField):
    """`description`: always optional, may have several lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": DESCRIPTION_LENGTH, "required": False, "multiline": True, **options})


class MetadataField(StrictCharField):
    """`metadata`: always optional, the client's own text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": METADATA_LENGTH, "required": False, "multiline": True, **options})


class StrictBooleanField(Strict, serializers.BooleanField):
    """`true` or `false` and nothing like them."""

    default_error_messages = {"required": _REQUIRED, "null": _NULL, "invalid": "This must be true or false."}

    def to_internal_value(self, data: Any) -> bool:
        """The boolean itself."""
        if not isinstance(data, bool):
            self.fail("invalid")
        return bool(data)


class StrictIntegerField(Strict, serializers.IntegerField):
    """A JSON integer within the bounds of PostgreSQL's bigint, or narrower ones."""

    default_error_messages = {"required": _REQUIRED, "null": _NULL, "invalid": "This must be an integer."}

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_value": 2**63 - 1, "min_value": -(2**63), **options})

    def to_internal_value(self, data: Any) -> int:
        """The integer itself."""
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return int(data)


class StrictChoiceField(Strict, serializers.ChoiceField):
    """One of a few texts. The refusal lists them and does not repeat what was sent."""

    default_error_messages = {"required": _REQUIRED, "null": _NULL}

    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        super().__init__(choices=choices, **options)
        self.error_messages["invalid_choice"] = f"This must be one of: {', '.join(choices)}."

    def to_internal_value(self, data: Any) -> str:
        """The text itself."""
        if not isinstance(data, str) or data not in self.choices:
            self.fail("invalid_choice")
        return str(data)


class StrictListField(Strict, serializers.ListField):
    """A JSON array."""

    default_error_messages = {
        "required": _REQUIRED,
        "null": _NULL,
        "not_a_list": "This must be an array.",
    }


class TimestampField(Strict, serializers.DateTimeField):
    """RFC 3339 with an offset; digits below a microsecond are dropped. A time, as `datetime` in UTC; out as `…Z`."""

    default_error_messages = {
        "required": _REQUIRED,
        "null": _NULL,
        "invalid": "This must be a time as RFC 3339 writes it, with its offset: 2027-01-31T12:00:00Z.",
    }

    def to_internal_value(self, value: Any) -> datetime:
        """The moment, in UTC."""
        found = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            self.fail("invalid")
        date, time, fraction, sign, hours, minutes = found.groups()
        offset = f"{sign}{hours}:{minutes}" if sign else "+00:00"
        try:
            moment = datetime.fromisoformat(f"{date}T{time}{(fraction or '.0')[:7].ljust(7, '0')}{offset}")
            return moment.astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail("invalid")

    def to_representation(self, value: datetime) -> str:
        """`2026-11-22T21:57:00.123456Z`, without the fraction where there is none."""
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


class IdField(Strict, serializers.Field[uuid.UUID, str, str, Any]):
    """A reference to an object by ID: a UUID inside, its text on the wire.

    Whether the account has such an object is the service's question.
    """

    default_error_messages = {
        "required": _REQUIRED,
        "null": _NULL,
        "invalid": "This is not an ID of the kind that this field takes ({prefix}_…).",
    }

    def __init__(self, prefix: ids.Prefix, **options: Any) -> None:
        super().__init__(**options)
        self.prefix = prefix

    def to_internal_value(self, data: Any) -> uuid.UUID:
        """The UUID behind the text."""
        try:
            return ids.from_text(self.prefix, data)
        except ids.InvalidId:
            self.fail("invalid", prefix=str(self.prefix))

    def to_representation(self, value: uuid.UUID) -> str:
        """The text of the ID."""
        return ids.to_text(self.prefix, value)
