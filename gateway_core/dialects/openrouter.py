"""OpenRouter's dialect: what an account has not allowed is a model that is not found (404).

Source: https://openrouter.ai/docs/api-reference/errors.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect, Meaning
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="openrouter",
    meanings=(
        Meaning(402, message="key limit exceeded"),
        Meaning(402, message="insufficient credits"),
        Meaning(403, message="no endpoints found matching your data policy"),
        Meaning(403, message="no allowed providers are available for the selected model"),
        *MEANINGS,
    ),
    request_ids=("x-generation-id", "x-request-id"),
)
