"""The wire form of access keys (contract, section 2)."""

from typing import Any, cast

from rest_framework import serializers

from access_keys.models import AccessKey
from access_keys.services import IssuedAccessKey
from account_settings.limit_counts import Owned, states_of, with_states
from account_settings.limit_forms import LimitSerializer, LimitsField
from account_settings.limits import limits_of
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
    limits = LimitsField(
        help_text="What the key may use. Without the field, or null: as `accessKeyLimits` of the gateway "
        "configuration says. An empty list: no limits of the key."
    )


class LinkedConfigurationSerializer(ShownSerializer):
    """The configuration that an access key is linked to."""

    id = TextIdField(ids.Prefix.CONFIGURATION)
    uri = UriField()
    name = serializers.CharField()


class AccessKeysSerializer(serializers.ListSerializer[Any]):
    """Several access keys. What is used of all their limits is read at once."""

    def to_representation(self, data: Any) -> list[Any]:
        """The keys, each as its shape."""
        items = list(data)
        owned = {item.id: owned_limits(item) for item in items if item.limits}
        states = iter(states_of([one for some in owned.values() for one in some]))
        found = {name: [next(states) for _ in some] for name, some in owned.items()}
        assert self.child is not None  # noqa: S101 -- DRF sets it
        cast("dict[str, Any]", self.child.context)["limit_states"] = found
        return super().to_representation(items)


def owned_limits(access_key: AccessKey) -> list[Owned]:
    """The limits of an access key's own, as what is used of them is asked for."""
    return [Owned(one, access_key.text_id, ids.made_at(access_key.id)) for one in limits_of(access_key.limits)]


class AccessKeySerializer(TokenSerializer):
    """An access key."""

    id = TextIdField(ids.Prefix.ACCESS_KEY)
    access_key_configuration = LinkedConfigurationSerializer(
        source="configuration", allow_null=True, help_text="The configuration of the key; null: none."
    )
    limits = LimitSerializer(
        many=True, required=False, help_text="The limits of the key. Only where they were written."
    )

    class Meta:
        list_serializer_class = AccessKeysSerializer

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """As the shape, with what is used of its limits."""
        found = super().to_representation(instance)
        if instance.limits:
            states = self.context.get("limit_states", {}).get(instance.id)
            found["limits"] = with_states(
                found["limits"], states_of(owned_limits(instance)) if states is None else states
            )
        return found


class IssuedAccessKeySerializer(AccessKeySerializer):
    """A new access key with its token; only the answer that creates it contains the token."""

    token = serializers.CharField()

    def to_representation(self, instance: IssuedAccessKey) -> dict[str, Any]:
        """The key with its token."""
        return {**AccessKeySerializer(instance.access_key, context=self.context).data, "token": instance.token}
