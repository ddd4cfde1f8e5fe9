"""Holds: data_plane.forwarding.targets, gateway_core.policy

Where an attempt goes when an account's own provider and a built-in one have the same name, because a later release has
added the built-in one. What the policy decides and where the worker sends it agree.
"""

import msgspec
import pytest

from data_plane.forwarding.targets import Targets
from data_plane.state.held import HeldAccount
from gateway_core import ids
from gateway_core.account_snapshot import snapshot_of
from gateway_core.base_urls import UpstreamRules
from gateway_core.catalog import Catalog, Model, ModelsDocument, Surface
from gateway_core.plans import Denial, KeySource, Plan
from gateway_core.policy import reachable_models, resolve
from gateway_core.snapshot import (
    ProviderDocument,
    ProviderKeyDocument,
    SettingsDocument,
    SurfaceSupport,
    provider_document,
    provider_key_document,
)

# The operator has a key of the built-in provider.
PRICED = Model("gpt-4o", input_price="1", output_price="1")
CATALOG = Catalog(ModelsDocument(providers={"openai": (PRICED,)}), managed=["openai"])
CHAT = Surface.CHAT_COMPLETIONS
OWN = ProviderDocument(
    id=ids.to_text(ids.Prefix.PROVIDER, ids.new_id()),
    name="Own",
    base_url="https://own.example/v1",
    surfaces=(SurfaceSupport(CHAT),),
    models=("gpt-4o",),
)


KEY = ids.to_text(ids.Prefix.PROVIDER_KEY, ids.new_id())


def held(providers):
    account = HeldAccount(ids.to_text(ids.Prefix.ACCOUNT, ids.new_id()))
    documents = [(provider_document(slug), document) for slug, document in providers.items()]
    key = ProviderKeyDocument(provider="openai", mask="***", sealed=b"x")
    account.snapshot = snapshot_of(
        account.id,
        1,
        [
            *documents,
            ("settings", SettingsDocument(has_credits=True)),
            (provider_key_document(KEY), key),
        ],
    )
    return account


def host_of(account, provider="openai"):
    return Targets(UpstreamRules(), {}).find(account, provider, CHAT).way.url.host


def test_the_accounts_own_provider_wins_over_a_built_in_one_of_the_same_name():
    assert host_of(held({"openai": OWN})) == "own.example"
    assert host_of(held({"other": OWN})) == "api.openai.com"


@pytest.mark.parametrize("requested", ["openai:gpt-4o", "openai/gpt-4o", "gpt-4o", "openai:llama3", f"{OWN.id}:gpt-4o"])
def test_every_attempt_with_the_accounts_key_or_none_goes_to_its_own_host_and_the_operators_key_nowhere(requested):
    account = held({"openai": OWN})

    plan = resolve(account.snapshot, CATALOG, configuration=None, requested=[requested], surface=CHAT)

    assert isinstance(plan, Plan)
    assert [(attempt.provider, attempt.source, attempt.provider_key) for attempt in plan.attempts] == [
        ("openai", KeySource.USER, KEY)
    ]
    assert {host_of(account, attempt.provider) for attempt in plan.attempts} == {"own.example"}


def test_a_bare_name_that_only_the_built_in_provider_serves_does_not_mean_the_own_one():
    account = held({"openai": msgspec.structs.replace(OWN, models=("llama3",))})

    answer = resolve(account.snapshot, CATALOG, configuration=None, requested=["gpt-4o"], surface=CHAT)

    assert isinstance(answer, Denial)


def test_its_models_are_listed_once_and_are_its_own():
    account = held({"openai": OWN})

    listed = [pair for some in reachable_models(account.snapshot, CATALOG, configuration=None) for pair in some]

    assert listed == [("openai", "gpt-4o")]
