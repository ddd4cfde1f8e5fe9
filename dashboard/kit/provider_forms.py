"""The form of a custom provider. It has one row for each of the few possible API surfaces."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from dashboard.kit import deviation_fields
from dashboard.kit.forms import BoundField, Field, Form
from gateway_core.catalog import Format, Surface
from providers import base_url_check
from providers.models import Provider
from providers.serializers import ProviderChangeForm, ProviderCreateForm
from rest.errors import GatewayError

_SURFACES: Final = "supportedApiSurfaces"
_PLACE: Final = re.compile(rf"{_SURFACES}\[(\d+)\](?:\.(\w+))?")
# The ways to serve a surface: not at all, with every parameter, or with some parameters.
_NOT: Final = ""
_WHOLE: Final = "all"
_ONLY: Final = "only"
_WAYS: Final = ((_NOT, "Not served"), (_WHOLE, "Served, every parameter"), (_ONLY, "Served, only these parameters"))


class Row(NamedTuple):
    """One row of the form: an entry of `supportedApiSurfaces` in the API."""

    format: Format
    # None means the whole format.
    surface: Surface | None
    label: str

    @property
    def way(self) -> str:
        """The name of the field for the way in which it is served."""
        return f"way-{self.format}-{self.surface or 'all'}"

    @property
    def parameters(self) -> str:
        """The name of the field that lists the accepted parameters."""
        return f"parameters-{self.format}-{self.surface or 'all'}"


ROWS: Final = (
    Row(Format.OPENAI, None, "OpenAI: every surface"),
    Row(Format.OPENAI, Surface.CHAT_COMPLETIONS, "OpenAI: chat completions"),
    Row(Format.OPENAI, Surface.RESPONSES, "OpenAI: responses"),
    Row(Format.OPENAI, Surface.EMBEDDINGS, "OpenAI: embeddings"),
    Row(Format.ANTHROPIC, Surface.MESSAGES, "Anthropic: messages"),
    Row(Format.ANTHROPIC, None, "Anthropic: every surface"),
)
_FIELDS: Final = (
    Field("name", "Name", required=True, placeholder="Our model server"),
    Field(
        "baseUrl",
        "Base URL",
        required=True,
        placeholder="https://models.example.com/v1",
        hint="A surface’s path is appended to it. https:// on the internet; http:// for *.internal and for hosts that "
        "the operator allows.",
    ),
)
_PROVIDER_ID: Final = Field(
    "providerId",
    "Provider ID",
    required=True,
    placeholder="our-models",
    hint="A lower-case slug; requests name it, as in our-models:llama3.2. It never changes.",
)
_MODELS: Final = Field(
    "models",
    "Models",
    "lines",
    member="modelId",
    placeholder="llama3.2",
    hint="One a line, as the provider spells them. Others are passed through when they are named with the provider.",
)
_METADATA: Final = Field(
    "metadata", "Metadata", "textarea", hint="Your own text, JSON for example. The gateway does not read it."
)


class ProviderForm(Form):
    """The form that creates or edits a provider."""

    def __init__(
        self,
        *,
        provider: Provider | None = None,
        submitted: Mapping[str, str] | None = None,
        etag: str = "",
        resolve: base_url_check.Resolve | None = None,
    ) -> None:
        """
        Args:
            provider: the provider to edit, with its models; None creates one.
            submitted: request.POST.
            etag: the version that is shown.
            resolve: resolves the host of the submitted base URL.
        """
        present = None if provider is None else _present(provider)
        self._rows = tuple(row for row in ROWS if _is_offered(row, present))
        own = () if provider else (_PROVIDER_ID,)
        surfaces = tuple(field for row in self._rows for field in _fields_of(row))
        super().__init__(
            ProviderCreateForm if provider is None else ProviderChangeForm,
            (*_FIELDS, *own, *surfaces, _MODELS, *deviation_fields.FIELDS, _METADATA),
            submitted=submitted,
            present=present,
            etag=etag,
            context={"resolve": resolve, "item": provider},
        )
        self._written = [] if provider is None else provider.supported_api_surfaces
        self._deviations = {
            name: None if provider is None else getattr(provider, name) for name in deviation_fields.NAMES
        }

    @property
    def surfaces(self) -> list[tuple[Row, BoundField, BoundField]]:
        """(row, field for the way, field for the parameters) of each row."""
        return [(row, self[row.way], self[row.parameters]) for row in self._rows]

    def wire(self) -> dict[str, Any]:
        """The JSON body, with the rows as the array `supportedApiSurfaces`."""
        names = {name for row in self._rows for name in (row.way, row.parameters)}
        names |= {field.name for field in deviation_fields.FIELDS}
        body = super().wire()
        shown = {name: value for name, value in body.items() if name not in names}
        entries = [_entry(row, *fields) for row, *fields in self.surfaces if fields[0].value]
        if _comparable(entries) != _comparable(self._written):
            shown[_SURFACES] = entries
        written = deviation_fields.written(lambda name: str(self[name].value))
        stored = self._deviations
        return shown | {name: value for name, value in written.items() if value != (stored[name] or None)}

    @property
    def paths(self) -> list[str]:
        """The names of the fields for the paths of surfaces."""
        return list(deviation_fields.PATHS)

    def show(self, error: GatewayError) -> None:
        """Show an error as every form does. A fault of an entry is in its row, a fault of all in the first."""
        served = [row for row, way, _ in self.surfaces if way.value]
        details: dict[str, str] = {}
        for path, text in error.details.items():
            name = deviation_fields.field_at(_field_at(path, served))
            details[name] = f"{details[name]} {text}" if name in details else text
        super().show(type(error)(str(error), details=details))


def _field_at(path: str, served: Sequence[Row]) -> str:
    """The name of the form's field for a JSON path of the request."""
    if path == _SURFACES:
        return ROWS[0].way
    place = _PLACE.match(path)
    if place is None or int(place[1]) >= len(served):
        return path
    row = served[int(place[1])]
    return row.parameters if place[2] == "supportedParams" else row.way


