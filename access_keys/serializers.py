"""The wire form of access keys (contract, section 2)."""

from typing import Any

from rest_framework import serializers

from access_keys.services import IssuedAccessKey
from accounts.owned.serializers import TextIdField, TokenForm, TokenSerializer, UriField
from gateway_core import ids
from rest.fields import IdField
from rest.serializers import ShownSerializer


class AccessKeyForm(TokenForm):
    """POST and PATCH of an access key."""

    access_key_configuration_id = IdField(
        ids.Prefix.CONFIGURATION,
        required=False,
        source="configuration_id",
        help_text="The configuration that holds for the key. Without one, the key may reach everything.",
    )


class LinkedConfigurationSerializer(ShownSerializer):
    """The configuration that an access key is linked to."""

    id = TextIdField(ids.Prefix.CONFIGURATION)
    uri = UriField()
    name = serializers.CharField()


class AccessKeySerializer(TokenSerializer):
    """An access key."""

    id = TextIdField(ids.Prefix.ACCESS_KEY)
    access_key_configuration = LinkedConfigurationSerializer(
        source="configuration", allow_null=True, help_text="The configuration of the key; null: none."
    )


class IssuedAccessKeySerializer(AccessKeySerializer):
    """A new access key with its token; only the answer that creates it contains the token."""

    token = serializers.CharField()

    def to_representation(self, instance: IssuedAccessKey) -> dict[str, Any]:
        """The key with its token."""
        return {**AccessKeySerializer(instance.access_key, context=self.context).data, "token": instance.token}
