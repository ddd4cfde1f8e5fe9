"""Fireworks' dialect: a suspended account is a failed precondition (412).

Source: https://docs.fireworks.ai/guides/inference-error-codes.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect, Meaning
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="fireworks",
    meanings=(Meaning(402, message=r"account \S{1,100} is suspended"), *MEANINGS),
)
