"""Groq's dialect.

Source: https://console.groq.com/docs/errors, https://console.groq.com/docs/spend-limits.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect, Meaning
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="groq",
    meanings=(Meaning(403, code="organization_restricted"), Meaning(402, code="blocked_api_access"), *MEANINGS),
)
