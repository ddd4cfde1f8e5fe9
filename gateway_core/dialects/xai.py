"""xAI's dialect: an error is a text beside its code.

Source: https://docs.x.ai/docs/key-information/debugging, https://docs.x.ai/docs/guides/reasoning.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect, Meaning, NotTaken
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="xai",
    meanings=(
        Meaning(402, message=r"your newly created team(?: \S+)? doesn't have any credits"),
        Meaning(402, message=r"your team \S+ has either used all available credits"),
        *MEANINGS,
    ),
    not_taken=(
        NotTaken(
            r"grok-3-mini.*|grok-4(?!.*non-reasoning).*|grok-code.*", ("presence_penalty", "frequency_penalty", "stop")
        ),
        # Later ones can be asked for less of it.
        NotTaken(r"grok-3(?!-mini).*|grok-4(?:-.*)?|grok-code.*", ("reasoning_effort",)),
    ),
)
