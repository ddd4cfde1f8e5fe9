"""xAI's dialect: an error is a text beside its code.

Source: https://docs.x.ai/docs/key-information/debugging.
"""

from typing import Final

from gateway_core.dialects.facts import Dialect, Meaning
from gateway_core.dialects.openai import MEANINGS

DIALECT: Final = Dialect(
    id="xai",
    meanings=(
        Meaning(402, message=r"your newly created team(?: \S+)? doesn't have any credits"),
        Meaning(402, message=r"your team \S+ has either used all available credits"),
        *MEANINGS,
    ),
)
