"""Holds: usage.costs

Costs: our arithmetic gives what the price library gives, for every model and any counts, and faster.
"""

import copy
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest
from genai_prices import data_snapshot
from genai_prices.types import ModelPrice, Usage
from hypothesis import given
from hypothesis import strategies as st

from gateway_core import ids
from gateway_core.catalog import BUILT_IN, Model
from gateway_core.catalog.prices import PriceSet, Stepped, cost, in_force, most_expensive
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
        cache_write_1h_tokens=event.cache_write_1h_tokens,
        output_reasoning_tokens=event.reasoning_tokens,
        input_audio_tokens=event.input_audio_tokens,
        cache_audio_read_tokens=event.cache_read_audio_tokens,
        output_audio_tokens=event.output_audio_tokens,
        input_image_tokens=event.input_image_tokens,
        cache_image_read_tokens=event.cache_read_image_tokens,
        output_image_tokens=event.output_image_tokens,
        web_searches=event.web_searches,
    )
    at = datetime.fromtimestamp(event.time / 1_000_000, UTC)
    context = {"service_tier": event.service_tier} if event.service_tier else None
    found = model.calc_price(usage, provider, genai_request_timestamp=at, price_context=context)
    return found.total_price.quantize(SMALLEST)


def random_event(chance: random.Random, provider: str, model: str, *, tier: str = "") -> UsageEvent:
    """One whose kinds are among those that the model has prices for: the library refuses others."""
    sets = held_catalog().find(provider, model)
    moment = chance.randint(1_750_000_000, 1_800_000_000)
    prices = in_force(sets.price_sets, moment=moment) if sets else None

    def some(kind: str) -> int:
        return chance.randint(0, scale) if prices is not None and getattr(prices, kind) is not None else 0

    scale = chance.choice([100, 10_000, 300_000, 5_000_000])
    read, written, kept_audio, kept_image = map(
        some, ("cache_read", "cache_write", "cache_read_audio", "cache_read_image")
    )
    hour, audio, image = map(some, ("cache_write_1h", "input_audio", "input_image"))
    out, out_audio, out_image = map(some, ("output", "output_audio", "output_image"))
    reasoning = some("reasoning")
    return an_event(
        ACCOUNT,
        at=moment * 1_000_000,
        provider=provider,
        model=model,
        input_tokens=chance.randint(1, scale) + read + written + hour + kept_audio + kept_image + audio + image,
        cache_read_tokens=read + kept_audio + kept_image,
        cache_write_tokens=written + hour,
        cache_write_1h_tokens=hour,
        input_audio_tokens=audio + kept_audio,
        cache_read_audio_tokens=kept_audio,
        input_image_tokens=image + kept_image,
        cache_read_image_tokens=kept_image,
        output_tokens=out + out_audio + out_image + reasoning,
        output_audio_tokens=out_audio,
        output_image_tokens=out_image,
        reasoning_tokens=reasoning,
        web_searches=some("web_searches") % 10,
        service_tier=tier,
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


def test_every_service_tier_that_the_library_knows_costs_what_it_says() -> None:
    chance = random.Random(4)
    count = 0
    for provider, model in models():
        source = data_snapshot.find_provider_by_id(
            data_snapshot.get_snapshot().providers, BUILT_IN[provider].price_source or ""
        )
        info = source.find_model(model) if source else None
        known = {tier: one for one in (info and info.price_variants) or () if (tier := one.when.get("service_tier"))}
        for tier, variant in known.items():
            event = random_event(chance, provider, model, tier=tier)
            if variant.constraint is None or variant.constraint.active(datetime.fromtimestamp(event.time / 1e6, UTC)):
                assert cost_of(event) == reference(event), (provider, model, event)
                count += 1
    assert count > 50


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


KINDS = tuple(name for name in UsageEvent.__struct_fields__ if name.endswith("_tokens") or name == "web_searches")


@given(st.fixed_dictionaries(dict.fromkeys(KINDS, COUNTS)), st.sampled_from(["", "flex", "priority", "batch", "new"]))
def test_no_counts_make_a_negative_cost(counts: dict[str, int], tier: str) -> None:
    for provider, model in [("openai", "gpt-audio"), ("anthropic", "claude-sonnet-4-5"), ("google", "gemini-2.5-pro")]:
        assert cost_of(an_event(ACCOUNT, provider=provider, model=model, service_tier=tier, **counts)) >= 0


@pytest.mark.parametrize(
    ("model", "counts", "tier", "dollars"),
    [
        # Per million: 1 in, 1.25 for a cache of five minutes, 2 for one of an hour.
        ("anthropic:claude-haiku-4-5", {"cache_write_tokens": 10**6}, "", "1.25"),
        ("anthropic:claude-haiku-4-5", {"cache_write_tokens": 10**6, "cache_write_1h_tokens": 10**6}, "", "2"),
        ("anthropic:claude-haiku-4-5", {"input_tokens": 10**6}, "priority", "1"),
        ("anthropic:claude-haiku-4-5", {"input_tokens": 10**6}, "batch", "0.5"),
        ("anthropic:claude-opus-4-8", {"output_tokens": 10**6}, "fast", "50"),
        # 2.5 in and 10 out for texts, 32 and 64 for sounds.
        ("openai:gpt-audio", {"input_tokens": 10**6, "input_audio_tokens": 10**6}, "", "32"),
        ("openai:gpt-audio", {"output_tokens": 10**6, "output_audio_tokens": 10**6}, "", "64"),
        ("openai:gpt-4.1", {"output_tokens": 10**6}, "priority", "14"),
        ("openai:gpt-5", {"output_tokens": 10**6}, "flex", "5"),
        # The data name no tier of these.
        ("openai:gpt-5-pro", {"output_tokens": 10**6}, "flex", "60"),
        ("google:gemini-2.5-flash", {"output_tokens": 10**6}, "priority", "4.5"),
        # Groq's costs the same.
        ("groq:openai/gpt-oss-120b", {"output_tokens": 10**6}, "flex", "0.6"),
    ],
)
def test_each_kind_and_tier_has_its_price(model: str, counts: dict[str, int], tier: str, dollars: str) -> None:
    provider, _, name = model.partition(":")
    used = {"input_tokens": 0, "output_tokens": 0} | counts
    used["input_tokens"] = max(used["input_tokens"], used.get("cache_write_tokens", 0))

    assert cost_of(an_event(ACCOUNT, provider=provider, model=name, service_tier=tier, **used)) == Decimal(dollars)


SUFFIXES = ("", "-latest", "-20991201", "-2099-12-01", "@20991201")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_policy_takes_for_priced_costs_something_whatever_was_used(kind: str) -> None:
    catalog = held_catalog()
    part_of = "output_tokens" if kind.startswith(("output", "reasoning")) else "input_tokens"
    count = 0
    for provider in BUILT_IN.values():
        for model in catalog.models(provider.id) if provider.is_managed else ():
            for suffix in SUFFIXES:
                for name in (f"{model.id}{suffix}", f"{provider.id}/{model.id}{suffix}".upper()):
                    found = catalog.find(provider.id, name)
                    if found is None or not found.is_chargeable:
                        continue
                    used = {"input_tokens": 0, "output_tokens": 0, part_of: 1000, kind: 1000}
                    for tier in ("", "flex", "priority"):
                        event = an_event(ACCOUNT, provider=provider.id, model=name, service_tier=tier, **used)
                        assert cost_of(event) > 0, (name, kind, tier)
                        assert cost_of(event) == cost(
                            found.price_sets, event, moment=event.time // 1_000_000, tier=tier
                        ), "the planes disagree"
                    count += 1
    assert count > 500


def test_a_model_with_a_free_kind_is_not_chargeable() -> None:
    priced = Model("m", input_price="1", output_price="2", prices=(PriceSet(input=Decimal(1), output=Decimal(2)),))
    free_cache = msgspec.structs.replace(priced, prices=(PriceSet(input=Decimal(1), cache_read=Decimal(0)),))
    free_beyond = msgspec.structs.replace(priced, prices=(PriceSet(input=Stepped(Decimal(1), ((10, Decimal(0)),))),))
    free_later = msgspec.structs.replace(priced, prices=(*priced.prices, PriceSet(input=Decimal(0), since=2**40)))

    assert priced.is_chargeable
    assert not free_cache.is_chargeable
    assert not free_beyond.is_chargeable
    assert not free_later.is_chargeable
    assert not Model("m", output_price="1").is_chargeable
    assert Model("m", input_price="1").is_chargeable, "of an older control plane"


def test_a_reservation_is_never_less_than_the_cost() -> None:
    chance = random.Random(5)
    for provider, model in models():
        event = random_event(chance, provider, model)
        found = held_catalog().find(provider, model)
        assert found is not None
        most = most_expensive(
            found.price_sets,
            moment=event.time // 1_000_000,
            input_tokens=event.input_tokens,
            output_tokens=event.output_tokens,
        )
        searched = msgspec.structs.replace(event, web_searches=0)
        assert most >= cost_of(searched), (provider, model)


@pytest.mark.parametrize(
    "model",
    [
        "ft:gpt-4o:acme::1",
        "ft:gpt-4o-mini-2024-07-18:acme:support:2",
        "openai/ft:gpt-4o-mini:a::3",
        "ft:gpt-4o-2024-08-06:a::4",
    ],
)
def test_a_fine_tuned_model_has_the_price_of_its_family(model):
    base = model.removeprefix("openai/").split(":")[1]

    assert cost_of(an_event(ACCOUNT, model=model)) > cost_of(an_event(ACCOUNT, model=base)) > 0


def test_a_fine_tuned_model_without_a_price_of_its_own_has_that_of_its_base_model():
    tuned, base = (cost_of(an_event(ACCOUNT, model=name)) for name in ("ft:gpt-4.1-2025-04-14:a::1", "gpt-4.1"))

    assert tuned == base > 0
