"""Holds: data_plane.limits.prices

The fast way to a cost and the library's decimals give the same, for every model of the price data.
"""

import random
import time
from typing import Any

from genai_prices import data_snapshot

from data_plane.limits.prices import _usual, cost_of, most_of
from gateway_core import ids
from gateway_core.catalog import BUILT_IN, Catalog
from gateway_core.catalog.prices import cost, most_expensive
from gateway_core.limits.limit import in_billionths
from gateway_core.plans import Attempt, DecidedBy, KeySource
from gateway_core.usage_events import UsageEvent, event_id
from providers.catalog_models import models_document_of
from tests.workers import new_id

NOW = time.time_ns() // 1000
CATALOG = Catalog(models_document_of(data_snapshot.get_snapshot()))
MODELS = [(provider, model) for provider in BUILT_IN for model in CATALOG.models(provider)]
SAME: dict[str, Any] = {
    "id": event_id(NOW),
    "time": NOW,
    "request_id": "r",
    "account": new_id(ids.Prefix.ACCOUNT),
    "access_key": new_id(ids.Prefix.ACCESS_KEY),
    "requested_model": "m",
    "attempt": 1,
    "is_final": True,
    "key_source": "ngrok",
}


def test_a_cost_is_the_same_both_ways():
    choose = random.Random(1)
    for provider, model in MODELS:
        for _ in range(5):
            read = choose.choice([0, 0, 5, 700])
            event = UsageEvent(
                **SAME,
                provider=provider,
                model=model.id,
                input_tokens=choose.choice([0, 1, 7, 1000, 300_000]),
                output_tokens=choose.choice([0, 1, 13, 5000]),
                cache_read_tokens=read,
                cache_write_tokens=choose.choice([0, 0, 0, 9]),
                reasoning_tokens=choose.choice([0, 0, 3, 9000]),
                web_searches=choose.choice([0, 0, 0, 2]),
                service_tier=choose.choice(["", "", "flex", "priority"]),
            )
            exact = cost(model.price_sets, event, moment=NOW // 1_000_000, tier=event.service_tier)
            assert cost_of(CATALOG, event) == in_billionths(exact), (provider, model.id, event)


def test_the_most_is_the_same_both_ways_and_most_models_take_the_fast_one():
    for provider, model in MODELS:
        attempt = Attempt(provider, model.id, KeySource.USER, None, DecidedBy.DEFAULT, None, None, 0)
        exact = most_expensive(model.price_sets, moment=NOW // 1_000_000, input_tokens=999, output_tokens=16_384)
        assert most_of(CATALOG, attempt, 999, 16_384, NOW // 1_000_000) == in_billionths(exact)
    assert sum(_usual(model.price_sets) is not None for _, model in MODELS) > len(MODELS) / 2
