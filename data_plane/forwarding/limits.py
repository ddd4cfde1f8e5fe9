"""An account's caps on tokens: how much a request may say, and how much it may be told.

Nothing here counts as an upstream does: a model's own tokenizer is its maker's secret, and a request must not wait for
one. Input is estimated at 3.5 characters a token, over all that a model might read.

Source: contract, sections 7 and 9; docs/decisions/0081-token-caps.md.
"""

import math
from collections.abc import Collection, Generator, Iterator, Mapping
from typing import Final

import msgspec

from data_plane.errors import InputTooLong, MemberInvalid
from data_plane.forwarding.bodies import Body
from data_plane.forwarding.governed import COUNTS, HARMLESS, MAXIMA, is_one_of
from data_plane.forwarding.json_slices import LIST, LONG, TooMany, parts_of
from data_plane.forwarding.text_counting import CHARACTERS_PER_TOKEN, Counted, counted
from data_plane.forwarding.thinking import lowered_budgets
from data_plane.settings import UNNAMED_OUTPUT
from data_plane.turns import Turns
from gateway_core.catalog import Surface

# Members that a model does not read. Every other one counts, those too that nobody here knows.
_UNREAD: Final = frozenset(
    (*HARMLESS, *MAXIMA, *COUNTS, "model", "models", "stream", "stream_options", "service_tier", "store", "background")
) - {"prediction", "text", "web_search_options"}
# Members that hold a JSON schema. All of their bytes count, the names of properties too.
_SCHEMAS: Final = frozenset({"tools", "functions", "response_format", "text"})
# The members of each surface that say how long an answer may become; the first is added where there is none.
_OWN_MAXIMA: Final[dict[Surface, tuple[str, ...]]] = {
    Surface.CHAT_COMPLETIONS: ("max_tokens", "max_completion_tokens"),
    Surface.COMPLETIONS: ("max_tokens",),
    Surface.RESPONSES: ("max_output_tokens",),
    Surface.EMBEDDINGS: (),
    Surface.MESSAGES: ("max_tokens",),
}
# Providers whose newer models refuse the older of the two names. All of their models take the newer one.
_NEWER_NAME_FIRST: Final = frozenset({"openai"})
_NULL: Final = frozenset({b"null"})
_LONGEST_NUMBER: Final = 64
# The body that this is in is not too deep.
_ANY_DEPTH: Final = 1_000_000
# The steps of counting that an estimate may take where it cannot give way to other requests: some 5 ms. The rest of the
# text is estimated by the part that was counted.
_MOST_STEPS: Final = 10

_SHORTEST_TOKEN: Final = 2

_parts: Final = msgspec.json.Decoder(list[msgspec.Raw])
_number: Final = msgspec.json.Decoder(int)


def estimated_input_tokens(members: Mapping[str, msgspec.Raw]) -> int:
    """About how many tokens a request's texts are, by as much of them as `_MOST_STEPS` count."""
    characters, read, length, steps = 0.0, 0, 0, 0
    for name, value in _read(members):
        length += _length(value)
        counting, so_far = _counted(name, value), Counted(0.0, 0)
        while steps < _MOST_STEPS and (further := next(counting, None)) is not None:
            so_far = further
            steps += 1
        characters += so_far.characters
        read += so_far.read
    return _tokens(characters * max(1.0, length / max(1, read)))


async def check_input(body: Body, limit: int, turns: Turns) -> None:
    """Refuse a request that says more than it may.

    Nearly every request is let through by the length of its texts as they came: no token is shorter than a digit and a
    comma. A long one is counted a little at a time, and others get their turn between.

    Raises:
        InputTooLong: it does.
    """
    given = list(_read(body.members))
    if sum(_length(value) for _, value in given) > _SHORTEST_TOKEN * limit:
        await turns.run(_check_in_steps(given, limit))


def _check_in_steps(given: list[tuple[str, msgspec.Raw]], limit: int) -> Generator[None, None, None]:
    characters = 0.0
    for name, value in given:
        so_far = 0.0
        for so_far, _ in _counted(name, value):
            if _tokens(characters + so_far) > limit:
                raise InputTooLong(
                    f"The request is estimated at more than {limit} input tokens, which this account allows."
                )
            yield
        characters += so_far


