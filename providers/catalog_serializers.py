"""The wire form of the catalog."""

from typing import Any

from rest_framework import serializers

from gateway_core.catalog import BuiltInProvider, Format, Surface
from rest.serializers import ShownSerializer


class CatalogSurfaceSerializer(ShownSerializer):
    """One API that a built-in provider serves."""

    format = serializers.ChoiceField([one.value for one in Format])
    surface = serializers.ChoiceField([one.value for one in Surface], help_text="The surface that is served.")


class CatalogProviderSerializer(ShownSerializer):
    """A built-in provider of the catalog."""

    id = serializers.CharField(help_text="The part of `openai:gpt-4o` before the colon.")
    display_name = serializers.CharField()
    base_url = serializers.URLField()
    supported_api_surfaces = CatalogSurfaceSerializer(many=True)
    managed_inference_supported = serializers.BooleanField(
        help_text="Whether steps of the type `ngrok` may name it at all."
    )
    managed_inference_available = serializers.BooleanField(help_text="Whether the operator holds a key for it now.")
    model_count = serializers.IntegerField(min_value=0, help_text="How many of its models the catalog has.")


class CatalogModelSerializer(ShownSerializer):
    """A model of a built-in provider. An unknown price is left out."""

    id = serializers.CharField(help_text="The provider's ID, a colon and the model's: how configurations name it.")
    provider_id = serializers.CharField()
    model_id = serializers.CharField(help_text="As the provider spells it.")
    display_name = serializers.CharField(required=False)
    context_window = serializers.IntegerField(required=False, min_value=1, help_text="Tokens.")
    input_price = serializers.CharField(required=False, help_text="US dollars per million tokens, a decimal number.")
    output_price = serializers.CharField(required=False, help_text="US dollars per million tokens, a decimal number.")


def surfaces_of(provider: BuiltInProvider) -> list[dict[str, Any]]:
    """The API surfaces of a built-in provider, each with its format."""
    return [
        {"format": speaks, "surface": surface}
        for surface in provider.surfaces
        for speaks in Format
        if surface in speaks.surfaces
    ]
