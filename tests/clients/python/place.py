"""What every package is given: an address and access keys, as its user would set them."""

import os
from typing import Final

URL: Final = os.environ["GATEWAY_URL"]
V1: Final = f"{URL}/v1"
TOKEN: Final = os.environ["GATEWAY_TOKEN"]
# Its configuration allows another model alone.
SCOPED: Final = os.environ["GATEWAY_SCOPED_TOKEN"]
UNKNOWN: Final = os.environ["GATEWAY_UNKNOWN_TOKEN"]
GPT: Final = "gpt-4o"
CLAUDE: Final = "claude-sonnet-4-5"
CITY: Final = "Oslo"
RESULT: Final = "7 degrees in Oslo"


def with_tool(client: str) -> str:
    """A prompt that makes the upstream call the tool."""
    return f'{client}: use the tool weather with {{"city": "{CITY}"}}'


def busy(client: str) -> str:
    """A prompt that the upstream answers when it is asked again."""
    return f"{client}: be busy once"
