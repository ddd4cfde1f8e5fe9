"""Mistral AI's dialect: its errors are objects without an `error` in them.

Source: https://docs.mistral.ai/api/.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="mistral", meanings=MEANINGS, request_ids=("mistral-correlation-id", "x-kong-request-id", "x-request-id")
)
