"""The wire form of the fields that every owned resource has."""

from datetime import datetime
from typing import Any

from django.utils import timezone
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
        "description": "An API key or a dashboard user. It may have been deleted since.",
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
    """`{id, uri}` of a stored principal ID. The principal itself may have been deleted."""

    def to_representation(self, value: str) -> dict[str, str]:
        """The ID with its URI."""
        return {"id": value, "uri": uris.absolute(self.context["request"], path_of(value))}


@extend_schema_field({"type": "string", "format": "uri"})
class UriField(serializers.Field[Any, Any, str, Any]):
    """The absolute URI of an owned object."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"source": "*", **options})

    def to_representation(self, value: Any) -> str:
        """The absolute URI of the object."""
        return uris.absolute(self.context["request"], f"{value.path}/{value.text_id}")


class TextIdField(serializers.RegexField):
    """The ID of an owned object."""

    def __init__(self, prefix: ids.Prefix, **options: Any) -> None:
        super().__init__(id_pattern(prefix), **{"source": "text_id", **options})


class OwnedSerializer(ShownSerializer):
    """The first fields of every resource's shape; each resource adds its own `id`."""

    uri = UriField()
    created_at = TimestampField()
    updated_at = TimestampField()
    created_by = PrincipalField()
    last_updated_by = PrincipalField()


class TokenSerializer(OwnedSerializer):
    """The shape of API keys and access keys."""

    name = serializers.CharField(required=False)
    description = serializers.CharField(required=False)
    metadata = serializers.CharField(required=False)
    key_redacted = serializers.CharField()
    last_used = TimestampField(allow_null=True)
    expires_at = TimestampField(required=False)
    disabled = serializers.BooleanField(required=False)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """As the shape, but without `disabled` unless it is true or was written (contract, section 8)."""
        shown = super().to_representation(instance)
        if not (instance.disabled or instance.disabled_is_set):
            del shown["disabled"]
        return shown


class _InFuture:
    """Refuses a time that has passed, unless it is the one that the changed key has already."""

    requires_context = True

    def __call__(self, moment: datetime, field: serializers.Field[Any, Any, Any, Any]) -> None:
        present = getattr(field.context.get("item"), "expires_at", None)
        # A field of a page may leave out the seconds.
        is_present = present is not None and moment in {present, present.replace(second=0, microsecond=0)}
        if moment <= timezone.now() and not is_present:
            raise serializers.ValidationError("This must be a time in the future.")


class TokenForm(StrictSerializer):
    """The fields of API keys and access keys that a client may set."""

    name = NameField(required=False)
    description = DescriptionField()
    metadata = MetadataField()
    expires_at = TimestampField(required=False, validators=[_InFuture()])
    disabled = StrictBooleanField(required=False)
