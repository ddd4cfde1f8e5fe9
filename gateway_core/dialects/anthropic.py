"""Anthropic's dialect: also that of a custom provider on the surface `messages`."""

from typing import Final

from gateway_core.dialects.facts import Dialect

DIALECT: Final = Dialect(id="anthropic")
