"""The prices of a model in the price data, in the form in which both planes compute (gateway_core.catalog.prices).

Source: docs/decisions/0062-costs.md, docs/decisions/0076-kinds-and-tiers.md.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, Final

import msgspec
from genai_prices.types import (
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

from gateway_core.catalog import BuiltInProvider
from gateway_core.catalog.prices import KINDS, Price, PriceSet, PriceSets, Stepped

# What the price data call each kind.
_NAMES: Final = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "cache_read_audio": "cache_audio_read_mtok",
    "output_audio": "output_audio_mtok",
    "input_image": "input_image_mtok",
    "cache_read_image": "cache_image_read_mtok",
    "output_image": "output_image_mtok",
    "requests": "requests_kcount",
    "web_searches": "web_searches_kcount",
}
# What a service tier is called in the conditions of a variant.
_TIER_CONDITIONS: Final = ("service_tier", "speed", "processing")
_USUAL: Final = "default"
# A tier changes what tokens cost, and nothing else.
_BY_COUNT: Final = frozenset({"requests", "web_searches"})


def price_sets_of(info: ModelInfo, provider: BuiltInProvider) -> PriceSets:
    """All price sets of a model: the usual ones in the order of the data, then those of service tiers.

    Args:
        info: the model.
        provider: whose factors hold for tiers that the data do not name.
    """
    usual = tuple(_usual(info))
    if not usual:
        return ()
    named = tuple(_of_variants(info.price_variants or ()))
    by_factor = tuple(
        _multiplied(one, tier, factor) for tier, factor in provider.tier_factors.items() for one in reversed(usual)
    )
    return usual + named + (by_factor if usual[0].output is not None else ())


def _usual(info: ModelInfo) -> Iterator[PriceSet]:
    listed = [ConditionalPrice(prices=info.prices)] if isinstance(info.prices, ModelPrice) else info.prices
    for one in listed:
        kinds = _kinds(one.prices)
        if kinds:
            yield PriceSet(**kinds, **_conditions(one.constraint))


def _of_variants(variants: list[PriceVariant] | tuple[()]) -> Iterator[PriceSet]:
    for one in variants:
        tier = next((one.when[name] for name in _TIER_CONDITIONS if name in one.when), "")
        kinds = _kinds(one.prices)
        if tier and tier != _USUAL and kinds and len(one.when) == 1:
            yield PriceSet(**kinds, tier=tier, **_conditions(one.constraint))


def _multiplied(usual: PriceSet, tier: str, factor: Decimal) -> PriceSet:
    kinds = {
        name: _times(price, factor)
        for name in KINDS
        if name not in _BY_COUNT and (price := getattr(usual, name)) is not None
    }
    return PriceSet(**kinds, tier=tier, since=usual.since, hours=usual.hours)


def _times(price: Price, factor: Decimal) -> Price:
    if isinstance(price, Decimal):
        return price * factor
    return msgspec.structs.replace(
        price, base=price.base * factor, steps=tuple((start, one * factor) for start, one in price.steps)
    )


def _kinds(price: ModelPrice) -> dict[str, Any]:
    return {name: _price(value) for name, key in _NAMES.items() if (value := getattr(price, key)) is not None}


def _price(value: Decimal | TieredPrices) -> Price:
    if isinstance(value, TieredPrices):
        return Stepped(Decimal(value.base), tuple((tier.start, Decimal(tier.price)) for tier in value.tiers))
    return Decimal(value)


def _conditions(constraint: StartDateConstraint | TimeOfDateConstraint | None) -> dict[str, Any]:
    if isinstance(constraint, StartDateConstraint):
        return {"since": int(datetime.combine(constraint.start_date, time.min, UTC).timestamp())}
    if isinstance(constraint, TimeOfDateConstraint):
        return {"hours": (_second(constraint.start_time), _second(constraint.end_time))}
    return {}


def _second(moment: time) -> int:
    """The second of the UTC day. A time without a zone is UTC."""
    if moment.tzinfo is not None:
        moment = datetime.combine(datetime(1970, 1, 2, tzinfo=UTC).date(), moment).astimezone(UTC).time()
    return moment.hour * 3600 + moment.minute * 60 + moment.second
