"""`POST /v1/messages/count_tokens`: by the provider that would answer the message, or by an estimate that says so.

Source: contract, section 9; docs/decisions/0087-calls-beside-the-surfaces.md.
"""

from typing import Final

import msgspec

from data_plane.forwarding.bodies import Body
from data_plane.forwarding.exchange import Exchange
from data_plane.forwarding.limits import estimated_input_tokens
from gateway_core.usage_events import UsageEvent

# The statuses by which a server says that it does not know a path.
_NOT_THERE: Final = frozenset({404, 405, 501})
_HEADERS: Final = [(b"content-type", b"application/json"), (b"gateway-estimated", b"true")]


class NotCounted(Exception):
    """The provider that would answer does not count tokens."""


def is_not_counted(status: int, *, is_custom: bool) -> bool:
    """Whether an answer means that the provider does not count tokens.

    Args:
        status: of the answer.
        is_custom: a built-in provider is known to count them: its 404 is about the model.
    """
    return is_custom and status in _NOT_THERE


async def answer_estimated(exchange: Exchange, body: Body) -> None:
    """Answer with the gateway's own estimate."""
    await exchange.answer(200, _HEADERS, msgspec.json.encode({"input_tokens": estimated_input_tokens(body.members)}))


def not_metered(_event: UsageEvent) -> None:
    """Record no usage: counting costs nothing."""
