"""The wire form of custom providers."""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError

from accounts.owned.serializers import OwnedSerializer, TextIdField
from gateway_core import ids
from gateway_core.base_urls import MAX_LENGTH, BaseUrlRefused
from gateway_core.catalog import Format, Surface
from providers import base_url_check
from providers.deviation_fields import DeviationsForm, ShownDeviations
from rest.fields import MetadataField, NameField, StrictCharField, StrictChoiceField, StrictListField
from rest.serializers import ShownSerializer, StrictSerializer

MAX_MODELS: Final = 5000
MAX_SURFACES: Final = 50
MAX_PARAMETERS: Final = 500

_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,253}[a-z0-9])?")
# A text without control characters, and without white space at its ends.
_WITHIN: Final = r"[^\u0000-\u001f\u007f-\u009f]"
_EDGE: Final = r"[^\s\u0000-\u001f\u007f-\u009f]"
_IMMUTABLE: Final = "A provider's providerId never changes; create another provider."
# The surfaces that clients can name. The data plane's `completions` is part of its format and cannot be named alone.
_SURFACES: Final = (Surface.CHAT_COMPLETIONS, Surface.RESPONSES, Surface.EMBEDDINGS, Surface.MESSAGES)

_SURFACE_TEXT: Final = "The surface that is served. If left out, all surfaces of the format."
_PARAMETERS_TEXT: Final = "The top-level parameters that it accepts; others are removed. If left out, it accepts all."
_PARAMETER_TEXT: Final = "The parameter's name."


@extend_schema_field({"type": "string", "pattern": f"^{_SLUG.pattern}$", "minLength": 1, "maxLength": 255})
class ProviderIdField(StrictCharField):
    """A `providerId`: a lower-case slug."""

    def to_internal_value(self, data: Any) -> str:
        """Return the text unchanged if it is a slug."""
        slug = super().to_internal_value(data)
        if not _SLUG.fullmatch(slug):
            raise ValidationError(
                "This must be a slug: lower-case letters and digits, with hyphens and underscores between them."
            )
        return slug


@extend_schema_field(
    {
        "type": "string",
        "format": "uri",
        "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^@/?#\\\s]+[^#\\\s]*$",
        "maxLength": MAX_LENGTH,
    }
)
class BaseUrlField(StrictCharField):
    """An upstream's URL. Its host was resolved before (`resolve` in the context)."""

    def to_internal_value(self, data: Any) -> base_url_check.VettedUrl:  # type: ignore[override]
        """The URL as it was written, if it passes the checks."""
        try:
            return base_url_check.vet(data, resolve=self.context["resolve"])
        except BaseUrlRefused as refusal:
            raise ValidationError(str(refusal), code="refused") from None


@extend_schema_field({"type": "string", "pattern": rf"^{_EDGE}(?:{_WITHIN}*{_EDGE})?$", "maxLength": 255})
class ModelIdField(StrictCharField):
    """The name of a model at its provider."""

    def to_internal_value(self, data: Any) -> str:
        """Return the text unchanged if it is a model's name."""
        name = super().to_internal_value(data)
        if name != name.strip():
            raise ValidationError("A model's name must not begin or end with white space.")
        return name


class ProviderModelForm(StrictSerializer):
    """A model that a custom provider serves."""

    model_id = ModelIdField(max_length=255)

    def to_internal_value(self, data: Any) -> str:  # type: ignore[override]
        """The model's name, in place of the object. A model that the provider has already may show its `id`."""
        item = self.context.get("item")
        if item is not None and isinstance(data, Mapping) and isinstance(data.get("id"), str):
            present: dict[str, str] = self.context.get("models") or {
                one.text_id: one.model_id for one in item.models.all()
            }
            cast("dict[str, Any]", self.context)["models"] = present
            if present.get(data["id"]) == data.get("modelId", ""):
                data = {name: value for name, value in data.items() if name != "id"}
        return str(super().to_internal_value(data)["model_id"])


class ParameterForm(StrictSerializer):
    """A top-level parameter of a request."""

    name = StrictCharField(max_length=255, help_text=_PARAMETER_TEXT)


