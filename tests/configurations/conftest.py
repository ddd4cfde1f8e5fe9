"""What an account of these tests has: a key for each of two providers, and a custom provider with a key."""

from types import SimpleNamespace

import pytest

from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from tests.rows import make_provider


@pytest.fixture
def known(account, principal):
    """`openai`, `other_openai`, `groq`, `custom_key`: `aigpk_…` IDs. `custom`: the `aigp_…` ID of `my-ollama`."""

    def key(provider):
        value = PlainValue(f"key-of-{provider}")
        made = create_provider_key(account=account, by=principal, provider_id=provider, name=provider, value=value)
        return made.text_id

    return SimpleNamespace(
        custom=make_provider(account).text_id,
        openai=key("openai"),
        other_openai=key("openai"),
        groq=key("groq"),
        custom_key=key("my-ollama"),
    )
