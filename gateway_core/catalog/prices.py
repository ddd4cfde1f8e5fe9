"""Prices: the form in which the catalog holds them, and what an attempt costs. Both planes compute with this module.

A model has one or more price sets. Which one is in force depends on the moment and on the service tier (`tier_of`). A
set has a price for each kind of token that is charged by itself; a kind without one costs what the kind costs that
contains it. So nothing that was used costs nothing where its model has a price.

Source: docs/decisions/0062-costs.md, docs/decisions/0076-kinds-and-tiers.md.
"""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final, Protocol

import msgspec

# Costs have so many places of a dollar.
DOLLAR_PLACES: Final = 12
_SMALLEST: Final = Decimal(1).scaleb(-DOLLAR_PLACES)
_MILLION: Final = Decimal(1_000_000)
_THOUSAND: Final = Decimal(1000)
_ZERO: Final = Decimal(0)
_DAY: Final = 86_400


class Counts(Protocol):
    """What an attempt used, as a usage event counts it. Tokens of a kind are part of the input or of the output."""

    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cache_read_tokens(self) -> int: ...
    @property
    def cache_write_tokens(self) -> int: ...
    @property
    def cache_write_1h_tokens(self) -> int: ...
    @property
    def reasoning_tokens(self) -> int: ...
    @property
    def input_audio_tokens(self) -> int: ...
    @property
    def cache_read_audio_tokens(self) -> int: ...
    @property
    def output_audio_tokens(self) -> int: ...
    @property
    def input_image_tokens(self) -> int: ...
    @property
    def cache_read_image_tokens(self) -> int: ...
    @property
    def output_image_tokens(self) -> int: ...
    @property
    def web_searches(self) -> int: ...


class Stepped(msgspec.Struct, frozen=True, array_like=True):
    """A price that depends on how long the input is: from a step on, its price holds for all tokens."""

    base: Decimal
    # (input tokens that must be exceeded, price), rising.
    steps: tuple[tuple[int, Decimal], ...]


Price = Decimal | Stepped


