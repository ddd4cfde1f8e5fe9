"""The models of the built-in providers, as a document for the data plane: from the packaged data of `genai-prices`.

Only the control plane pays for the data's size (about 30 MB in memory); workers get the names and prices.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from typing import NamedTuple

from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    TieredPrices,
)

from gateway_core.catalog import BUILT_IN, BuiltInProvider, Catalog, Model, ModelsDocument, model_key

# Names that the price data uses for families of names; nobody can call them as they stand.
_CALLABLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*[A-Za-z0-9]\Z")


@cache
def build_models_document() -> ModelsDocument:
    """What every built-in provider serves, with prices where they are known.

    Source: docs/decisions/0008-catalog.md.
    """
    known = {provider.id: provider for provider in data_snapshot.get_snapshot().providers}
    return ModelsDocument(
        providers={
            provider.id: tuple(_models(provider, known[provider.price_source].models))
            if provider.price_source in known
            else ()
            for provider in BUILT_IN.values()
        }
    )


def _models(provider: BuiltInProvider, infos: list[ModelInfo]) -> Iterator[Model]:
    seen: set[str] = set()
    for info in infos:
        if info.deprecated:
            continue
        price = _price(info)
        for name in _names(info):
            key = model_key(provider.id, name)
            if key in seen or not _CALLABLE.match(name) or not name.startswith(provider.model_prefixes):
                continue
            seen.add(key)
            yield Model(
                id=name,
                name=info.name if name == info.id else None,
                context_window=info.context_window,
                input_price=_text(price.input_mtok),
                output_price=_text(price.output_mtok),
            )


def _names(info: ModelInfo) -> Iterator[str]:
    """The model's ID, and every other name that means exactly it."""
    yield info.id
    yield from _exact(info.match)


def _exact(match: MatchLogic) -> Iterator[str]:
    if isinstance(match, ClauseEquals):
        yield match.equals
    elif isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _exact(clause)


def _price(info: ModelInfo) -> ModelPrice:
    """The price that holds without conditions: the last of a list, as the data orders them."""
    return info.prices if isinstance(info.prices, ModelPrice) else info.prices[-1].prices


def _text(price: Decimal | TieredPrices | None) -> str | None:
    """US dollars per million tokens; a tiered price begins with its base."""
    if price is None:
        return None
    return str(price.base if isinstance(price, TieredPrices) else price)


class _Indexed(NamedTuple):
    models: ModelsDocument
    managed: frozenset[str]
    catalog: Catalog


# Indexing the names costs 3 ms, and the models are the very same object until prices are refreshed.
_indexed: list[_Indexed] = []


def current_catalog() -> Catalog:
    """The catalog as the control plane knows it now; what `explain` and the catalog's routes ask."""
    models, managed = build_models_document(), frozenset[str]()
    if not _indexed or _indexed[0].models is not models or _indexed[0].managed != managed:
        _indexed[:] = [_Indexed(models, managed, Catalog(models, managed=managed))]
    return _indexed[0].catalog
