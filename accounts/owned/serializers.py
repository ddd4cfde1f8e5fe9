"""The wire form of what every owned resource has in common."""

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from accounts.principals import path_of
from gateway_core import ids
from rest import uris
from rest.fields import (
    TYPEID_SUFFIX,
    DescriptionField,
    MetadataField,
    NameField,
    StrictBooleanField,
    TimestampField,
    id_pattern,
)
from rest.serializers import ShownSerializer, StrictSerializer


@extend_schema_field(
    {
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": f"^({ids.Prefix.API_KEY}|{ids.Prefix.USER})_{TYPEID_SUFFIX}$"},
            "uri": {"type": "string", "format": "uri"},
        },
        "required": ["id", "uri"],
        "additionalProperties": False,
    },
    component_name="Principal",
)
class PrincipalField(serializers.Field[Any, Any, dict[str, str], Any]):
    """`{id, uri}` of a stored principal ID; the principal itself may be gone."""

    def to_representation(self, value: str) -> dict[str, str]:
        """The ID with its URI."""
        return {"id": value, "uri": uris.absolute(self.context["request"], path_of(value))}


@extend_schema_field({"type": "string", "format": "uri"})
class UriField(serializers.Field[Any, Any, str, Any]):
    """The absolute URI of an owned object."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"source": "*", **options})

    def to_representation(self, value: Any) -> str:
        """The URI."""
        return uris.absolute(self.context["request"], f"{value.path}/{value.text_id}")


class TextIdField(serializers.RegexField):
    """The ID of an owned object."""

    def __init__(self, prefix: ids.Prefix, **options: Any) -> None:
        super().__init__(id_pattern(prefix), **{"source": "text_id", **options})


class OwnedSerializer(ShownSerializer):
    """Begins the shape of every resource; `id` is the resource's own."""

    uri = UriField()
    created_at = TimestampField()
    updated_at = TimestampField()
    created_by = PrincipalField()
    last_updated_by = PrincipalField()


class TokenSerializer(OwnedSerializer):
    """What API keys and access keys show."""

    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    metadata = serializers.CharField(required=False)
    key_redacted = serializers.CharField()
    last_used = TimestampField(allow_null=True)
    expires_at = TimestampField(required=False)
    disabled = serializers.BooleanField(required=False)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """The extensions of this project are shown only where they are used (contract, section 8)."""
        shown = super().to_representation(instance)
        if not instance.disabled:
            del shown["disabled"]
        return shown


class TokenForm(StrictSerializer):
    """What a client may set on API keys and access keys."""

    name = NameField(required=False)
    description = DescriptionField()
    metadata = MetadataField()
    expires_at = TimestampField(required=False)
    disabled = StrictBooleanField(required=False)
