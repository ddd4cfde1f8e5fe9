"""Costs in billionths of a dollar, fast where a model has the usual prices: one for each of input, output and cache.

The functions of the library count in decimals, which takes 20 to 50 µs. A test compares both.

Source: docs/decisions/0120-limits.md.
"""

from decimal import Decimal
from typing import Final, NamedTuple

from gateway_core.catalog import Catalog, Model
from gateway_core.catalog.prices import KINDS, PriceSets, cost, most_expensive
from gateway_core.limits.limit import in_billionths
from gateway_core.plans import Attempt
from gateway_core.usage_events import OTHER_COUNTS, UsageEvent

_SECOND: Final = 1_000_000
_MILLION: Final = 1_000_000
# A price of a dollar a million tokens is a thousand billionths a token, and prices are kept in millionths of that.
_UNITS: Final = 1000
_PLACES: Final = 6
_USUAL: Final = frozenset({"input", "output", "cache_read"})


class _Usual(NamedTuple):
    """Millionths of a dollar for a million tokens, of each kind."""

    input: int
    output: int
    cache_read: int


class _Known:
    """What was made of the prices of a catalog."""

    catalog: Catalog | None = None
    usual: dict[tuple[str, str], tuple[Model | None, _Usual | None]] = {}


def _of(catalog: Catalog, provider: str, model: str) -> tuple[Model | None, _Usual | None]:
    if _Known.catalog is not catalog or len(_Known.usual) > _UNITS:
        _Known.catalog, _Known.usual = catalog, {}
    found = _Known.usual.get((provider, model))
    if found is None:
        known = catalog.find(provider, model)
        found = _Known.usual[provider, model] = known, None if known is None else _usual(known.price_sets)
    return found


def _usual(sets: PriceSets) -> _Usual | None:
    """The prices of a model that has no others and always the same ones; None for any other model."""
    usual = [one for one in sets if not one.tier]
    if len(usual) != 1:
        return None
    (one,) = usual
    given = {name: price for name in KINDS if (price := getattr(one, name)) is not None}
    if one.input is None or not given.keys() <= _USUAL:
        return None
    scaled: dict[str, int] = {}
    for name, price in given.items():
        if not isinstance(price, Decimal) or price.normalize().as_tuple().exponent < -_PLACES:  # type: ignore[operator]
            return None
        scaled[name] = int(price * _MILLION)
    paid = scaled["input"]
    return _Usual(paid, scaled.get("output", paid), scaled.get("cache_read", paid))


def cost_of(catalog: Catalog, event: UsageEvent) -> int:
    """What an attempt cost; 0 where its model has no price."""
    known, usual = _of(catalog, event.provider, event.model)
    if known is None:
        return 0
    if (
        usual is None
        or event.service_tier
        or event.cache_write_tokens
        or any(getattr(event, one) for one in OTHER_COUNTS)
    ):
        return in_billionths(cost(known.price_sets, event, moment=event.time // _SECOND, tier=event.service_tier))
    if not event.input_tokens and not event.output_tokens:
        return 0
    read = event.cache_read_tokens
    total = (
        usual.input * (max(event.input_tokens, read) - read)
        + usual.cache_read * read
        + usual.output * max(event.output_tokens, event.reasoning_tokens)
    )
    return -(-total // _UNITS)


def most_of(catalog: Catalog, attempt: Attempt, input_tokens: int, output_tokens: int, moment: int) -> int:
    """The most that an attempt can cost; 0 where its model has no price.

    Args:
        catalog: its prices.
        attempt: where it goes.
        input_tokens, output_tokens: the most that there will be.
        moment: seconds since 1970.
    """
    known, usual = _of(catalog, attempt.provider, attempt.model)
    if known is None:
        return 0
    if usual is None:
        sets = known.price_sets
        dollars = most_expensive(sets, moment=moment, input_tokens=input_tokens, output_tokens=output_tokens)
        return in_billionths(dollars)
    return -(-(max(usual.input, usual.cache_read) * input_tokens + usual.output * output_tokens) // _UNITS)
