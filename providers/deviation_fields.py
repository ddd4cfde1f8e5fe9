"""The wire form of `auth`, `headers`, `paths` and `dialect` of a custom provider: how requests to it deviate.

The rules are those of gateway_core.upstream_requests.

Source: contract, section 8; docs/decisions/0077-providers-that-deviate.md.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from gateway_core import upstream_requests
from gateway_core.catalog import Surface
from gateway_core.dialects import DIALECTS
from rest.fields import Strict, StrictCharField, StrictChoiceField
from rest.serializers import ShownSerializer, StrictSerializer

MAX_HEADERS: Final = 20

_AUTH_TEXT: Final = "How the key is shown. If left out, as the dialect has it: usually Authorization: Bearer."
_HEADER_TEXT: Final = "The header of the key, as api-key."
_PREFIX_TEXT: Final = "What stands before the key, as Bearer and a space. If left out, nothing."
_HEADERS_TEXT: Final = "Headers that every request gets, by name. Secrets are refused; they are provider keys."
_PATHS_TEXT: Final = (
    "By surface: path and query behind the base URL, in place of the surface's own path. {model} stands for the model."
)
_DIALECT_TEXT: Final = "Whose errors and parameters it has, where it deviates from the format."
_HEADERS_SCHEMA: Final = {
    "type": "object",
    "additionalProperties": {"type": "string", "minLength": 1, "maxLength": upstream_requests.LONGEST_VALUE},
    "maxProperties": MAX_HEADERS,
}
_PATH_SCHEMA: Final = {
    "type": "string",
    "pattern": "^/[^#\\s]*$",
    "minLength": 2,
    "maxLength": upstream_requests.LONGEST_PATH,
}


def _path_text(surface: Surface) -> str:
    return f"The path of the surface {surface.value}."


class _CheckedText(StrictCharField):
    """A text that a rule of gateway_core.upstream_requests accepts."""

    rule: Callable[[str], object]

    def to_internal_value(self, data: Any) -> str:
        """Return the text unchanged if the rule accepts it."""
        text = super().to_internal_value(data)
        try:
            type(self).rule(text)
        except upstream_requests.Refused as refusal:
            raise ValidationError(str(refusal)) from None
        return text


@extend_schema_field({"type": "string", "pattern": "^[A-Za-z][A-Za-z0-9-]*$", "maxLength": 100})
class HeaderNameField(_CheckedText):
    """The name of a header that holds a key."""

    rule = staticmethod(upstream_requests.check_header_name)


@extend_schema_field({"type": "string", "maxLength": upstream_requests.LONGEST_PREFIX})
class PrefixField(_CheckedText):
    """What stands before a key in its header."""

    rule = staticmethod(upstream_requests.check_prefix)


@extend_schema_field(_PATH_SCHEMA)
class PathField(_CheckedText):
    """The path of a surface."""

    rule = staticmethod(upstream_requests.read_path)


class KeyHeaderForm(StrictSerializer):
    """The header in which a custom provider expects its key."""

    header = HeaderNameField(help_text=_HEADER_TEXT)
    prefix = PrefixField(required=False, help_text=_PREFIX_TEXT)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The stored form: what was written."""
        return {name: attrs[name] for name in ("header", "prefix") if attrs.get(name) is not None}


@extend_schema_field(_HEADERS_SCHEMA)
class HeadersField(Strict, serializers.Field[Any, Any, Any, Any]):
    """Static headers: a JSON object of names and values."""

    default_error_messages = {
        "required": "This field is required.",
        "null": "This field may not be null.",
        "not_an_object": "This must be an object.",
        "too_many": f"There are at most {MAX_HEADERS} headers.",
    }

    def to_internal_value(self, data: Any) -> dict[str, str]:
        """The headers as they were written."""
        if not isinstance(data, Mapping):
            self.fail("not_an_object")
        if len(data) > MAX_HEADERS:
            self.fail("too_many")
        faults: dict[str, list[str]] = {}
        seen: set[str] = set()
        for name, value in data.items():
            if not isinstance(value, str):
                faults[name] = ["This must be a string."]
                continue
            try:
                upstream_requests.check_static_header(name, value)
            except upstream_requests.Refused as refusal:
                faults[name] = [str(refusal)]
            if name.lower() in seen:
                faults[name] = ["This header is listed twice; case does not count."]
            seen.add(name.lower())
        if faults:
            raise ValidationError(faults)
        return dict(data)

    def to_representation(self, value: dict[str, str]) -> dict[str, str]:
        """The headers as they were written."""
        return value


class PathsForm(StrictSerializer):
    """The paths of surfaces that do not stand where the format has them."""

    def get_fields(self) -> dict[str, Any]:
        """A field for each surface."""
        return {one.value: PathField(required=False, help_text=_path_text(one)) for one in Surface}


class DeviationsForm(StrictSerializer):
    """How requests to a custom provider deviate. Each field is absent unless it is set, and null takes it back."""

    auth = KeyHeaderForm(required=False, help_text=_AUTH_TEXT)
    headers = HeadersField(required=False, help_text=_HEADERS_TEXT)
    paths = PathsForm(required=False, help_text=_PATHS_TEXT)
    dialect = StrictChoiceField(list(DIALECTS), required=False, help_text=_DIALECT_TEXT)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a static header that is the header of the key."""
        item = self.context.get("item")
        auth = attrs["auth"] if "auth" in attrs else getattr(item, "auth", None)
        headers = attrs["headers"] if "headers" in attrs else getattr(item, "headers", None)
        shown = (auth or {}).get("header", "").lower()
        same = [name for name in headers or () if name.lower() == shown]
        if same:
            raise ValidationError({"headers": {name: ["This is the header of the key."] for name in same}})
        return attrs


class KeyHeaderSerializer(ShownSerializer):
    """The header in which a custom provider expects its key."""

    header = serializers.CharField(help_text=_HEADER_TEXT)
    prefix = serializers.CharField(required=False, help_text=_PREFIX_TEXT)


@extend_schema_field(_HEADERS_SCHEMA)
class ShownHeadersField(serializers.Field[Any, Any, Any, Any]):
    """Static headers, as they were written."""

    def to_representation(self, value: dict[str, str]) -> dict[str, str]:
        """The object unchanged."""
        return value


class PathsSerializer(ShownSerializer):
    """The paths of surfaces that do not stand where the format has them, as they were written."""

    def get_fields(self) -> dict[str, Any]:
        """A field for each surface."""
        return {one.value: serializers.CharField(required=False, help_text=_path_text(one)) for one in Surface}


class ShownDeviations(ShownSerializer):
    """How requests to a custom provider deviate."""

    auth = KeyHeaderSerializer(required=False, help_text=_AUTH_TEXT)
    headers = ShownHeadersField(required=False, help_text=_HEADERS_TEXT)
    paths = PathsSerializer(required=False, help_text=_PATHS_TEXT)
    dialect = serializers.ChoiceField(list(DIALECTS), required=False, help_text=_DIALECT_TEXT)
