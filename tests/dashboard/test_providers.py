"""Holds: dashboard.pages.providers

The providers section: the catalog as it is, and an account's own upstreams by the API's rules.
"""

import pytest

from configurations.services import create_configuration
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from providers.models import Provider

pytestmark = pytest.mark.django_db

BUILT_IN = "/dashboard/providers"
CUSTOM = f"{BUILT_IN}/custom"
FILLED = {
    "providerId": "our-models",
    "name": "Our models",
    "baseUrl": "https://models.internal/v1",
    "models": "llama3.2\r\n\r\n  qwen3 \r\n",
    "way-openai-all": "",
    "way-openai-chat-completions": "only",
    "parameters-openai-chat-completions": "model, messages,, stream",
    "way-openai-embeddings": "all",
    "parameters-openai-embeddings": "left over",
    "way-anthropic-messages": "only",
    "parameters-anthropic-messages": "",
}
WIRE = {
    "providerId": "our-models",
    "name": "Our models",
    "baseUrl": "https://models.internal/v1",
    "models": [{"modelId": "llama3.2"}, {"modelId": "qwen3"}],
    "supportedApiSurfaces": [
        {
            "format": "openai",
            "surface": "chat-completions",
            "supportedParams": [{"name": "model"}, {"name": "messages"}, {"name": "stream"}],
        },
        {"format": "openai", "surface": "embeddings"},
        {"format": "anthropic", "surface": "messages", "supportedParams": []},
    ],
}


@pytest.fixture
def client(account, sign_in):
    return sign_in(account)


@pytest.fixture
def provider(api):
    return Provider.objects.get(slug=api.post("providers", WIRE).json()["providerId"])


def shown_form(client, provider):
    """What a browser would send of the form as it is shown."""
    form = client.get(f"{CUSTOM}/{provider.text_id}").context["form"]
    return {bound.field.name: bound.value for bound in form} | {"etag": form.etag}


def test_built_in_providers_show_what_they_serve_and_the_keys_that_are_stored(account, principal, client):
    value = PlainValue("sk-0123456789abcdefghijklmnop")
    create_provider_key(account=account, by=principal, provider_id="openai", name="team", value=value)

    listed = {one.provider.id: one for one in client.get(BUILT_IN).context["providers"]}
    page = client.get(f"{BUILT_IN}/built-in/openai", {"q": "GPT-4O-mini"})

    assert (listed["openai"].key_count, listed["anthropic"].key_count) == (1, 0)
    assert listed["openai"].model_count > 100
    models = {model.name: model for model in page.context["models"]}
    assert models["gpt-4o-mini"].input_price == "$0.15"
    assert not {name for name in models if "gpt-4o-mini" not in name}
    assert b"team" in page.content
    assert client.get(f"{BUILT_IN}/built-in/no-such").status_code == 404


def test_the_models_of_all_providers_are_searched(client):
    found = client.get(BUILT_IN, {"q": "anthropic claude sonnet"}).context["models"]
    assert {"anthropic"} < {model.provider.id for model in found}

    assert b"No model matches" in client.get(BUILT_IN, {"q": "no-such-model"}).content


def test_a_provider_is_made_as_the_api_would_make_it(account, api, client):
    answer = client.post(f"{CUSTOM}/new", FILLED)

    made = account.provider_set.get()
    assert answer["Location"] == f"{CUSTOM}/{made.text_id}"
    shown = api.get(f"providers/{made.text_id}").json()
    shown["models"] = [{"modelId": model["modelId"]} for model in shown["models"]]
    assert {name: shown[name] for name in WIRE} == WIRE


def test_each_fault_stands_at_its_field_with_the_apis_own_words(account, api, client, provider):
    def told(changes, wire):
        answer = client.post(f"{CUSTOM}/new", FILLED | changes)
        said = api.post("providers", WIRE | wire)
        assert answer.status_code == said.status_code
        faults = {bound.field.name: bound.faults for bound in answer.context["form"] if bound.faults}
        return faults, list(said.json()["details"].values())

    faults, texts = told({"providerId": "openai"}, {"providerId": "openai"})
    assert faults == {"providerId": texts}
    faults, texts = told({}, {})
    assert faults == {"providerId": texts}, "taken"
    url = {"baseUrl": "https://me:secret@models.internal"}
    faults, texts = told(url | {"name": ""}, url | {"name": ""})
    assert [*faults["name"], *faults["baseUrl"]] == texts
    faults, texts = told(
        {"providerId": "other", "models": "a\n\n" + "x" * 256},
        {"providerId": "other", "models": [{"modelId": "a"}, {"modelId": "x" * 256}]},
    )
    assert faults == {"models": [f"Line 3: {texts[0]}"]}
    faults, texts = told(
        {"providerId": "other", "models": "a\nA"},
        {"providerId": "other", "models": [{"modelId": "a"}, {"modelId": "A"}]},
    )
    assert faults == {"models": [f"Line 2: {texts[0]}"]}
    faults, texts = told(
        {"providerId": "other", "parameters-openai-chat-completions": "x" * 256},
        {
            "providerId": "other",
            "supportedApiSurfaces": [{"format": "openai", "supportedParams": [{"name": "x" * 256}]}],
        },
    )
    assert faults == {"parameters-openai-chat-completions": texts}
    assert account.provider_set.count() == 1


