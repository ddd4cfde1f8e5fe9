"""Holds: gateway_core.catalog, gateway_core.catalog.suggestions

The catalog: our own facts on the built-in providers, and the models that the price data knows.
"""

import pytest

from gateway_core.catalog import (
    BUILT_IN,
    Catalog,
    Format,
    Model,
    ModelsDocument,
    Surface,
    model_key,
    nearest_providers,
)
from gateway_core.catalog.suggestions import NameIndex
from providers.catalog import build_models_document


def test_the_built_in_providers_are_those_that_we_promise():
    promised = (
        "openai anthropic google deepseek groq openrouter mistral xai together fireworks cerebras perplexity moonshot "
        "hyperbolic inceptionlabs inference-net z-ai"
    )
    assert set(promised.split()) <= set(BUILT_IN)


def test_managed_inference_is_offered_for_exactly_openai_and_anthropic():
    assert {provider.id for provider in BUILT_IN.values() if provider.is_managed} == {"openai", "anthropic"}


@pytest.mark.parametrize("provider", BUILT_IN.values(), ids=lambda provider: provider.id)
def test_every_built_in_provider_is_reached_by_tls_and_takes_chat_completions(provider):
    assert provider.base_url.startswith("https://")
    assert not provider.base_url.endswith("/")
    assert Surface.CHAT_COMPLETIONS in provider.surfaces
    assert (Surface.MESSAGES in provider.surfaces) == (provider.id == "anthropic")


def test_a_surface_stands_at_its_path():
    assert [surface.path for surface in (*Format.OPENAI.surfaces, *Format.ANTHROPIC.surfaces)] == [
        "/chat/completions",
        "/completions",
        "/responses",
        "/embeddings",
        "/messages",
    ]


@pytest.mark.parametrize(
    ("provider", "model", "key"),
    [
        ("openai", "GPT-4o", "gpt-4o"),
        ("openai", "openai/gpt-4o", "gpt-4o"),
        ("openai", "OpenAI/GPT-4o", "gpt-4o"),
        ("groq", "openai/gpt-oss-120b", "openai/gpt-oss-120b"),
        ("openai", "openai/", "openai/"),
    ],
)
def test_names_are_compared_without_case_and_without_the_providers_own_prefix(provider, model, key):
    assert model_key(provider, model) == key


def test_the_packaged_data_knows_the_models_that_people_ask_for():
    catalog = Catalog(build_models_document())

    for name, provider in [
        ("gpt-4o", "openai"),
        ("gpt-4o-mini-2024-07-18", "openai"),
        ("claude-haiku-4-5", "anthropic"),
        ("claude-haiku-4-5-20251001", "anthropic"),
        ("gemini-2.5-pro", "google"),
        ("deepseek-chat", "deepseek"),
        ("glm-4.6", "z-ai"),
    ]:
        assert catalog.serving(name)[0] == (provider, name)
        assert catalog.find(provider, name).is_priced


def test_google_is_not_said_to_serve_what_only_its_other_cloud_serves():
    assert not [model.id for model in Catalog(build_models_document()).models("google") if "claude" in model.id]


def test_suggestions_are_near_and_few():
    catalog = Catalog(ModelsDocument(providers={"openai": (Model("gpt-4o"), Model("gpt-4o-mini"))}))

    assert catalog.nearest_models("gpt4o")[0] == "openai:gpt-4o"
    assert catalog.nearest_models("something else altogether") == ()
    assert nearest_providers("opnai") == ("openai",)
    assert nearest_providers("my-olama", ["my-ollama"]) == ("my-ollama",)


def test_only_a_provider_that_may_be_managed_can_be():
    assert Catalog(ModelsDocument(providers={}), managed=["openai", "groq"]).managed == {"openai"}


def test_a_name_is_compared_with_few_of_the_known_ones(monkeypatch: pytest.MonkeyPatch):
    compared: list[int] = []
    index = NameIndex([f"gpt-{number}-mini" for number in range(5_000)])

    def compare(_name: str, names: list[str], **_options: object) -> list[str]:
        compared.append(len(names))
        return []

    monkeypatch.setattr("gateway_core.catalog.suggestions.difflib.get_close_matches", compare)

    index.nearest("gpt-imin-" * 60, cutoff=0.7)

    assert compared == [12]


def test_names_that_look_alike_are_found_among_many():
    index = NameIndex([f"gpt-{number}-mini" for number in range(2_000)])

    assert index.nearest("GPT1234mini", cutoff=0.7)[0] == "gpt-1234-mini"
    assert index.nearest("", cutoff=0.7) == []
