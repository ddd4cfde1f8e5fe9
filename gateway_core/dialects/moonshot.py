"""Moonshot's dialect: an empty balance is a rate limit (429) by its status.

Source: https://platform.moonshot.ai/docs/api/chat.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect, Meaning, NotTaken
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="moonshot",
    meanings=(
        Meaning(402, code="exceeded_current_quota_error"),
        Meaning(401, code="invalid_authentication_error"),
        Meaning(401, code="incorrect_api_key_error"),
        *MEANINGS,
    ),
    request_ids=("msh-request-id", "x-request-id"),
    # Their values are fixed, and any other is refused.
    not_taken=(NotTaken(r"kimi-k2\.[5-9].*", ("temperature", "top_p", "presence_penalty", "frequency_penalty")),),
)
