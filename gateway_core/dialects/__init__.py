"""What differs from upstream to upstream, as facts: how a key is shown, what an error means, what ends a stream.

A built-in provider speaks the dialect of its own ID, and a custom provider the one that it names. Where there is none,
it is the dialect of the surface's format. Callers of this package do not decide by a provider's name.

Source: docs/decisions/0084-dialects.md.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from gateway_core.catalog import Surface
from gateway_core.dialects import (
    anthropic,
    cerebras,
    deepseek,
    fireworks,
    google,
    groq,
    mistral,
    moonshot,
    openai,
    openrouter,
    xai,
)
from gateway_core.dialects.facts import Dialect, NotTakenBy

_MODULES: Final = (openai, anthropic, google, deepseek, groq, openrouter, mistral, xai, fireworks, moonshot, cerebras)
# By ID. The first two are those of the formats.
DIALECTS: Final[Mapping[str, Dialect]] = {one.DIALECT.id: one.DIALECT for one in _MODULES}


@lru_cache(maxsize=4096)
def parameters_not_taken(name: str, model: str, surface: Surface) -> NotTakenBy:
    """The parameters that a model does not take.

    Args:
        name: a built-in provider's ID, or the name of a dialect. A provider that only speaks the format is not known to
            refuse anything.
        model: as the provider spells it.
        surface: where requests go.
    """
    dialect = DIALECTS.get(name)
    return NotTakenBy() if dialect is None else dialect.parameters_not_taken(model, surface)


def dialect_of(name: str, surface: Surface) -> Dialect:
    """The dialect of a provider.

    Args:
        name: a built-in provider's ID, or the name of a dialect; any other text, as "", names none.
        surface: where requests go.
    """
    if found := DIALECTS.get(name):
        return found
    return anthropic.DIALECT if surface is Surface.MESSAGES else openai.DIALECT
