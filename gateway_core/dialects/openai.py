"""OpenAI's dialect, which most upstreams speak: also that of every provider without one of its own."""

from typing import Final

from gateway_core.dialects.facts import Dialect

DIALECT: Final = Dialect(id="openai")
