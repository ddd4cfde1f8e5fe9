"""Holds: gateway_core.catalog, gateway_core.policy

Other names of built-in providers, and the names of fine-tuned models: what a request and a scope entry mean by them.
"""

import msgspec
import pytest

from gateway_core import ids
from gateway_core.account_snapshot import snapshot_of
from gateway_core.catalog import ALIASES, BUILT_IN, FINE_TUNED, Catalog, Model, ModelsDocument, Surface
from gateway_core.plans import Denial, DenialCode, KeySource, Plan
from gateway_core.policy import resolve
from gateway_core.snapshot import (
    ConfigurationDocument,
    ProviderDocument,
    ProviderKeyDocument,
    Rule,
    Scope,
    SettingsDocument,
    Step,
    SurfaceSupport,
    configuration_document,
    provider_document,
    provider_key_document,
)

CATALOG = Catalog(
    ModelsDocument(
        providers={
            "openai": (Model("gpt-4o", input_price="2.5", output_price="10"),),
            "moonshot": (Model("kimi-k2"), Model("kimi-k3")),
            "z-ai": (Model("glm-4.6"),),
            "groq": (Model("moonshotai/kimi-k2-instruct"),),
            "openrouter": (Model("moonshotai/kimi-k2"), Model("z-ai/glm-4.6"), Model("z-ai/glm-4.6:free")),
        }
    ),
    managed=["openai"],
)
CONFIGURATION = ids.to_text(ids.Prefix.CONFIGURATION, ids.new_id())
CHAT = Surface.CHAT_COMPLETIONS
KEYS = {
    provider: ids.to_text(ids.Prefix.PROVIDER_KEY, ids.new_id())
    for provider in ("openai", "moonshot", "z-ai", "groq", "openrouter")
}
TUNED = "ft:gpt-4o-mini-2024-07-18:acme::7p4lURel"


def account(*, scope: Scope | None = None, own: dict[str, tuple[str, ...]] | None = None):
    documents: list[tuple[str, msgspec.Struct]] = [("settings", SettingsDocument(has_credits=True))]
    for provider, key in KEYS.items():
        document = ProviderKeyDocument(provider=provider, mask="***", sealed=b"x")
        documents.append((provider_key_document(key), document))
    for slug, models in (own or {}).items():
        own_provider = ProviderDocument(
            id=ids.to_text(ids.Prefix.PROVIDER, ids.new_id()),
            name=slug,
            base_url="https://own.example/v1",
            surfaces=(SurfaceSupport(CHAT),),
            models=models,
        )
        documents.append((provider_document(slug), own_provider))
    if scope is not None:
        rules = tuple(Rule(provider=provider, steps=(Step("user", (key,)),)) for provider, key in KEYS.items())
        configuration = ConfigurationDocument(scope=scope, rules=rules)
        documents.append((configuration_document(CONFIGURATION), configuration))
    return snapshot_of(ids.to_text(ids.Prefix.ACCOUNT, ids.new_id()), 1, documents)


def asked(snapshot, name):
    configuration = CONFIGURATION if snapshot.configurations else None
    return resolve(snapshot, CATALOG, configuration=configuration, requested=[name], surface=CHAT)


def meant(snapshot, name):
    answer = asked(snapshot, name)
    return list(dict.fromkeys((one.provider, one.model) for one in getattr(answer, "attempts", ())))


