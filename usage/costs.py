"""The cost of an attempt at list price: the catalog's prices, and what the event says was used.

A model's prices are looked up once; an event then costs a few multiplications (gateway_core.catalog.prices). The price
library needs over 100 µs for one calculation. That both agree is tested over every model.

Source: docs/decisions/0062-costs.md, docs/decisions/0076-kinds-and-tiers.md.
"""

import re
from decimal import Decimal
from functools import lru_cache
from typing import Final

from genai_prices import data_snapshot
from genai_prices.types import ModelInfo, Provider

from gateway_core.catalog import BUILT_IN, FINE_TUNED, model_key
from gateway_core.catalog.prices import PriceSets, cost
from gateway_core.usage_events import UsageEvent
from providers.catalog import held_catalog
from providers.price_sets import price_sets_of

_MICROSECONDS: Final = 1_000_000
_DATE: Final = re.compile(r"-\d{4}-\d{2}-\d{2}\Z")
_ZERO: Final = Decimal(0)


def cost_of(event: UsageEvent) -> Decimal:
    """The list price of an attempt in US dollars, to 12 places.

    It is zero if the upstream reported no tokens, or if the price is unknown (custom providers, uncatalogued models).
    """
    if not event.input_tokens and not event.output_tokens:
        return _ZERO
    sets = _prices_now(event.provider, event.model)
    return cost(sets, event, moment=event.time // _MICROSECONDS, tier=event.service_tier)


# The price data that the cache below was filled from.
_asked: list[data_snapshot.DataSnapshot] = []


def _prices_now(provider: str, model: str) -> PriceSets:
    """A model's prices; looked for once, and again when the data was refreshed."""
    snapshot = data_snapshot.get_snapshot()
    if not _asked or _asked[0] is not snapshot:
        _prices.cache_clear()
        _asked[:] = [snapshot]
    return _prices(provider, model)


@lru_cache(maxsize=4096)
def _prices(provider: str, model: str) -> PriceSets:
    built_in = BUILT_IN.get(provider)
    if built_in is None or built_in.price_source is None:
        return ()
    listed = held_catalog().find(provider, model)
    if listed is not None and model_key(provider, listed.id) == model_key(provider, model):
        return listed.price_sets
    # Names that are not listed for anybody to call: families of fine-tuned models, and models that are withdrawn.
    snapshot = data_snapshot.get_snapshot()
    source = data_snapshot.find_provider_by_id(snapshot.providers, built_in.price_source)
    written = model.casefold()
    plain = written.removeprefix(f"{provider}/")
    found = source and (source.find_model(written) or source.find_model(plain) or _of_fine_tuned(source, plain))
    sets = price_sets_of(found, built_in) if found else ()
    # A release of a listed model has its price: the policy serves it as that model.
    return sets or (listed.price_sets if listed is not None else ())


def _of_fine_tuned(source: Provider, name: str) -> ModelInfo | None:
    """The entry of a fine-tuned model that the data do not match: its family's, else its base model's."""
    head, _, rest = name.partition(":")
    if head != FINE_TUNED:
        return None
    base = rest.partition(":")[0]
    family = f"{head}:{_DATE.sub('', base)}"
    return next((info for info in source.models if info.id == family), None) or source.find_model(base)
