"""The wire form of configurations."""

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema_field, extend_schema_serializer
from rest_framework import serializers
from rest_framework.fields import empty

from accounts.models import Account
from accounts.owned.serializers import OwnedSerializer, TextIdField
from configurations import schema, services
from gateway_core import ids
from rest.errors import details_of
from rest.fields import DescriptionField, MetadataField, NameField, Strict
from rest.serializers import ShownSerializer, StrictSerializer


class _CheckedByService(Strict, serializers.JSONField):
    """Unchecked JSON; configurations.services checks it by every rule."""

    default_error_messages = {"null": "This field may not be null."}

    def to_internal_value(self, data: Any) -> Any:
        """Return the JSON unchanged."""
        return data


@extend_schema_field(schema.ACCESS)
class AccessField(_CheckedByService):
    """`access`, as a client writes it."""


@extend_schema_field(schema.ROUTER_FORM)
class RouterField(_CheckedByService):
    """`router`, as a client writes it."""


class ConfigurationForm(StrictSerializer):
    """POST and PATCH of a configuration."""

    name = NameField()
    description = DescriptionField()
    metadata = MetadataField()
    access = AccessField(required=False)
    router = RouterField(required=False)

    def run_validation(self, data: Any = empty) -> Any:
        """As the form; if it has faults, add those of `access` and `router`, so that one answer has them all."""
        try:
            return super().run_validation(data)
        except serializers.ValidationError as refusal:
            if not isinstance(data, dict):
                raise
            account: Account = self.context["request"].account
            found = services.find_faults(account=account, access=data.get("access"), router=data.get("router"))
            if not found:
                raise
            raise services.ConfigurationInvalid(details={**found, **details_of(refusal.detail)}) from None


@extend_schema_field(schema.ACCESS)
class ShownAccessField(serializers.Field[Any, Any, dict[str, Any], Any]):
    """`access`, as it was written."""

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        """The dimensions in the contract's order."""
        return {dimension: value[dimension] for dimension in ("providers", "models") if dimension in value}


@extend_schema_field(schema.ROUTER)
class ShownRouterField(serializers.Field[Any, Any, dict[str, Any] | None, Any]):
    """`router` as it was written, with the current names of its provider keys."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"source": "*", **options})

    def to_representation(self, value: Any) -> dict[str, Any] | None:
        """The rules with the contract's order of fields; each key has its name and mask."""
        if value.router is None:
            return None
        keys = {ids.to_text(ids.Prefix.PROVIDER_KEY, uuid.UUID(row["id"])): row for row in value.routed}
        return {"rules": [self._rule(rule, keys) for rule in value.router["rules"]]}

    def _rule(self, rule: dict[str, Any], keys: dict[str, dict[str, str]]) -> dict[str, Any]:
        subject: dict[str, Any] = {name: rule[name] for name in ("provider", "model") if name in rule}
        return {**subject, "steps": [self._step(step, keys) for step in rule["steps"]]}

    def _step(self, step: dict[str, Any], keys: dict[str, dict[str, str]]) -> dict[str, Any]:
        shown: dict[str, Any] = {"type": step["type"]}
        if "keys" in step:
            shown["keys"] = [
                {
                    "id": key["id"],
                    "name": keys[key["id"]]["name"],
                    "keyRedacted": keys[key["id"]]["mask"],
                    **({"weight": key["weight"]} if "weight" in key else {}),
                }
                for key in step["keys"]
            ]
        if "keySelectionStrategy" in step:
            shown["keySelectionStrategy"] = step["keySelectionStrategy"]
        return shown


# Generators have a class `Configuration` of their own.
@extend_schema_serializer(component_name="AccessKeyConfiguration")
class ConfigurationSerializer(OwnedSerializer):
    """A configuration: an access scope and routing rules that access keys share."""

    id = TextIdField(ids.Prefix.CONFIGURATION)
    name = serializers.CharField()
    description = serializers.CharField(required=False)
    metadata = serializers.CharField(required=False)
    access = ShownAccessField(required=False)
    router = ShownRouterField(required=False)

    def to_representation(self, instance: Any) -> dict[str, Any]:
        """As the shape; a configuration without a router has no field `router`."""
        shown = super().to_representation(instance)
        if shown["router"] is None:
            del shown["router"]
        return shown


class WarningSerializer(ShownSerializer):
    """Something in a write that was accepted and may be a mistake."""

    path = serializers.CharField()
    msg = serializers.CharField(help_text="What may be wrong, for people.")


@extend_schema_serializer(component_name="WrittenAccessKeyConfiguration")
class WrittenConfigurationSerializer(ConfigurationSerializer):
    """A configuration, as the answer to a write shows it."""

    warnings = WarningSerializer(
        many=True, required=False, help_text="What may be a mistake in what was written. Left out if there is nothing."
    )
