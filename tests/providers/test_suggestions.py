"""Holds: providers.provider_names

What an unknown name could have been: told in refusals, and at a bounded price.
"""

import time

import pytest

from providers.provider_names import KnownProviders
from tests.patience import stretched


@pytest.mark.parametrize(
    ("entry", "hint"),
    [
        ("gpt-4o", "openai:gpt-4o"),
        ("GPT-4o", "openai:gpt-4o"),
        ("gpt-4o-mini-2", "openai:gpt-4o"),
        ("claude-haiku-4-5", "anthropic:claude-haiku-4-5"),
    ],
)
def test_a_model_without_its_provider_is_refused_with_those_that_it_could_be(api, assert_refused, entry, hint):
    access = {"models": {"allow": [entry]}}

    answer = api.post("/access-key-configurations", {"name": "x", "access": access})

    details = assert_refused(answer, 422, "configuration_invalid", "access.models.allow[0]")
    assert f"Did you mean {hint}" in details["access.models.allow[0]"]


def test_an_unknown_provider_is_refused_with_the_nearest_built_in_or_custom_one(api, create_provider):
    create_provider(providerId="my-ollama")
    allow = ["opanai", "my-olama", "nothing-like-any"]

    answer = api.post("/access-key-configurations", {"name": "x", "access": {"providers": {"allow": allow}}})

    details = answer.json()["details"]
    assert "openai" in details["access.providers.allow[0]"]
    assert "my-ollama" in details["access.providers.allow[1]"]
    assert "Did you mean" not in details["access.providers.allow[2]"]


def test_an_unknown_provider_of_a_provider_key_is_refused_with_the_nearest_one(api, assert_refused):
    answer = api.post("/provider-keys", {"providerId": "antropic", "name": "x", "value": "sk-12345678"})

    assert "anthropic" in assert_refused(answer, 422, "provider_unknown", "providerId")["providerId"]


def test_a_name_that_may_be_a_secret_is_not_repeated(api):
    answer = api.post(
        "/access-key-configurations", {"name": "x", "access": {"models": {"allow": ["sk-a-secret-value"]}}}
    )

    assert "sk-a-secret-value" not in answer.content.decode()


def test_a_thousand_unknown_names_cost_no_more_than_twenty():
    known = KnownProviders()
    began = time.monotonic()

    told = [known.bare_model_refusal(f"gpt-5-{number}") for number in range(1000)]

    assert time.monotonic() - began < stretched(10)
    assert sum("Did you mean" in sentence for sentence in told) <= 20