def test_no_alias_is_a_providers_id_or_anothers_alias():
    aliases = [alias for provider in BUILT_IN.values() for alias in provider.aliases]

    assert len(aliases) == len(ALIASES)
    assert not {*aliases, FINE_TUNED} & set(BUILT_IN)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("moonshotai:kimi-k2", ("moonshot", "kimi-k2")),
        ("moonshotai:Kimi-K3", ("moonshot", "kimi-k3")),
        ("moonshotai/kimi-k3", ("moonshot", "kimi-k3")),
        ("moonshotai/kimi-k2", ("moonshot", "kimi-k2")),
        ("moonshotai:brand-new", ("moonshot", "brand-new")),
        ("moonshot:kimi-k2", ("moonshot", "kimi-k2")),
        ("z-ai:glm-4.6", ("z-ai", "glm-4.6")),
        ("z-ai/glm-4.6", ("z-ai", "glm-4.6")),
        # What only others serve under this open ID is theirs.
        ("moonshotai/kimi-k2-instruct", ("groq", "moonshotai/kimi-k2-instruct")),
        ("z-ai/glm-4.6:free", ("openrouter", "z-ai/glm-4.6:free")),
        ("openrouter:z-ai/glm-4.6", ("openrouter", "z-ai/glm-4.6")),
        (TUNED, ("openai", TUNED)),
        ("ft:gpt-4o:acme:support:9xYz", ("openai", "ft:gpt-4o:acme:support:9xYz")),
        ("ft:babbage-002:acme::1", ("openai", "ft:babbage-002:acme::1")),
        (f"openai:{TUNED}", ("openai", TUNED)),
        (f"openai/{TUNED}", ("openai", TUNED)),
    ],
)
def test_a_request_means_the_provider_by_each_of_its_names(name, expected):
    assert meant(account(), name) == [expected]


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (("moonshot", "kimi-k2"), "moonshotai:kimi-k2"),
        (("", "moonshotai/kimi-k2"), "moonshot:kimi-k2"),
        (("", "moonshotai/kimi-k3"), "moonshotai/kimi-k3"),
        (("", "moonshot/kimi-k2"), "moonshotai/kimi-k2"),
        (("", "moonshotai/kimi-k2-instruct"), "groq:moonshotai/kimi-k2-instruct"),
        (("", "z-ai/glm-4.6"), "z-ai:glm-4.6"),
        (("openai", TUNED), TUNED),
    ],
)
def test_a_scope_entry_allows_the_model_under_each_name(entry, name):
    assert isinstance(asked(account(scope=Scope(models=(entry,))), name), Plan)


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        (("", "moonshotai/kimi-k2"), "openrouter:moonshotai/kimi-k2"),
        (("", "moonshotai/kimi-k2-instruct"), "moonshot:kimi-k2-instruct"),
        # Entries are exact: neither the base model nor another fine-tuned one is meant.
        (("openai", "gpt-4o"), "ft:gpt-4o:acme::1"),
        (("openai", TUNED), TUNED[:-1]),
        (("openai", TUNED), "gpt-4o"),
    ],
)
def test_a_scope_entry_allows_nothing_else(entry, name):
    answer = asked(account(scope=Scope(models=(entry,))), name)

    assert isinstance(answer, Denial)
    assert answer.code is DenialCode.MODEL_NOT_ALLOWED


def test_a_fine_tuned_model_is_never_asked_for_with_the_operators_key():
    snapshot = account()
    snapshot.keys_of.clear()

    answer = asked(snapshot, "ft:gpt-4o:acme::1")

    assert isinstance(answer, Denial)
    assert isinstance(asked(snapshot, "gpt-4o"), Plan)


@pytest.mark.parametrize(
    ("own", "name", "model"),
    [
        ("moonshotai", "moonshotai:kimi-k2", "kimi-k2"),
        ("moonshotai", "moonshotai/kimi-k2", "kimi-k2"),
        ("ft", "ft:kimi-k2", "kimi-k2"),
        ("ft", "ft:other:x", "other:x"),
    ],
)
def test_an_accounts_own_provider_of_that_name_wins_and_gets_no_key_of_the_built_in_one(own, name, model):
    answer = asked(account(own={own: ("kimi-k2",)}), name)

    assert isinstance(answer, Plan)
    assert [(one.provider, one.model, one.source) for one in answer.attempts] == [(own, model, KeySource.NONE)]
