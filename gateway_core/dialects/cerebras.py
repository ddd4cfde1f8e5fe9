"""Cerebras' dialect: some parameters are refused (400).

Source: https://inference-docs.cerebras.ai/resources/openai.
"""

from typing import Final

from gateway_core.catalog import Surface
from gateway_core.dialects.facts import Dialect, NotTaken
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="cerebras",
    meanings=MEANINGS,
    not_taken=(
        NotTaken(".*", ("frequency_penalty", "presence_penalty", "logit_bias"), surfaces=(Surface.CHAT_COMPLETIONS,)),
    ),
)
