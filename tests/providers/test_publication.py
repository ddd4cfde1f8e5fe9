"""Holds: providers.snapshot_documents

From the wire to Redis: a provider and the account's settings are where the data plane reads them, at once.
"""

import pytest

from gateway_core import snapshot
from gateway_core.envelopes import Purpose
from gateway_core.snapshot import ProviderDocument, SettingsDocument
from snapshots import rebuild
from snapshots.publisher import pause
from snapshots.redis_client import document_keys, inline_store, keys, patient_store

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _live():
    """A Redis that takes publications."""
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()
    pause.end()
    rebuild.rebuild(patient_store())


@pytest.fixture
def published(redis, account):
    """The account's document of a name as Redis holds it; None where it holds none."""

    def read(name):
        envelope = redis.hget(keys().account(account.text_id), name)
        if envelope is None:
            return None
        body = document_keys().verify(Purpose.DOCUMENT, keys().location(account.text_id, name), envelope).body
        return snapshot.read(name, body)

    return read


def test_a_provider_is_published_changed_and_taken_away_with_its_writes(api, create_provider, published):
    provider = create_provider(baseUrl="https://8.8.8.8", models=[{"modelId": "a"}])

    found = published("provider:my-ollama")
    assert isinstance(found, ProviderDocument)
    assert (found.id, found.base_url, found.models) == (provider["id"], "https://8.8.8.8/v1", ("a",))

    api.patch(provider["uri"], {"baseUrl": "https://134744072/x", "models": []})
    found = published("provider:my-ollama")
    assert isinstance(found, ProviderDocument)
    assert (found.base_url, found.models) == ("https://8.8.8.8/x", ())

    api.delete(provider["uri"])
    assert published("provider:my-ollama") is None


def test_settings_are_published_with_their_write_and_taken_away_when_the_defaults_are_back(api, published):
    api.patch("/gateway-config", {"totalTimeout": "5s", "maxInputTokens": 7})
    assert published("settings") == SettingsDocument(total_timeout="5s", max_input_tokens=7)

    api.patch("/gateway-config", {"totalTimeout": None, "maxInputTokens": None})
    assert published("settings") is None


def test_a_refused_deletion_leaves_the_provider_published(api, create_provider, published):
    provider = create_provider()
    api.post("/provider-keys", {"providerId": "my-ollama", "name": "k", "value": "x" * 30})

    assert api.delete(provider["uri"]).status_code == 409
    assert published("provider:my-ollama") is not None


def test_a_rebuild_brings_both_back(api, create_provider, published, redis):
    create_provider()
    api.patch("/gateway-config", {"maxOutputTokens": 9})
    redis.flushall()

    rebuild.rebuild(patient_store())

    assert isinstance(published("provider:my-ollama"), ProviderDocument)
    assert published("settings") == SettingsDocument(max_output_tokens=9)