class PriceSet(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """The prices that hold together: US dollars a million tokens, and a thousand requests or searches."""

    input: Price | None = None
    output: Price | None = None
    cache_read: Price | None = None
    cache_write: Price | None = None
    cache_write_1h: Price | None = msgspec.field(default=None, name="cacheWrite1h")
    reasoning: Price | None = None
    input_audio: Price | None = None
    cache_read_audio: Price | None = None
    output_audio: Price | None = None
    input_image: Price | None = None
    cache_read_image: Price | None = None
    output_image: Price | None = None
    requests: Price | None = None
    web_searches: Price | None = None
    # The service tier that it is for; "" for the usual one.
    tier: str = ""
    # When it begins, in seconds since 1970; 0 for always.
    since: int = 0
    # The seconds of each UTC day from and until which it holds; None for all day.
    hours: tuple[int, int] | None = None

    def is_in_force(self, moment: int) -> bool:
        """Whether it holds at a moment in seconds since 1970."""
        if moment < self.since:
            return False
        if self.hours is None:
            return True
        begin, end = self.hours
        second = moment % _DAY
        return begin <= second < end if begin <= end else second >= begin or second < end

    def prices(self) -> Iterator[Decimal]:
        """Every price in it, those of all steps too."""
        for name in KINDS:
            price = getattr(self, name)
            if isinstance(price, Stepped):
                yield price.base
                yield from (one for _, one in price.steps)
            elif price is not None:
                yield price


_CONDITIONS: Final = frozenset({"tier", "since", "hours"})
KINDS: Final = tuple(name for name in PriceSet.__struct_fields__ if name not in _CONDITIONS)
PriceSets = tuple[PriceSet, ...]


def in_force(sets: PriceSets, *, moment: int, tier: str = "") -> PriceSet | None:
    """The prices that hold.

    Args:
        sets: of one model.
        moment: seconds since 1970.
        tier: the service tier, in the provider's spelling. One that no set is for costs as usual.

    Returns:
        The last of the usual sets that is in force, with the first set of the tier laid over it; None if there is none.
    """
    usual = [one for one in sets if not one.tier]
    if not usual:
        return None
    found = next((one for one in reversed(usual) if one.is_in_force(moment)), usual[0])
    for own in sets:
        if tier and own.tier == tier and own.is_in_force(moment):
            given = {name: price for name in KINDS if (price := getattr(own, name)) is not None}
            return msgspec.structs.replace(found, **given, tier=tier)
    return found


def cost(sets: PriceSets, used: Counts, *, moment: int, tier: str = "") -> Decimal:
    """What an attempt costs in US dollars, to 12 places; zero if there is no price or nothing was used.

    Args:
        sets: the model's.
        used: what it used.
        moment: when it began, in seconds since 1970.
        tier: the service tier that served it.
    """
    if not used.input_tokens and not used.output_tokens:
        return _ZERO
    found = in_force(sets, moment=moment, tier=tier)
    if found is None or found.input is None:
        return _ZERO
    # Numbers that contradict each other never make a part below zero.
    audio = max(used.input_audio_tokens, used.cache_read_audio_tokens)
    image = max(used.input_image_tokens, used.cache_read_image_tokens)
    read = max(used.cache_read_tokens, used.cache_read_audio_tokens + used.cache_read_image_tokens)
    written = max(used.cache_write_tokens, used.cache_write_1h_tokens)
    kept_audio, kept_image = used.cache_read_audio_tokens, used.cache_read_image_tokens
    parts_in = read + written + audio - kept_audio + image - kept_image
    total_input = max(used.input_tokens, parts_in)
    parts_out = used.reasoning_tokens + used.output_audio_tokens + used.output_image_tokens
    output = _first(found.output, found.input)
    cached = _first(found.cache_read, found.input)
    fresh = _first(found.cache_write, found.input)
    tokens = _ZERO
    for price, count in (
        (found.input, total_input - parts_in),
        (cached, read - kept_audio - kept_image),
        (_first(found.cache_read_audio, found.input_audio, cached), kept_audio),
        (_first(found.cache_read_image, found.input_image, cached), kept_image),
        (_first(found.input_audio, found.input), audio - kept_audio),
        (_first(found.input_image, found.input), image - kept_image),
        (fresh, written - used.cache_write_1h_tokens),
        (_first(found.cache_write_1h, fresh), used.cache_write_1h_tokens),
        (output, max(used.output_tokens - parts_out, 0)),
        (_first(found.reasoning, output), used.reasoning_tokens),
        (_first(found.output_audio, output), used.output_audio_tokens),
        (_first(found.output_image, output), used.output_image_tokens),
    ):
        if count:
            tokens += _at(price, total_input) * count
    others = _ZERO if found.requests is None else _at(found.requests, total_input)
    if used.web_searches and found.web_searches is not None:
        others += _at(found.web_searches, total_input) * used.web_searches
    # The 28 digits of a Decimal hold any cost below ten quadrillion dollars: nothing is rounded before this.
    return (tokens / _MILLION + others / _THOUSAND).quantize(_SMALLEST)


def _first(*prices: Price | None) -> Price:
    """The first price that is known. The last argument always is."""
    return next(price for price in prices if price is not None)


def _at(price: Price, total_input: int) -> Decimal:
    """The price for so much input."""
    if isinstance(price, Decimal):
        return price
    return next((one for start, one in reversed(price.steps) if total_input > start), price.base)


def most_expensive(sets: PriceSets, *, moment: int, input_tokens: int, output_tokens: int) -> Decimal:
    """The most that so many tokens can cost at the usual tier, whatever kinds they are. For reservations.

    Args:
        sets: the model's.
        moment: seconds since 1970.
        input_tokens, output_tokens: the most that there will be.
    """
    found = in_force(sets, moment=moment)
    if found is None or found.input is None:
        return _ZERO
    into = [found.input, found.cache_read, found.cache_write, found.cache_write_1h, found.input_audio]
    into += [found.cache_read_audio, found.input_image, found.cache_read_image]
    out = [_first(found.output, found.input), found.reasoning, found.output_audio, found.output_image]
    dearest_in = max(_at(price, input_tokens) for price in into if price is not None)
    dearest_out = max(_at(price, input_tokens) for price in out if price is not None)
    tokens = dearest_in * input_tokens + dearest_out * output_tokens
    request = _ZERO if found.requests is None else _at(found.requests, input_tokens)
    return (tokens / _MILLION + request / _THOUSAND).quantize(_SMALLEST)
