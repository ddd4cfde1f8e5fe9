"""Mistral AI's dialect: its errors are objects without an `error` in them.

Source: https://docs.mistral.ai/api/.
"""

from typing import Final

from gateway_core.catalog import Surface
from gateway_core.dialects.facts import Dialect, NotTaken
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="mistral",
    meanings=MEANINGS,
    request_ids=("mistral-correlation-id", "x-kong-request-id", "x-request-id"),
    # Names that its API does not have are refused (422).
    not_taken=(
        NotTaken(
            ".*",
            ("logit_bias", "logprobs", "top_logprobs", "user"),
            renamed=(("max_completion_tokens", "max_tokens"), ("seed", "random_seed")),
            surfaces=(Surface.CHAT_COMPLETIONS,),
        ),
    ),
)
