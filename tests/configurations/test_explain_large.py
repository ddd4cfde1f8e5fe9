"""Holds: configurations.explain

Explaining in a large account: it reads a small part of it, and says what it would say if it had read all.
"""

import secrets
import time

import msgspec
import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from accounts.models import Account
from configurations import explain
from configurations.explain import Question, explain_stored
from gateway_core.account_snapshot import AccountSnapshot, snapshot_of
from gateway_core.explanation import explain as explained
from provider_keys.models import ProviderKey
from providers.catalog import current_catalog
from providers.models import ProviderModel
from snapshots import document_kinds
from tests.rows import make_provider
from tests.tiers import number

pytestmark = pytest.mark.django_db

BY = {"created_by": "x", "last_updated_by": "x"}
SLUGS = ("mine", "openai-like", "mistral")
# Names that mean something else with another prefix, in another case, or for another provider.
PARTS = (
    "gpt-4o",
    "GPT-4o",
    "llama3.2",
    "x/m",
    "mine/m",
    "openai/gpt-4o",
    "m",
    "a:b",
    "ﬁne",
    "fine",
    "groq/m",
    "mine/x/m",
)


def make_keys(account: Account, count: int, provider: str, size: int = 64) -> None:
    ProviderKey.objects.bulk_create(
        ProviderKey(
            account=account,
            name="k",
            provider=provider,
            sealed=secrets.token_bytes(size),
            key_redacted="***",
            fingerprint=secrets.token_hex(32),
            **BY,
        )
        for _ in range(count)
    )


def make_models(account: Account, slug: str, models: list[str]) -> None:
    provider = make_provider(account, slug)
    ProviderModel.objects.bulk_create(ProviderModel(provider=provider, model_id=model) for model in models)


def whole(account: Account) -> AccountSnapshot:
    """The snapshot with every document, as a worker has it."""
    documents = [(name, one) for name, one in document_kinds.all_documents(account) if not name.startswith("token:")]
    return snapshot_of(account.text_id, 1, documents)


@pytest.fixture
def mixed(account: Account) -> Account:
    """An account with custom providers whose models resemble each other, and with more keys than a plan has."""
    for slug in SLUGS:
        make_models(account, slug, list(PARTS))
        make_keys(account, 3, slug)
    make_keys(account, 30, "openai")
    return account


names = st.lists(
    st.builds(
        "".join, st.tuples(st.sampled_from(["", "mine:", "mine/", "openai:", "groq:", "gr0q:"]), st.sampled_from(PARTS))
    ),
    min_size=1,
    max_size=4,
)


@settings(
    max_examples=number(30, full=2000), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(requested=names)
def test_it_says_what_it_would_say_if_it_had_read_everything(mixed: Account, requested: list[str]) -> None:
    question = Question(requested)

    partial = explain_stored(account=mixed, configuration=None, question=question)

    assert partial == explained(
        whole(mixed), current_catalog(), configuration=None, requested=requested, surface=question.surface
    )


@pytest.mark.parametrize("most", [2, 20])
def test_the_plan_is_as_long_as_the_workers_are_set_to_make_it(
    account: Account, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    make_keys(account, 30, "openai")
    monkeypatch.setattr(django_settings, "REQUEST_ATTEMPTS", most)

    answer = explain_stored(account=account, configuration=None, question=Question(["gpt-4o"]))

    assert len(answer.attempts) == most


def test_it_reads_few_rows_of_an_account_at_its_quotas(account: Account) -> None:
    providers = number(10, full=100)
    for place in range(providers):
        make_models(account, f"p{place}", [f"model-{model}" for model in range(200)])
    for provider in ("openai", "anthropic"):
        make_keys(account, number(200, full=1000), provider, size=4200)
    question = Question([f"model-{model}" for model in range(20)])
    explained = explain_stored(account=account, configuration=None, question=question)
    # A candidate for each name and provider; an answer is bounded by the quota of providers.
    assert len(explained.candidates) == 20 * providers
    assert len(msgspec.json.encode(explained)) < 20 * providers * 500

    with CaptureQueriesContext(connection) as queries:
        began = time.process_time()
        snapshot = explain._snapshot(account, {}, question.requested)
        seconds = time.process_time() - began

    assert len(queries) <= 6
    assert len(snapshot.provider_keys) == 2 * 17
    assert not any(key.sealed for key in snapshot.provider_keys.values())
    assert sum(len(provider.models) for provider in snapshot.providers.values()) == 20 * providers
    # Of this process's processor. At full size it was 0.1 s; with everything read, 0.5 s.
    assert seconds < 0.3
