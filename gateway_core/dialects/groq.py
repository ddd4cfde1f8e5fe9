"""Groq's dialect.

Source: https://console.groq.com/docs/errors, https://console.groq.com/docs/spend-limits,
https://console.groq.com/docs/openai.
"""

from typing import Final

from gateway_core.catalog import Surface
from gateway_core.dialects.facts import Dialect, Meaning, NotTaken
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="groq",
    meanings=(Meaning(403, code="organization_restricted"), Meaning(402, code="blocked_api_access"), *MEANINGS),
    not_taken=(NotTaken(".*", ("logprobs", "top_logprobs", "logit_bias"), surfaces=(Surface.CHAT_COMPLETIONS,)),),
)
