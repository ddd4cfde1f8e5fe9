"""The cost of an attempt at list price. Same results as `genai-prices`, but much faster.

One of its calculations takes over 100 µs. Here a model's price is looked up once and taken apart into what a usage
event can hold (tokens in, out, read from and written to a cache, reasoning; requests); an event then costs a few
multiplications. That both agree is tested over every model.

Source: docs/decisions/0062-costs.md.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

from genai_prices import data_snapshot
from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

from gateway_core.catalog import BUILT_IN
from gateway_core.usage_events import UsageEvent
from providers.catalog import held_catalog
from usage.models import DOLLAR_PLACES

_MILLION: Final = Decimal(1_000_000)
_THOUSAND: Final = Decimal(1000)
_ZERO: Final = Decimal(0)
_SMALLEST: Final = Decimal(1).scaleb(-DOLLAR_PLACES)

_Price = Decimal | TieredPrices | None


@dataclass(frozen=True, slots=True)
class _UnitPrices:
    """US dollars per million of each kind of token, and per thousand requests."""

    input: _Price
    output: _Price
    cache_read: _Price
    cache_write: _Price
    reasoning: _Price
    requests: _Price

    def total(self, event: UsageEvent) -> Decimal:
        """The cost in US dollars. A kind of tokens without its own price has the price of the kind that contains it."""
        # An upstream that counts its cache on top of the input would else make a negative rest.
        total_input = max(event.input_tokens, event.cache_read_tokens + event.cache_write_tokens)
        plain_input = total_input
        plain_output = max(event.output_tokens, event.reasoning_tokens)
        tokens = _ZERO
        if self.cache_read is not None:
            plain_input -= event.cache_read_tokens
            tokens += _at(self.cache_read, total_input) * event.cache_read_tokens
        if self.cache_write is not None:
            plain_input -= event.cache_write_tokens
            tokens += _at(self.cache_write, total_input) * event.cache_write_tokens
        if self.reasoning is not None:
            plain_output -= event.reasoning_tokens
            tokens += _at(self.reasoning, total_input) * event.reasoning_tokens
        if self.input is not None:
            tokens += _at(self.input, total_input) * plain_input
        if self.output is not None:
            tokens += _at(self.output, total_input) * plain_output
        requests = _ZERO if self.requests is None else _at(self.requests, total_input)
        return tokens / _MILLION + requests / _THOUSAND


def _at(price: Decimal | TieredPrices, total_input: int) -> Decimal:
    """The price per million. If the input exceeds a tier's start, that tier's price applies to all tokens."""
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if total_input > tier.start), price.base)


def cost_of(event: UsageEvent) -> Decimal:
    """The list price of an attempt in US dollars, to 12 places.

    It is zero if the upstream reported no tokens, or if the price is unknown (custom providers, uncatalogued models).
    """
    if not event.input_tokens and not event.output_tokens:
        return _ZERO
    info = _model_now(event.provider, event.model)
    if info is None:
        return _ZERO
    if isinstance(info.prices, ModelPrice):
        prices = _taken_apart(_ById(info.prices))
    else:
        moment = datetime.fromtimestamp(event.time // 1_000_000, UTC)
        prices = _taken_apart(_ById(info.get_prices(moment)))
    # The 28 digits of a Decimal hold any cost below ten quadrillion dollars: nothing is rounded before this.
    return prices.total(event).quantize(_SMALLEST)


# The price data that the caches below were filled from.
_asked: list[data_snapshot.DataSnapshot] = []


def _model_now(provider: str, model: str) -> ModelInfo | None:
    """The price data's entry for a model; looked for once, and again when the data was refreshed."""
    snapshot = data_snapshot.get_snapshot()
    if not _asked or _asked[0] is not snapshot:
        _model.cache_clear()
        _taken_apart.cache_clear()
        _asked[:] = [snapshot]
    return _model(provider, model)


@lru_cache(maxsize=4096)
def _model(provider: str, model: str) -> ModelInfo | None:
    built_in = BUILT_IN.get(provider)
    if built_in is None or built_in.price_source is None:
        return None
    snapshot = data_snapshot.get_snapshot()
    source = data_snapshot.find_provider_by_id(snapshot.providers, built_in.price_source)
    if source is None:
        return None
    # The name may be written with the provider's own prefix (docs/decisions/0008-catalog.md).
    written = model.casefold()
    found = source.find_model(written) or source.find_model(written.removeprefix(f"{provider}/"))
    if found is not None:
        return found
    # Some entries do not match their own ID, under which the catalog offers them. What is offered has to have a price.
    offered = held_catalog().find(provider, model)
    return None if offered is None else next((info for info in source.models if info.id == offered.id), None)


class _ById:
    """A price as the key of a cache: the object itself, which has no hash."""

    __slots__ = ("price",)

    def __init__(self, price: ModelPrice) -> None:
        self.price = price

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.price is self.price

    def __hash__(self) -> int:
        return id(self.price)


@lru_cache(maxsize=4096)
def _taken_apart(key: _ById) -> _UnitPrices:
    price = key.price
    return _UnitPrices(
        input=price.input_mtok,
        output=price.output_mtok,
        cache_read=price.cache_read_mtok,
        cache_write=price.cache_write_mtok,
        reasoning=price.output_reasoning_mtok,
        requests=price.requests_kcount,
    )