async def check_output(surface: Surface, body: Body, limit: int, turns: Turns) -> int:
    """Refuse a request for more answers than it may have tokens.

    Returns:
        How many answers it asks for: the most of its counts, for each of its prompts.

    Raises:
        MemberInvalid: they are more, or a count is not a whole number above zero.
    """
    most = 1
    for name in COUNTS:
        value = body.members.get(name)
        if value is None or is_one_of(value, _NULL):
            continue
        count = number_in(value)
        if count < 1:
            raise MemberInvalid(f"'{name}' must be a whole number above zero.", param=name)
        most = max(most, count)
    if surface is Surface.COMPLETIONS and (prompt := body.members.get("prompt")) is not None:
        most *= await _prompts(prompt, limit, turns)
    if most > limit:
        raise MemberInvalid(f"The request asks for more answers than the {limit} output tokens that it may have.")
    return most


async def _prompts(prompt: msgspec.Raw, most: int, turns: Turns) -> int:
    """How many prompts a completion has; one above the most where it has more. A list of numbers is one."""
    begin = bytes(memoryview(prompt)[:64]).translate(None, b" \t\r\n")
    if not begin.startswith((b'["', b"[[")):
        return 1
    if _length(prompt) <= LONG:
        return len(_parts.decode(prompt))
    try:
        return len(await turns.run(parts_of(memoryview(prompt), LIST, most=most, depth=_ANY_DEPTH)))
    except TooMany:
        return most + 1


def own_maximum(members: Mapping[str, msgspec.Raw]) -> int:
    """How many tokens a request allows for an answer itself; 0 where it names no maximum, or one below zero."""
    return max(0, max((number_in(members[name]) for name in MAXIMA if name in members), default=0))


def most_output_tokens(surface: Surface, members: Mapping[str, msgspec.Raw], limit: int | None) -> int:
    """How many tokens all answers to a request may have together, at most.

    Args:
        surface: where the request goes.
        members: its body's.
        limit: the account's cap.
    """
    if surface is Surface.EMBEDDINGS:
        return 0
    count = max((number_in(members[name]) for name in COUNTS if name in members), default=1)
    if surface is Surface.COMPLETIONS and (prompt := members.get("prompt")) is not None:
        text = bytes(prompt)
        count = max(count, 1) * (text.count(b'",') + text.count(b"],") + 1)
    most = max(count, 1) * (own_maximum(members) or UNNAMED_OUTPUT)
    return most if limit is None else min(most, limit)


def lowered_maxima(
    surface: Surface,
    members: Mapping[str, msgspec.Raw],
    limit: int,
    answers: int,
    *,
    provider: str,
    parameters: Collection[str] | None,
) -> dict[str, msgspec.Raw]:
    """The members to send instead of the request's own, so that its answers together stay within the limit.

    Args:
        surface: where the request goes.
        members: its body's members.
        limit: tokens.
        answers: of `check_output`.
        provider: whose dialect decides on the name that is added.
        parameters: what the provider takes, None for everything. What it does not take is not added.
    """
    own = [name for name in _OWN_MAXIMA[surface] if parameters is None or name in parameters]
    given = [
        name
        for name in MAXIMA
        if name in members and (parameters is None or name in parameters) and not is_one_of(members[name], _NULL)
    ]
    each = max(1, limit // answers)
    lowered = {name: _raw(each) for name in given if not _is_within(members[name], each)}
    if own and not set(own) & set(given):
        lowered[own[-1 if provider in _NEWER_NAME_FIRST else 0]] = _raw(each)
    budgets = lowered_budgets(members, each)
    return lowered | {name: value for name, value in budgets.items() if parameters is None or name in parameters}


def _is_within(value: msgspec.Raw, limit: int) -> bool:
    """Whether it is a whole number from 1 to the limit. -1 means endless to some upstreams, and "9" is 9 to others."""
    return 0 < number_in(value) <= limit


def number_in(value: msgspec.Raw) -> int:
    """A whole number; 0 for anything else."""
    if _length(value) > _LONGEST_NUMBER:
        return 0
    try:
        return _number.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return 0


def _raw(number: int) -> msgspec.Raw:
    return msgspec.Raw(b"%d" % number)


def _tokens(characters: float) -> int:
    return math.ceil(characters / CHARACTERS_PER_TOKEN)


def _read(members: Mapping[str, msgspec.Raw]) -> Iterator[tuple[str, msgspec.Raw]]:
    """The members that a model reads."""
    return ((name, value) for name, value in members.items() if name not in _UNREAD)


def _length(value: msgspec.Raw) -> int:
    # Made bytes, it would be copied.
    return len(memoryview(value))


def _counted(name: str, value: msgspec.Raw) -> Iterator[Counted]:
    if name in _SCHEMAS:
        length = _length(value)
        return iter((Counted(length, length),))
    return counted(memoryview(value))