def test_an_edit_writes_only_what_is_different(client, provider):
    page = f"{CUSTOM}/{provider.text_id}"
    Provider.objects.update(supported_api_surfaces=WIRE["supportedApiSurfaces"][::-1])
    kept = {model.model_id: model.id for model in provider.models.all()}
    before = Provider.objects.get()

    client.post(page, shown_form(client, provider))
    unchanged = Provider.objects.get()
    assert unchanged.updated_at == before.updated_at
    assert unchanged.supported_api_surfaces == before.supported_api_surfaces, "the order that was written"

    client.post(page, shown_form(client, provider) | {"models": "qwen3\nnew", "way-openai-embeddings": ""})
    changed = Provider.objects.get()
    assert [entry.get("surface") for entry in changed.supported_api_surfaces] == ["chat-completions", "messages"]
    now = {model.model_id: model.id for model in changed.models.all()}
    assert set(now) == {"qwen3", "new"}
    assert now["qwen3"] == kept["qwen3"]

    nothing = {"models": "", "way-openai-chat-completions": "", "way-anthropic-messages": ""}
    client.post(page, shown_form(client, provider) | nothing)
    emptied = Provider.objects.get()
    assert (emptied.supported_api_surfaces, emptied.models.count()) == ([], 0)


def test_a_provider_that_something_names_tells_what_and_cannot_be_deleted(account, principal, client, provider):
    value = PlainValue("sk-0123456789abcdefghijklmnop")
    create_provider_key(account=account, by=principal, provider_id="our-models", name="team", value=value)
    create_configuration(account=account, by=principal, name="chat", access={"providers": {"allow": ["our-models"]}})
    page = f"{CUSTOM}/{provider.text_id}"

    for shown in (client.get(page), client.get(f"{page}/delete")):
        assert b"team" in shown.content
        assert b"chat" in shown.content
    assert client.post(f"{page}/delete", {"phrase": "our-models"}).status_code == 409
    account.providerkey_set.all().delete()
    account.configuration_set.all().delete()
    assert client.post(f"{page}/delete", {"phrase": "Our models"}).status_code == 422
    assert client.post(f"{page}/delete", {"phrase": "our-models"})["Location"] == CUSTOM
    assert not account.provider_set.exists()


DEVIATING = {
    "auth-header": "api-key",
    "auth-prefix": "Key ",
    "headers": "X-Region: eu\r\n\r\n x-note : a: b ",
    "path-chat-completions": "/openai/deployments/{model}/chat/completions?api-version=1",
    "dialect": "openai",
}
DEVIATIONS = {
    "auth": {"header": "api-key", "prefix": "Key "},
    "headers": {"X-Region": "eu", "x-note": "a: b"},
    "paths": {"chat-completions": "/openai/deployments/{model}/chat/completions?api-version=1"},
    "dialect": "openai",
}


def test_a_provider_that_deviates_is_made_edited_and_made_plain_again(api, client):
    # The name of a header has no space at its end.
    filled = FILLED | DEVIATING | {"headers": DEVIATING["headers"].replace(" : ", ": ")}
    client.post(f"{CUSTOM}/new", filled)
    made = Provider.objects.get()
    page = f"{CUSTOM}/{made.text_id}"
    assert {name: getattr(made, name) for name in DEVIATIONS} == DEVIATIONS

    client.post(page, shown_form(client, made))
    assert Provider.objects.get().updated_at == made.updated_at, "what is shown is what is stored"

    client.post(page, shown_form(client, made) | {"auth-prefix": "", "path-messages": "/m"})
    shown = api.get(f"providers/{made.text_id}").json()
    assert shown["auth"] == {"header": "api-key"}
    assert shown["paths"] == DEVIATIONS["paths"] | {"messages": "/m"}

    client.post(page, shown_form(client, made) | dict.fromkeys([*DEVIATING, "path-messages"], ""))
    assert not set(DEVIATIONS) & set(api.get(f"providers/{made.text_id}").json())


@pytest.mark.parametrize(
    ("changes", "field", "wire"),
    [
        ({"auth-header": "host"}, "auth-header", {"auth": {"header": "host"}}),
        ({"auth-prefix": "Key "}, "auth-header", {"auth": {"header": "", "prefix": "Key "}}),
        ({"auth-header": "k", "auth-prefix": "x" * 33}, "auth-prefix", {"auth": {"header": "k", "prefix": "x" * 33}}),
        ({"headers": "x-api-key: a"}, "headers", {"headers": {"x-api-key": "a"}}),
        ({"headers": "x-a: a\nx-a: b"}, "headers", {"headers": {"x-a": "a", "x-a ": "b"}}),
        ({"headers": "no colon"}, "headers", {"headers": {"no colon": ""}}),
        ({"path-messages": "/../x"}, "path-messages", {"paths": {"messages": "/../x"}}),
        ({"dialect": "no-such"}, "dialect", {"dialect": "no-such"}),
    ],
)
def test_a_fault_of_a_deviation_stands_at_its_field_with_the_apis_own_words(api, client, changes, field, wire):
    answer = client.post(f"{CUSTOM}/new", FILLED | changes)

    (text,) = api.post("providers", WIRE | wire).json()["details"].values()
    faults = {bound.field.name: bound.faults for bound in answer.context["form"] if bound.faults}
    assert answer.status_code == 422
    assert list(faults) == [field]
    assert faults[field][0].endswith(text)
    assert not Provider.objects.exists()
