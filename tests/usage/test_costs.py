"""Holds: usage.costs

Costs: our arithmetic gives what the price library gives, for every model and any counts, and faster.
"""

import copy
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from genai_prices import data_snapshot
from genai_prices.types import ModelPrice, Usage
from hypothesis import given
from hypothesis import strategies as st

from gateway_core import ids
from gateway_core.catalog import BUILT_IN
from gateway_core.usage_events import MAX_COUNT, UsageEvent
from providers.catalog import held_catalog
from tests.events import an_event, text_id
from tests.patience import stretched
from usage.costs import cost_of

ACCOUNT = text_id(ids.Prefix.ACCOUNT)
SMALLEST = Decimal("1e-12")


def models() -> Iterator[tuple[str, str]]:
    catalog = held_catalog()
    for provider in BUILT_IN:
        for model in catalog.models(provider):
            yield provider, model.id


def reference(event: UsageEvent) -> Decimal:
    """The library's own answer."""
    source = BUILT_IN[event.provider].price_source
    assert source is not None
    provider = data_snapshot.find_provider_by_id(data_snapshot.get_snapshot().providers, source)
    assert provider is not None
    model = provider.find_model(event.model) or next(one for one in provider.models if one.id == event.model)
    usage = Usage(
        input_tokens=event.input_tokens,
        output_tokens=event.output_tokens,
        cache_read_tokens=event.cache_read_tokens,
        cache_write_tokens=event.cache_write_tokens,
        output_reasoning_tokens=event.reasoning_tokens,
    )
    at = datetime.fromtimestamp(event.time / 1_000_000, UTC)
    return model.calc_price(usage, provider, genai_request_timestamp=at).total_price.quantize(SMALLEST)


def random_event(chance: random.Random, provider: str, model: str) -> UsageEvent:
    scale = chance.choice([100, 10_000, 300_000, 5_000_000])
    read, written, plain = (chance.randint(0, scale) for _ in range(3))
    output = chance.randint(1, scale)
    return an_event(
        ACCOUNT,
        at=chance.randint(1_750_000_000, 1_800_000_000) * 1_000_000,
        provider=provider,
        model=model,
        input_tokens=read + written + plain,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=chance.randint(0, output),
    )


def test_every_model_costs_what_the_library_says() -> None:
    chance = random.Random(3)
    count = 0
    for provider, model in models():
        for _ in range(3):
            event = random_event(chance, provider, model)
            assert cost_of(event) == reference(event), (provider, model, event)
        count += 1
    assert count > 500


def test_a_cost_is_a_look_up_and_a_few_multiplications() -> None:
    events = [random_event(random.Random(n), "openai", "gpt-4o") for n in range(2000)]
    cost_of(events[0])

    began = time.perf_counter()
    for event in events:
        cost_of(event)

    assert (time.perf_counter() - began) / len(events) < stretched(50e-6)


@pytest.mark.parametrize(
    ("provider", "model"),
    [("my-ollama", "llama3.2"), ("openai", "never-heard-of"), ("inceptionlabs", "mercury"), ("long-gone", "x")],
)
def test_what_nobody_knows_the_price_of_costs_nothing(provider: str, model: str) -> None:
    assert cost_of(an_event(ACCOUNT, provider=provider, model=model)) == 0


def test_an_attempt_that_told_no_tokens_costs_nothing() -> None:
    assert cost_of(an_event(ACCOUNT, provider="perplexity", model="sonar", input_tokens=0, output_tokens=0)) == 0


@pytest.mark.parametrize("model", ["gpt-4o", "GPT-4o", "openai/gpt-4o", "gpt-4o-2024-11-20"])
def test_a_model_costs_the_same_however_it_is_written(model: str) -> None:
    assert cost_of(an_event(ACCOUNT, model=model)) == Decimal("0.0035")


def test_prices_that_were_refreshed_hold_from_then_on() -> None:
    event = an_event(ACCOUNT)
    packaged = data_snapshot.get_snapshot()
    assert cost_of(event) == Decimal("0.0035")
    dearer = copy.deepcopy(packaged)
    openai = data_snapshot.find_provider_by_id(dearer.providers, "openai")
    assert openai is not None
    model = openai.find_model("gpt-4o")
    assert model is not None
    assert isinstance(model.prices, ModelPrice)
    model.prices.__dict__["input_mtok"] = Decimal(5)

    data_snapshot.set_custom_snapshot(dearer)
    try:
        assert cost_of(event) == Decimal("0.006")
    finally:
        data_snapshot.set_custom_snapshot(None)

    assert cost_of(event) == Decimal("0.0035")


COUNTS = st.integers(0, MAX_COUNT)


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_no_counts_make_a_negative_cost(into: int, out: int, read: int, written: int, reasoning: int) -> None:
    for provider, model in [("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro")]:
        event = an_event(
            ACCOUNT,
            provider=provider,
            model=model,
            input_tokens=into,
            output_tokens=out,
            cache_read_tokens=read,
            cache_write_tokens=written,
            reasoning_tokens=reasoning,
        )
        assert cost_of(event) >= 0
