"""Turn price data into the catalog's list of models of every built-in provider, with the known prices.

Source: docs/decisions/0008-catalog.md.
"""

import re
from collections.abc import Iterator
from decimal import Decimal

from genai_prices import data_snapshot
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    TieredPrices,
)

from gateway_core.catalog import BUILT_IN, BuiltInProvider, Model, ModelsDocument, model_key
from providers.price_sets import price_sets_of

# A name that a client can call. The price data also has patterns for families of names, which are left out, as the
# fine-tuned ones are (`ft:gpt-4o`).
_CALLABLE = re.compile(r"(?!ft:)[A-Za-z0-9][A-Za-z0-9._:/@+-]*[A-Za-z0-9]\Z")

# The newest documents, each with the data that it was built from. The data cannot be hashed; a build takes 40 ms.
_built: list[tuple[data_snapshot.DataSnapshot, ModelsDocument]] = []


def models_document_of(prices: data_snapshot.DataSnapshot) -> ModelsDocument:
    """The models of every built-in provider, with the known prices."""
    for known, document in _built:
        if known is prices:
            return document
    built = _build(prices)
    _built[:] = [(prices, built), *_built[:1]]
    return built


def _build(prices: data_snapshot.DataSnapshot) -> ModelsDocument:
    known = {provider.id: provider for provider in prices.providers}
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
        sets = price_sets_of(info, provider)
        for listed in _names(info):
            name = listed.lower() if provider.writes_lower_case else listed
            key = model_key(provider.id, name)
            if key in seen or not _CALLABLE.match(name) or not name.startswith(provider.model_prefixes):
                continue
            seen.add(key)
            yield Model(
                id=name,
                name=info.name if listed == info.id else None,
                context_window=info.context_window,
                input_price=_text(price.input_mtok),
                output_price=_text(price.output_mtok),
                prices=sets,
            )


def _names(info: ModelInfo) -> Iterator[str]:
    """Yield the model's ID and every other exact name of it."""
    yield info.id
    yield from _exact(info.match)


def _exact(match: MatchLogic) -> Iterator[str]:
    if isinstance(match, ClauseEquals):
        yield match.equals
    elif isinstance(match, ClauseOr):
        for clause in match.or_:
            yield from _exact(clause)


def _price(info: ModelInfo) -> ModelPrice:
    """The price without conditions. In a list of prices it is the last one."""
    return info.prices if isinstance(info.prices, ModelPrice) else info.prices[-1].prices


def _text(price: Decimal | TieredPrices | None) -> str | None:
    """US dollars per million tokens as text; the base price if it is tiered. None if it is unknown."""
    if price is None:
        return None
    return str(price.base if isinstance(price, TieredPrices) else price)
