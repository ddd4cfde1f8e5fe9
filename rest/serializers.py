"""Serializers of this API: forms check what clients send, and shapes define what clients get.

Fields have Python names in the code and camelCase names on the wire, in errors too: `access_key_configuration_id` is
`accessKeyConfigurationId` there.

A form is one class for POST and PATCH (`partial=True`): a field that is not required may be omitted in both, and in a
PATCH null clears it. A shape leaves out a field that has no value, unless the field has `allow_null=True`.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from rest_framework import serializers
from rest_framework.fields import Field, SkipField

from rest.fields import Strict

_NEAR: Final = 0.6


def camel(name: str) -> str:
    """The wire name of a Python name: `key_redacted` becomes `keyRedacted`."""
    first, *others = name.split("_")
    return first + "".join(other.title() for other in others)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most similar to a mistyped one; None if none is. Case, `_` and `-` do not count."""
    by_plain = {_plain(one): one for one in known}
    found = difflib.get_close_matches(_plain(name[:255]), by_plain, n=1, cutoff=_NEAR)
    return by_plain[found[0]] if found else None


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


class _CamelSerializer(serializers.Serializer[Any]):
    def get_fields(self) -> dict[str, Field[Any, Any, Any, Any]]:
        fields = {}
        for name, field in super().get_fields().items():
            wire = camel(name)
            # None until the field is bound, whatever the stubs say.
            source: str | None = field.source
            if wire != name and source is None:
                field.source = name
            fields[wire] = field
        return fields


class StrictListSerializer(Strict, serializers.ListSerializer[Any]):
    """A JSON array of objects."""

    default_error_messages = {
        "required": "This field is required.",
        "null": "This field may not be null.",
        "not_a_list": "This must be an array.",
    }


class StrictSerializer(Strict, _CamelSerializer):
    """A form. It refuses unknown fields and wrong types, and reports all faults at once, each under its JSON path."""

    default_error_messages = {
        "required": "This field is required.",
        "null": "This field may not be null.",
        "invalid": "This must be an object.",
    }

    class Meta:
        list_serializer_class = StrictListSerializer

    def get_fields(self) -> dict[str, Field[Any, Any, Any, Any]]:
        """The fields by wire name. In a PATCH, those that are not required accept null, which clears them."""
        fields = super().get_fields()
        if self.partial:
            for field in fields.values():
                field.allow_null = field.allow_null or not field.required
        return fields

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The validated fields by their Python names.

        Raises:
            serializers.ValidationError: contains every fault of this object and of nested objects.
        """
        if not isinstance(data, Mapping):
            # DRF expects the faults of a serializer as a mapping.
            raise serializers.ValidationError({"non_field_errors": [self.error_messages["invalid"]]}, code="invalid")
        known = [name for name, field in self.fields.items() if not field.read_only]
        faults: dict[str, Any] = {
            name: [self._refusal(name, known)] for name in data if name not in self.fields or name not in known
        }
        try:
            values: dict[str, Any] = super().to_internal_value(data)
        except serializers.ValidationError as fault:
            raise serializers.ValidationError({**faults, **_as_mapping(fault.detail)}) from None
        if faults:
            raise serializers.ValidationError(faults)
        return values

    def _refusal(self, name: str, known: Iterable[str]) -> str:
        # `shown`: the object that a PATCH changes, as a client reads it (rest.views).
        if self.root is self and name in self.context.get("shown", ()):
            return "This is read only; leave it out, or send it as it was read."
        return unknown_field(name, known)


class ShownSerializer(_CamelSerializer):
    """A shape: how an object looks on the wire.

    For a field that may have no value, declare `required=False` to leave it out, or `allow_null=True` to show null.
    """

    def get_fields(self) -> dict[str, Field[Any, Any, Any, Any]]:
        """The fields by wire name, the ID first."""
        fields = super().get_fields()
        return {"id": fields["id"], **fields} if "id" in fields else fields

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """The object as a JSON object, by wire names."""
        shown: dict[str, Any] = {}
        for field in self._readable_fields:
            try:
                value = field.get_attribute(instance)
            except SkipField:
                continue
            if value is not None:
                shown[str(field.field_name)] = field.to_representation(value)
            elif field.allow_null:
                shown[str(field.field_name)] = None
        return shown


def unknown_field(name: str, known: Iterable[str]) -> str:
    """The error text for a field that does not exist, with the most similar known name."""
    near = nearest(name, known)
    return f"There is no such field; did you mean {near}?" if near else "There is no such field."


def _as_mapping(detail: Any) -> Mapping[str, Any]:
    return detail if isinstance(detail, Mapping) else {"non_field_errors": detail}
