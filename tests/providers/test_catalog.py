"""Holds: providers.catalog

`/catalog/providers` and `/catalog/models`: the built-in providers, for everybody with an API key.
"""

import pytest

from gateway_core.catalog import BUILT_IN
from providers import managed
from providers.catalog import build_models_document

KEY = "sk-" + "a" * 40


def every(api, path, key):
    found = []
    while path:
        page = api.get(path).json()
        found += page[key]
        path = page["nextPageUri"]
    return found


def test_every_built_in_provider_is_listed_with_what_it_serves(api):
    answer = api.get("/catalog/providers")

    providers = {one["id"]: one for one in answer.json()["catalogProviders"]}
    assert answer.status_code == 200
    assert list(providers) == list(BUILT_IN)
    assert answer.json()["uri"] == "http://testserver/catalog/providers"
    assert answer.json()["nextPageUri"] is None
    anthropic = providers["anthropic"]
    assert set(anthropic) == {
        "id",
        "displayName",
        "baseUrl",
        "supportedApiSurfaces",
        "managedInferenceSupported",
        "managedInferenceAvailable",
        "modelCount",
    }
    assert {"format": "anthropic", "surface": "messages"} in anthropic["supportedApiSurfaces"]
    assert [one["id"] for one in providers.values() if one["managedInferenceSupported"]] == ["openai", "anthropic"]
    assert not any(one["managedInferenceAvailable"] for one in providers.values())


def test_managed_inference_is_available_where_the_operator_has_a_key(api):
    managed.set_managed_key(provider="openai", value=KEY)

    providers = api.get("/catalog/providers").json()["catalogProviders"]

    assert [one["id"] for one in providers if one["managedInferenceAvailable"]] == ["openai"]
    assert KEY not in str(providers)


def test_pages_walk_through_every_model_once(api):
    listed = every(api, "/catalog/models", "catalogModels")

    known = {
        f"{provider}:{model.id}" for provider, models in build_models_document().providers.items() for model in models
    }
    assert len(listed) == len(known) > 500
    assert {model["id"] for model in listed} == known


def test_a_model_shows_its_names_its_window_and_its_prices(api):
    found = api.get("/catalog/models?provider=openai&q=gpt-4o-mini").json()["catalogModels"]

    model = next(one for one in found if one["modelId"] == "gpt-4o-mini")
    assert model["id"] == "openai:gpt-4o-mini"
    assert model["providerId"] == "openai"
    assert float(model["inputPrice"]) > 0
    assert model["contextWindow"] > 1000
    assert all(value is not None for one in found for value in one.values())


def test_models_are_filtered_by_provider_and_the_filter_stays_on_the_next_page(api):
    page = api.get("/catalog/models?provider=groq&limit=2").json()
    rest = every(api, page["nextPageUri"], "catalogModels")

    assert len(page["catalogModels"]) == 2
    assert {model["providerId"] for model in (*page["catalogModels"], *rest)} == {"groq"}
    assert page["catalogModels"][1]["id"] < rest[0]["id"]


@pytest.mark.parametrize("query", ["q=CLAUDE%20sonnet", "q=sonnet+anthropic:claude"])
def test_a_search_finds_what_has_every_word_in_any_case(api, query):
    found = every(api, f"/catalog/models?{query}", "catalogModels")

    assert found
    for model in found:
        text = (model["id"] + model.get("displayName", "")).lower()
        assert "claude" in text
        assert "sonnet" in text


def test_a_search_that_finds_nothing_is_an_empty_list(api):
    assert api.get("/catalog/models?q=no-such-model").json()["catalogModels"] == []
    assert [one["id"] for one in api.get("/catalog/providers?q=open").json()["catalogProviders"]] == [
        "openai",
        "openrouter",
    ]


def test_a_cursor_of_an_item_that_is_gone_still_shows_what_follows(api):
    found = api.get("/catalog/models?cursor=openai:zzzz&limit=1").json()["catalogModels"]

    assert found[0]["providerId"] == "anthropic"


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("limit=0", "limit"),
        ("limit=1000", "limit"),
        ("limit=x", "limit"),
        ("cursor=nonsense", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=a&cursor=b", "cursor"),
        (f"q={'x' * 600}", "q"),
        ("provider=", "provider"),
        ("provider=OpenAI", "provider"),
        ("provider=openai&provider=groq", "provider"),
    ],
)
def test_a_bad_query_is_refused(api, assert_refused, query, path):
    assert_refused(api.get(f"/catalog/models?{query}"), 400, "query_invalid", path)


def test_an_unknown_provider_is_refused_with_the_nearest_one(api, assert_refused):
    details = assert_refused(api.get("/catalog/models?provider=opnai"), 400, "query_invalid", "provider")

    assert "openai" in details["provider"]


@pytest.mark.parametrize("path", ["/catalog/providers", "/catalog/models"])
def test_the_catalog_is_read_by_who_has_an_api_key_and_written_by_nobody(api, anonymous, assert_refused, path):
    assert_refused(anonymous.get(path), 401, "unauthenticated")
    assert api.request("HEAD", path).status_code == 200
    assert api.request("HEAD", path).content == b""
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert_refused(api.request(method, path, {}), 405, "method_not_allowed")
    assert_refused(api.get(f"{path}/"), 404, "not_found")
