"""The field of a provider key's value: as strict as rest.fields, and its value is wrapped at once."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework.exceptions import ValidationError

from provider_keys.values import PATTERN, InvalidValue, PlainValue
from rest.fields import StrictCharField


@extend_schema_field({"type": "string", "pattern": PATTERN, "writeOnly": True})
class ValueField(StrictCharField):
    """A text that becomes a `PlainValue`. It is write-only, and no error repeats it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"write_only": True, **options})

    def to_internal_value(self, data: Any) -> PlainValue:  # type: ignore[override]
        """Wrap the trimmed text in a `PlainValue`."""
        try:
            return PlainValue(data)
        except InvalidValue as refusal:
            raise ValidationError(str(refusal), code="invalid") from None