class ApiSurfaceForm(StrictSerializer):
    """One API that a custom provider serves; without `surface`, all surfaces of the format."""

    format = StrictChoiceField([one.value for one in Format])
    surface = StrictChoiceField([one.value for one in _SURFACES], required=False, help_text=_SURFACE_TEXT)
    supported_params = StrictListField(
        child=ParameterForm(),
        required=False,
        max_length=MAX_PARAMETERS,
        help_text=_PARAMETERS_TEXT,
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """The surface in its stored form; refused if surface and format do not match."""
        speaks = Format(attrs["format"])
        if "surface" in attrs and Surface(attrs["surface"]) not in speaks.surfaces:
            known = ", ".join(one.value for one in speaks.surfaces if one in _SURFACES)
            raise ValidationError({"surface": f"The surfaces of the format {speaks} are: {known}."})
        stored: dict[str, Any] = {name: attrs[name] for name in ("format", "surface") if name in attrs}
        if "supported_params" in attrs:
            stored["supportedParams"] = [{"name": one["name"]} for one in attrs["supported_params"]]
        return stored


class ProviderChangeForm(DeviationsForm):
    """PATCH of a custom provider. Its `providerId` cannot change."""

    name = NameField()
    base_url = BaseUrlField(
        help_text="https:// for hosts on the internet; http:// for *.internal and hosts that the operator allows. No "
        "credentials and no fragment. An empty path stands for /v1; a query is kept.",
    )
    metadata = MetadataField()
    supported_api_surfaces = StrictListField(child=ApiSurfaceForm(), required=False, max_length=MAX_SURFACES)
    models = StrictListField(child=ProviderModelForm(), required=False, max_length=MAX_MODELS)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        """The validated fields; a `providerId` is refused."""
        try:
            return super().to_internal_value(data)
        except ValidationError as refusal:
            if not (self.partial and isinstance(refusal.detail, dict) and "providerId" in refusal.detail):
                raise
            raise ValidationError({**refusal.detail, "providerId": [_IMMUTABLE]}) from None

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Refuse a surface that is listed twice, and what deviations may not be."""
        seen: set[tuple[str, str | None]] = set()
        twice: dict[str, str] = {}
        for place, entry in enumerate(attrs.get("supported_api_surfaces") or ()):
            key = entry["format"], entry.get("surface")
            if key in seen:
                twice[f"supportedApiSurfaces[{place}]"] = "This surface is listed twice."
            seen.add(key)
        if twice:
            raise ValidationError(twice)
        return super().validate(attrs)


class ProviderCreateForm(ProviderChangeForm):
    """POST of a custom provider."""

    provider_id = ProviderIdField(
        max_length=255,
        help_text="A slug that is unique in the account and is not a built-in provider's ID; it cannot change.",
    )


class ProviderModelSerializer(ShownSerializer):
    """A model of a custom provider."""

    id = TextIdField(ids.Prefix.PROVIDER_MODEL)
    model_id = serializers.CharField()


class ParameterSerializer(ShownSerializer):
    """A top-level parameter of a request."""

    name = serializers.CharField(help_text=_PARAMETER_TEXT)


class ApiSurfaceSerializer(ShownSerializer):
    """One API that a custom provider serves, as it was written."""

    format = serializers.ChoiceField([one.value for one in Format])
    surface = serializers.ChoiceField([one.value for one in _SURFACES], required=False, help_text=_SURFACE_TEXT)
    supported_params = ParameterSerializer(many=True, required=False, help_text=_PARAMETERS_TEXT)


@extend_schema_field(ApiSurfaceSerializer(many=True))
class ShownApiSurfacesField(serializers.Field[Any, Any, list[dict[str, Any]], Any]):
    """`supportedApiSurfaces`, kept in the form that the wire has."""

    def to_representation(self, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The surfaces in the contract's order of fields."""
        names = ("format", "surface", "supportedParams")
        return [{name: entry[name] for name in names if name in entry} for entry in value]


class ProviderSerializer(OwnedSerializer, ShownDeviations):
    """A custom provider, read with its models."""

    id = TextIdField(ids.Prefix.PROVIDER)
    provider_id = serializers.CharField(source="slug")
    name = serializers.CharField()
    base_url = serializers.CharField()
    metadata = serializers.CharField(required=False)
    supported_api_surfaces = ShownApiSurfacesField()
    models = ProviderModelSerializer(many=True, source="models_by_age")
