"""Look at fetched prices: some can never be used, and some wait until an operator accepts them.

Every price of every kind (input, output, cache, audio, …), tier and condition is looked at.

Source: docs/decisions/0075-prices-that-wait.md.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Final

from genai_prices.data_snapshot import DataSnapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from gateway_core.catalog import BUILT_IN

# A price that is more than so many times the present one, or less than such a part of it, waits.
LEAP: Final = 4

# (provider, model, kind, the tier's first token)
_Place = tuple[str, str, str, int]


def invalid(new: DataSnapshot) -> list[str]:
    """The places of prices that are negative or not a number. They are never used."""
    return [_text(place) for place, price in _prices(new) if not price.is_finite() or price < 0]


def waiting(new: DataSnapshot, present: DataSnapshot, *, managed: Collection[str]) -> list[str]:
    """The places of prices that became zero or leapt by more than `LEAP`, or that managed inference lacks.

    Args:
        new: valid prices that were fetched.
        present: the prices in use.
        managed: the IDs of providers that managed inference serves.
    """
    old, old_kinds = _by_place(present)
    new_places, _ = _by_place(new)
    found = [
        _text(place)
        for place, prices in new_places.items()
        if not _is_near(prices, old.get(place) or old_kinds.get(place[:3], []))
    ]
    served = {BUILT_IN[provider].price_source for provider in managed if provider in BUILT_IN}
    missing = [_text(place) for place in old if place[0] in served and place not in new_places]
    return found + [f"{text} (missing)" for text in missing]


def _is_near(prices: list[Decimal], before: list[Decimal]) -> bool:
    if not all(prices):
        return not all(before) if before else False
    known = [price for price in before if price]
    return not known or all(min(known) / LEAP <= price <= max(known) * LEAP for price in prices)


def _by_place(data: DataSnapshot) -> tuple[dict[_Place, list[Decimal]], dict[tuple[str, str, str], list[Decimal]]]:
    places: dict[_Place, list[Decimal]] = defaultdict(list)
    kinds: dict[tuple[str, str, str], list[Decimal]] = defaultdict(list)
    for place, price in _prices(data):
        places[place].append(price)
        kinds[place[:3]].append(price)
    return dict(places), dict(kinds)


def _prices(data: DataSnapshot) -> Iterator[tuple[_Place, Decimal]]:
    sources = {provider.price_source for provider in BUILT_IN.values()}
    for provider in data.providers:
        if provider.id in sources:
            for model in provider.models:
                for kind, start, price in _of_model(model):
                    yield (provider.id, model.id, kind, start), price


def _of_model(model: ModelInfo) -> Iterator[tuple[str, int, Decimal]]:
    listed = [model.prices] if isinstance(model.prices, ModelPrice) else [one.prices for one in model.prices]
    for prices in listed:
        for kind, price in vars(prices).items():
            if isinstance(price, TieredPrices):
                yield kind, 0, Decimal(price.base)
                yield from ((kind, tier.start, Decimal(tier.price)) for tier in price.tiers)
            elif price is not None and not kind.startswith("_"):
                yield kind, 0, Decimal(price)


def _text(place: _Place) -> str:
    provider, model, kind, start = place
    return f"{provider}/{model} {kind}" + (f" from {start} tokens" if start else "")
