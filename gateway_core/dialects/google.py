"""Gemini's dialect, on its API in OpenAI's form: its errors have Google's form there, sometimes in a list.

Source: https://ai.google.dev/gemini-api/docs/troubleshooting.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect, Meaning
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="google",
    meanings=(
        Meaning(401, code="api_key_invalid"),
        Meaning(401, message="api key (?:not valid|not found|expired)"),
        Meaning(401, message="please pass a valid api key"),
        Meaning(402, message="gemini api free tier is not available in your country"),
        *MEANINGS,
    ),
)
