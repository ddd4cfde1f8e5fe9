"""Fields that convert no JSON type: a number is not a text, and "true" is not a boolean.

They check whether a value is well formed, and their errors never repeat it. A required field always refuses null. An
optional one refuses null in a POST; in a PATCH null clears the field (contract, section 1; see rest.serializers).
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
    """A required field is required in nested objects of a PATCH too; DRF does not check that."""

    def validate_empty_values(self: Any, data: Any) -> tuple[bool, Any]:
        """As DRF, and refuse a missing required field of a nested object."""
        if data is empty and self.required and not self.read_only:
            is_of_the_patch_itself = self.parent is None or self.parent is self.root
            if not (is_of_the_patch_itself and getattr(self.root, "partial", False)):
                self.fail("required")
        found: tuple[bool, Any] = super().validate_empty_values(data)  # type: ignore[misc]
        return found


class StrictCharField(Strict, serializers.CharField):
    """A text without control characters.

    A required text must contain a character that is not white space. An optional one may be empty.
    """

    default_error_messages = {
        "required": _REQUIRED,
        "null": _NULL,
        "invalid": "This must be a string.",
        "blank": "This must not be empty.",
        "control": "This contains a control character.",
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
        """As DRF, but refuse a value that is not a string, and a required text without a character to be seen."""
        is_absent, data = self.validate_empty_values(data)
        if is_absent:
            return data
        if not isinstance(data, str):
            self.fail("invalid")
        if self.required and not data.strip() and not self.allow_blank:
            self.fail("blank")
        value = self.to_internal_value(data)
        self.run_validators(value)
        return value

    def to_internal_value(self, data: Any) -> str:
        """Return the text unchanged, or refuse control characters and surrogates."""
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
    """`name`: at most 255 characters, one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": NAME_LENGTH, **options})


class DescriptionField(StrictCharField):
    """`description`: always optional, at most 255 characters, may have several lines."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": DESCRIPTION_LENGTH, "required": False, "multiline": True, **options})


class MetadataField(StrictCharField):
    """`metadata`: the client's own text, always optional, at most 4,096 characters."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": METADATA_LENGTH, "required": False, "multiline": True, **options})


class StrictBooleanField(Strict, serializers.BooleanField):
    """`true` or `false`; 0, 1 and strings are refused."""

    default_error_messages = {"required": _REQUIRED, "null": _NULL, "invalid": "This must be true or false."}

    def to_internal_value(self, data: Any) -> bool:
        """Return the boolean unchanged, or refuse another type."""
        if not isinstance(data, bool):
            self.fail("invalid")
        return bool(data)


class StrictIntegerField(Strict, serializers.IntegerField):
    """A JSON integer within the bounds of PostgreSQL's bigint, or narrower ones."""

    default_error_messages = {"required": _REQUIRED, "null": _NULL, "invalid": "This must be an integer."}

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_value": 2**63 - 1, "min_value": -(2**63), **options})

    def to_internal_value(self, data: Any) -> int:
        """Return the integer unchanged, or refuse another type."""
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return int(data)


class StrictChoiceField(Strict, serializers.ChoiceField):
    """One of a few texts. The error lists them and does not repeat the value that was sent."""

    default_error_messages = {"required": _REQUIRED, "null": _NULL}

    def __init__(self, choices: Sequence[str], **options: Any) -> None:
        super().__init__(choices=choices, **options)
        self.error_messages["invalid_choice"] = f"This must be one of: {', '.join(choices)}."

    def to_internal_value(self, data: Any) -> str:
        """Return the text unchanged, or refuse one that is not a choice."""
        if not isinstance(data, str) or data not in self.choices:
            self.fail("invalid_choice")
        return str(data)


class StrictListField(Strict, serializers.ListField):
    """A JSON array whose items are checked by a child field."""

    default_error_messages = {
        "required": _REQUIRED,
        "null": _NULL,
        "not_a_list": "This must be an array.",
    }


class TimestampField(Strict, serializers.DateTimeField):
    """An RFC 3339 time with an offset; a `datetime` in UTC inside, `…Z` on the wire.

    Digits below a microsecond are dropped.
    """

    default_error_messages = {
        "required": _REQUIRED,
        "null": _NULL,
        "invalid": "This must be an RFC 3339 time with an offset: 2027-01-31T12:00:00Z.",
    }

    def to_internal_value(self, value: Any) -> datetime:
        """The time as a `datetime` in UTC."""
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

    The field does not check whether the account has such an object; the service does.
    """

    default_error_messages = {
        "required": _REQUIRED,
        "null": _NULL,
        "invalid": "This must be an ID that begins with {prefix}_.",
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
