"""Holds: rest.fields, rest.serializers, accounts.owned.serializers

What is written is read back: every optional field of every form, with the values that look like none.
"""

from typing import Any

import pytest
from rest_framework.serializers import Serializer

from access_keys.serializers import AccessKeyForm
from account_settings.limit_forms import LimitForm
from account_settings.serializers import DurationField, GatewayConfigurationForm
from accounts.serializers import ApiKeyForm
from configurations.serializers import AccessField, ConfigurationForm, RouterField
from provider_keys.serializers import ProviderKeyChangeForm, ProviderKeyCreateForm
from providers.deviation_fields import HeadersField, KeyHeaderForm, PathsForm
from providers.serializers import ApiSurfaceForm, ProviderChangeForm, ProviderCreateForm, ProviderModelForm
from rest.fields import (
    IdField,
    StrictBooleanField,
    StrictCharField,
    StrictChoiceField,
    StrictIntegerField,
    StrictListField,
    TimestampField,
)
from tests.fixtures import Api

VALUE = "sk-0123456789abcdefghijklmnop"
# What each kind of field may hold that looks like nothing, and something. The first kind that fits counts.
VALUES: dict[type[Any], list[Any]] = {
    DurationField: ["1m30s", ".5h"],
    StrictCharField: ["", " ", "a\u00e9"],
    StrictBooleanField: [False, True],
    StrictIntegerField: [1, 7],
    TimestampField: ["2999-01-01T00:00:00Z", "2999-01-01T00:00:00.000001Z"],
    AccessField: [{}, {"models": {}}, {"providers": {"allow": []}}, {"models": {"allow": ["openai:x"]}}],
    RouterField: [{"rules": []}, {"rules": [{"provider": "openai", "steps": [{"type": "ngrok"}]}]}],
    ApiSurfaceForm: [[], [{"format": "openai"}], [{"format": "openai", "surface": "responses", "supportedParams": []}]],
    ProviderModelForm: [[], [{"modelId": "x"}]],
    KeyHeaderForm: [{"header": "api-key"}, {"header": "X-Own-Key", "prefix": ""}],
    HeadersField: [{}, {"x-region": "eu"}],
    PathsForm: [{}, {"messages": "/a?b=c"}],
    LimitForm: [[], [{"measure": "concurrency", "amount": 1}]],
    StrictChoiceField: ["moonshot"],
}
# Where each form is sent to make an object, with what is required, and the form of its PATCH.
MADE: dict[str, tuple[type[Serializer[Any]], type[Serializer[Any]], dict[str, Any]]] = {
    "access-keys": (AccessKeyForm, AccessKeyForm, {}),
    "api-keys": (ApiKeyForm, ApiKeyForm, {}),
    "access-key-configurations": (ConfigurationForm, ConfigurationForm, {"name": "c"}),
    "provider-keys": (
        ProviderKeyCreateForm,
        ProviderKeyChangeForm,
        {"providerId": "openai", "name": "p", "value": VALUE},
    ),
    "providers": (
        ProviderCreateForm,
        ProviderChangeForm,
        {"providerId": "mine", "name": "m", "baseUrl": "https://llm.example.com"},
    ),
}


def optional(form: type[Serializer[Any]]) -> list[tuple[str, Any]]:
    """Every (wire name, value) of the optional fields of a form, but for references."""
    return [
        (name, value)
        for name, field in form().fields.items()
        if not field.required and not isinstance(field, IdField)
        for value in values_of(field)
    ]


def values_of(field: Any) -> list[Any]:
    what = field.child if isinstance(field, StrictListField) else field
    return next(values for kind, values in VALUES.items() if isinstance(what, kind))


def shown(answer: Any, name: str) -> Any:
    """A field of an answer; of a provider's models without the IDs that they got."""
    value = answer.json().get(name, "left out")
    if name == "limits":
        # Without what is used of them.
        return [{part: one[part] for part in ("measure", "amount")} for one in value] if value != "left out" else value
    return [{"modelId": model["modelId"]} for model in value] if name == "models" else value


def created(api: Api, path: str, **more: Any) -> Any:
    answer = api.post(path, {**MADE[path][2], **more})
    assert answer.status_code == 201, answer.content
    return answer


CREATED = [(path, name, value) for path, (form, _, _) in MADE.items() for name, value in optional(form)]
CHANGED = [(path, name, value) for path, (_, form, _) in MADE.items() for name, value in optional(form)]


@pytest.mark.parametrize(("path", "name", "value"), CREATED)
def test_what_is_created_is_read_back(api, path, name, value):
    answer = created(api, path, **{name: value})

    assert shown(answer, name) == value
    assert shown(api.get(f"{path}/{answer.json()['id']}"), name) == value


@pytest.mark.parametrize(("path", "name", "value"), CHANGED)
def test_what_is_changed_is_read_back_and_the_same_again_changes_nothing(api, path, name, value):
    place = f"{path}/{created(api, path).json()['id']}"

    first = api.patch(place, {name: value})
    again = api.patch(place, {name: value})

    assert shown(first, name) == shown(api.get(place), name) == value
    assert again.json() == first.json()
    assert again["ETag"] == first["ETag"]


@pytest.mark.parametrize("path", MADE)
def test_what_was_not_written_or_is_cleared_is_left_out(api, path):
    made = created(api, path)
    form = MADE[path][1]
    names = {name for name, _ in optional(form)} - {"models", "supportedApiSurfaces"}
    values = {name: values_of(form().fields[name])[-1] for name in names}
    place = f"{path}/{made.json()['id']}"

    assert names & set(made.json()) == set()
    assert names <= set(api.patch(place, values).json())
    assert names & set(api.patch(place, dict.fromkeys(names)).json()) == set()


@pytest.mark.parametrize(("name", "value"), optional(GatewayConfigurationForm))
def test_the_gateway_configuration_reads_back_what_is_written(api, name, value):
    assert shown(api.patch("gateway-config", {name: value}), name) == value
    assert shown(api.get("gateway-config"), name) == value


def test_a_linked_configuration_is_read_back(api):
    configuration = created(api, "access-key-configurations").json()["id"]

    made = created(api, "access-keys", accessKeyConfigurationId=configuration)

    assert made.json()["accessKeyConfiguration"]["id"] == configuration


def test_an_empty_duration_is_refused(api):
    assert api.patch("gateway-config", {"totalTimeout": ""}).status_code == 422
