"""Anthropic's dialect: also that of a custom provider on the surface `messages`.

Source: https://docs.anthropic.com/en/api/errors.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect, Meaning
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="anthropic",
    meanings=(
        Meaning(402, message="your credit balance is too low"),
        Meaning(402, message="you have reached your specified (?:workspace )?api usage limits"),
        Meaning(403, message="this organization has been disabled"),
        *MEANINGS,
    ),
    request_ids=("request-id", "x-request-id"),
    counts_tokens=True,
)
