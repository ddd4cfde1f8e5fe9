"""Holds: gateway_core.dialects

The facts of each dialect, and which provider speaks which.
"""

import pytest

from gateway_core.catalog import BUILT_IN, Surface
from gateway_core.dialects import DIALECTS, dialect_of


def test_anthropic_gets_its_key_as_each_surface_wants_it():
    for name in ("anthropic", ""):
        assert dialect_of(name, Surface.MESSAGES).key_header(Surface.MESSAGES).name == "x-api-key"
    shown = dialect_of("anthropic", Surface.CHAT_COMPLETIONS).key_header(Surface.CHAT_COMPLETIONS)
    assert (shown.name, shown.prefix) == ("authorization", "Bearer ")


@pytest.mark.parametrize("surface", Surface)
def test_a_provider_without_a_dialect_of_its_own_speaks_that_of_the_surface(surface: Surface):
    wanted = "anthropic" if surface is Surface.MESSAGES else "openai"

    assert dialect_of("inference-net", surface) is DIALECTS[wanted]


def test_every_dialect_is_a_providers_or_a_formats():
    assert set(DIALECTS) <= set(BUILT_IN)
