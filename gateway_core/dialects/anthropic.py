"""Anthropic's dialect: also that of a custom provider on the surface `messages`.

Source: https://docs.anthropic.com/en/api/errors, https://docs.anthropic.com/en/docs/build-with-claude/extended-thinking,
https://docs.anthropic.com/en/docs/about-claude/models/migration-guide.
"""

from typing import Final

from gateway_core.catalog import Surface
from gateway_core.dialects.facts import Dialect, Meaning, NotTaken
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
    not_taken=(
        NotTaken(r"claude-opus-4-[78].*|claude-fable-5.*", ("temperature", "top_p", "top_k")),
        NotTaken(r"claude-(?:opus-4-[1-6]|sonnet-4-[56]|haiku-4-5).*", ("top_p",), beside="temperature"),
        # A thinking model has a temperature of its own.
        NotTaken(r"claude-.*", ("temperature", "top_k"), surfaces=(Surface.MESSAGES,), if_reasoning=True),
    ),
)
