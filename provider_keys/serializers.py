"""The wire form of provider keys."""

from rest_framework import serializers

from accounts.owned.serializers import OwnedSerializer, TextIdField
from gateway_core import ids
from provider_keys.fields import ValueField
from rest.fields import DescriptionField, MetadataField, NameField, StrictCharField, TimestampField
from rest.serializers import StrictSerializer


class ProviderKeyCreateForm(StrictSerializer):
    """POST of a provider key."""

    provider_id = StrictCharField(
        max_length=255,
        help_text="A built-in provider's ID, or a custom provider's providerId or aigp_… ID.",
    )
    name = NameField()
    value = ValueField(
        help_text="The upstream's key. It is sealed at once and never shown again. White space around it is trimmed; "
        "the rest must be 1 to 4096 printable ASCII characters without white space."
    )
    description = DescriptionField()
    metadata = MetadataField()


class ProviderKeyChangeForm(StrictSerializer):
    """PATCH of a provider key. Only a rotation changes its value; its provider cannot change."""

    name = NameField()
    description = DescriptionField()
    metadata = MetadataField()


class ProviderKeyRotateForm(StrictSerializer):
    """Rotation of a provider key."""

    name = NameField(help_text="Replaces the name.")
    value = ValueField(help_text="The upstream's new key; the rules are those of a new provider key.")


class ProviderKeySerializer(OwnedSerializer):
    """A provider key."""

    id = TextIdField(ids.Prefix.PROVIDER_KEY)
    provider_id = serializers.CharField(source="provider_as_written")
    name = serializers.CharField()
    description = serializers.CharField(required=False)
    metadata = serializers.CharField(required=False)
    key_redacted = serializers.CharField(help_text="The mask of the value.")
    last_used = TimestampField(allow_null=True)