def _fields_of(row: Row) -> tuple[Field, Field]:
    return (
        Field(row.way, row.label, "choice", choices=_WAYS),
        Field(row.parameters, f"Parameters of {row.label}", placeholder="model, messages, stream"),
    )


def _present(provider: Provider) -> dict[str, Any]:
    present: dict[str, Any] = {
        "name": provider.name,
        "baseUrl": provider.base_url,
        "metadata": provider.metadata,
        "models": [model.model_id for model in provider.models_by_age],
        **deviation_fields.present(provider),
    }
    for entry in provider.supported_api_surfaces:
        row = Row(Format(entry["format"]), Surface(entry["surface"]) if "surface" in entry else None, "")
        supported = entry.get("supportedParams")
        present[row.way] = _WHOLE if supported is None else _ONLY
        present[row.parameters] = ", ".join(one["name"] for one in supported or ())
    return present


def _is_offered(row: Row, present: Mapping[str, Any] | None) -> bool:
    """Whether to offer a row. Anthropic has one surface, so "the whole format" is offered only where stored so."""
    return row != ROWS[-1] or (present is not None and row.way in present)


def _entry(row: Row, way: BoundField, parameters: BoundField) -> dict[str, Any]:
    entry: dict[str, Any] = {"format": row.format.value}
    if row.surface is not None:
        entry["surface"] = row.surface.value
    if way.value == _ONLY:
        names = [name.strip() for name in re.split(r"[,\n]", parameters.value)]
        entry["supportedParams"] = [{"name": name} for name in names if name]
    return entry


def _comparable(entries: list[dict[str, Any]]) -> list[str]:
    """A form of a list of entries in which their order does not matter, for comparison."""
    return sorted(repr(sorted(entry.items())) for entry in entries)
