"""An account's caps on tokens: how much a request may say, and how much it may be told.

Nothing here counts as an upstream does: a model's own tokenizer is its maker's secret, and a request must not wait for
one. Input is estimated at 3.5 characters a token, over the texts alone; pictures and files are not text.

Source: contract, sections 7 and 9; docs/decisions/0081-token-caps.md.
"""

import asyncio
import math
from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec

from data_plane.errors import InputTooLong
from data_plane.forwarding.bodies import Body
from gateway_core.catalog import Surface

_CHARACTERS_PER_TOKEN: Final = 3.5
# The members of each surface that a model reads.
_TEXTS: Final[dict[Surface, tuple[str, ...]]] = {
    Surface.CHAT_COMPLETIONS: ("messages", "tools", "functions", "response_format"),
    Surface.COMPLETIONS: ("prompt", "suffix"),
    Surface.RESPONSES: ("instructions", "input", "tools", "text", "prompt"),
    Surface.EMBEDDINGS: ("input",),
    Surface.MESSAGES: ("system", "messages", "tools"),
}
# Members that hold a JSON schema. All of their bytes count, the names of properties too.
_SCHEMAS: Final = frozenset({"tools", "functions", "response_format", "text"})
# What stands under these names is not read as text: pictures, files, signatures, and words of the protocol.
_NOT_TEXT: Final = frozenset(
    (
        "data",
        "encrypted_content",
        "file_data",
        "file_id",
        "id",
        "call_id",
        "image_url",
        "media_type",
        "role",
        "signature",
        "tool_call_id",
        "tool_use_id",
        "type",
        "url",
    )
)
# The members that say how long an answer may become; the first is added where there is none.
_MAXIMA: Final[dict[Surface, tuple[str, ...]]] = {
    Surface.CHAT_COMPLETIONS: ("max_tokens", "max_completion_tokens"),
    Surface.COMPLETIONS: ("max_tokens",),
    Surface.RESPONSES: ("max_output_tokens",),
    Surface.EMBEDDINGS: (),
    Surface.MESSAGES: ("max_tokens",),
}
# This one's newer models refuse the older of the two names, and all of its models take the newer.
_NEWER_NAME_FIRST: Final = frozenset({"openai"})

_parts: Final = msgspec.json.Decoder(list[msgspec.Raw])
_number: Final = msgspec.json.Decoder(int)


def estimated_input_tokens(surface: Surface, members: Mapping[str, msgspec.Raw]) -> int:
    """About how many tokens a request's texts are. Costs what parsing them costs."""
    return _tokens(sum(_characters(name, members[name]) for name in _TEXTS[surface] if name in members))


async def check_input(surface: Surface, body: Body, limit: int) -> None:
    """Refuse a request that says more than it may.

    Nearly every request is let through by the length of its texts as they came, without being parsed: nothing in JSON
    is shorter than what it means. A long one is parsed part by part, and others get their turn between.

    Raises:
        InputTooLong: it does.
    """
    members = body.members
    given = [(name, members[name]) for name in _TEXTS[surface] if name in members]
    if _tokens(sum(len(bytes(value)) for _, value in given)) <= limit:
        return
    characters = 0.0
    for name, value in given:
        for part in _split(value):
            characters += _characters(name, part)
            if _tokens(characters) > limit:
                raise InputTooLong(
                    f"The request is estimated at more than {limit} input tokens, which this account allows."
                )
            await asyncio.sleep(0)


def lowered_maxima(
    surface: Surface,
    members: Mapping[str, msgspec.Raw],
    limit: int,
    *,
    provider: str,
    parameters: Collection[str] | None,
) -> dict[str, msgspec.Raw]:
    """The members to send instead of the request's own, so that its answer stays within the limit.

    Args:
        surface: where the request goes.
        members: its body's members.
        limit: tokens.
        provider: whose dialect decides on the name that is added.
        parameters: what the provider takes, None for everything. What it does not take is not added.
    """
    names = [name for name in _MAXIMA[surface] if parameters is None or name in parameters]
    given = [name for name in names if name in members and bytes(members[name]).strip() != b"null"]
    if given:
        return {name: _raw(limit) for name in given if not _is_within(members[name], limit)}
    return {names[-1 if provider in _NEWER_NAME_FIRST else 0]: _raw(limit)} if names else {}


def _is_within(value: msgspec.Raw, limit: int) -> bool:
    """Whether it is a whole number from 1 to the limit. -1 means endless to some upstreams, and "9" is 9 to others."""
    try:
        return 0 < _number.decode(value) <= limit
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _raw(number: int) -> msgspec.Raw:
    return msgspec.Raw(b"%d" % number)


def _tokens(characters: float) -> int:
    return math.ceil(characters / _CHARACTERS_PER_TOKEN)


def _split(value: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _parts.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [value]


def _characters(member: str, value: msgspec.Raw) -> float:
    if member in _SCHEMAS:
        return len(bytes(value))
    try:
        return _count(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return len(bytes(value))


def _count(value: Any) -> float:
    """The number of characters in the texts of a JSON value.

    An integer in a list counts as one token: completions and embeddings take lists of token IDs.
    """
    characters = 0.0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            characters += 0 if one.startswith("data:") else len(one)
        elif isinstance(one, list):
            waiting.extend(one)
        elif isinstance(one, dict):
            waiting.extend(inner for name, inner in one.items() if name not in _NOT_TEXT)
        elif isinstance(one, int) and not isinstance(one, bool):
            characters += _CHARACTERS_PER_TOKEN
    return characters
