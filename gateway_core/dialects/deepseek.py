"""DeepSeek's dialect: its statuses say what they mean; a request has an ID under a name of its own.

Source: https://api-docs.deepseek.com/quick_start/error_codes, https://api-docs.deepseek.com/guides/reasoning_model.
"""

from typing import Final

from gateway_core.catalog import Surface
from gateway_core.dialects.facts import Dialect, NotTaken
from gateway_core.dialects.openai import MEANINGS

_CHAT: Final = (Surface.CHAT_COMPLETIONS,)

DIALECT: Final = Dialect(
    id="deepseek",
    meanings=MEANINGS,
    request_ids=("x-ds-trace-id", "x-request-id"),
    not_taken=(
        NotTaken("deepseek-reasoner.*", ("logprobs", "top_logprobs"), surfaces=_CHAT),
        # It knows the older name alone, and would not keep to the maximum.
        NotTaken(".*", renamed=(("max_completion_tokens", "max_tokens"),), surfaces=_CHAT),
    ),
)
