"""Holds: providers.price_refresh, providers.price_review

Refreshing prices: newer ones where they can be had and hold up, the last good ones everywhere else.
"""

import dataclasses
import hashlib
import json
import logging
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from django.core.management import CommandError, call_command
from genai_prices import data_snapshot

from gateway_core.catalog import BUILT_IN
from gateway_core.snapshot import MODELS_DOCUMENT, encode
from providers import catalog, price_refresh, price_review, tasks
from providers.catalog_models import models_document_of
from providers.models import PriceRelease
from snapshots import rebuild
from snapshots.publisher import pause
from snapshots.redis_client import inline_store, keys, patient_store
from tests import tiers

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="module")
def bundled():
    """The packaged prices. With small numbers without most models of the provider that has the half of them."""
    whole = data_snapshot._bundled_snapshot()
    providers = [
        dataclasses.replace(provider, models=provider.models[: tiers.number(40, full=len(provider.models))])
        if provider.id == "openrouter"
        else provider
        for provider in whole.providers
    ]
    return dataclasses.replace(whole, providers=providers)


@pytest.fixture(scope="module")
def packaged(bundled):
    """Price data in the form in which they are fetched, with the models of the packaged ones."""
    models = models_document_of(bundled).providers
    return [
        {
            "id": provider.price_source,
            "name": provider.display_name,
            "api_pattern": "https://nowhere",
            "models": [
                {
                    "id": model.id,
                    "name": model.name or model.id,
                    "match": {"equals": model.id},
                    "prices": {"input_mtok": 1.5, "output_mtok": {"base": 2, "tiers": [{"start": 1000, "price": 3}]}},
                }
                for model in models[provider.id]
            ],
        }
        for provider in BUILT_IN.values()
        if provider.price_source
    ]


@pytest.fixture(autouse=True)
def _fresh_process(settings, monkeypatch, bundled):
    """As in a process that has read no prices yet, and may not reach the network."""
    monkeypatch.setattr(data_snapshot, "_bundled_snapshot", lambda: bundled)
    settings.CATALOG_URL = "http://127.0.0.1:1/data.json"
    settings.CATALOG_REFRESH = True
    # The prices of these tests are far from the packaged ones; tests of what waits take this back.
    monkeypatch.setattr(price_review, "waiting", lambda *_args, **_managed: [])
    yield
    data_snapshot.set_custom_snapshot(None)
    price_refresh._Held.digest = None
    tasks._Trouble.reason = None


class Origin:
    """A stand-in of where prices come from: what it serves is set by the test."""

    status = 200
    body = b""
    requests = 0


@pytest.fixture
def origin(settings):
    """A running stand-in, which the settings name."""
    served = Origin()

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self):
            served.requests += 1
            self.send_response(served.status)
            self.end_headers()
            self.wfile.write(served.body)

        def log_message(self, *_args):
            pass

    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        settings.CATALOG_URL = f"http://127.0.0.1:{server.server_address[1]}/data.json"
        yield served
        server.shutdown()
        thread.join()


def with_price(packaged, price):
    """The packaged data, but for one price."""
    changed = json.loads(json.dumps(packaged))
    openai = next(provider for provider in changed if provider["id"] == "openai")
    model = next(model for model in openai["models"] if model["id"] == "gpt-4o-mini")
    model["prices"] = {"input_mtok": price, "output_mtok": price}
    return json.dumps(changed).encode()


def price():
    """What the catalog says now."""
    found = catalog.current_catalog().find("openai", "gpt-4o-mini")
    assert found is not None
    return found.input_price


def test_new_prices_are_stored_and_serve_every_process(packaged, origin):
    before = price()
    origin.body = with_price(packaged, 99)

    tasks.refresh_prices()

    assert price() == "99" != before
    # Another process: it holds the packaged ones until it asks.
    data_snapshot.set_custom_snapshot(None)
    price_refresh._Held.digest = None
    assert price() == "99"
    documents = catalog.build_documents()
    assert b'"99"' in encode(documents[MODELS_DOCUMENT])


def test_fresh_prices_are_not_fetched_again(packaged, origin):
    origin.body = with_price(packaged, 99)
    tasks.refresh_prices()

    tasks.refresh_prices()

    assert origin.requests == 1


def test_prices_that_did_not_change_count_as_fresh_and_change_nothing(packaged, origin):
    origin.body = with_price(packaged, 99)
    tasks.refresh_prices()
    PriceRelease.objects.update(fetched_at="2026-01-01T00:00:00Z")
    models = catalog.build_models_document()

    assert price_refresh.refresh() is False
    assert catalog.build_models_document() is models
    assert PriceRelease.objects.get().fetched_at.year > 2026 or PriceRelease.objects.get().fetched_at.month > 1


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(body, id=name)
        for name, body in {
            "empty": b"",
            "cut": b"{",
            "object": b"{}",
            "no providers": b"[]",
            "null": b"null",
            "number": b"[1]",
            "incomplete": b'[{"id": "openai"}]',
            "bytes": b"\xff",
            "deep": b"[" * 100_000,
        }.items()
    ],
)
def test_what_is_no_price_data_is_refused_and_the_last_good_prices_stay(packaged, origin, body):
    origin.body = with_price(packaged, 99)
    tasks.refresh_prices()
    PriceRelease.objects.update(fetched_at="2026-01-01T00:00:00Z")
    origin.body = body

    tasks.refresh_prices()

    assert price() == "99"
    assert PriceRelease.objects.count() == 1


def test_data_that_lost_half_of_a_providers_models_is_refused(packaged, origin):
    before = price()
    changed = json.loads(json.dumps(packaged))
    next(provider for provider in changed if provider["id"] == "groq")["models"][1:] = []
    origin.body = json.dumps(changed).encode()

    with pytest.raises(price_refresh.PricesRefused, match="groq"):
        price_refresh.refresh()

    assert price() == before
    assert not PriceRelease.objects.exists()


@pytest.mark.parametrize("wrong", [-1, "NaN", "Infinity", "-0.5"])
def test_a_price_that_is_none_is_refused(packaged, origin, wrong):
    origin.body = with_price(packaged, wrong)

    with pytest.raises(price_refresh.PricesRefused, match="price"):
        price_refresh.refresh()


def test_a_machine_that_may_not_fetch_does_not(origin, settings):
    settings.CATALOG_REFRESH = False

    tasks.refresh_prices()

    assert origin.requests == 0


def test_a_failure_is_harmless_and_told_once(origin, caplog):
    origin.status = 500
    before = price()

    with caplog.at_level(logging.WARNING):
        tasks.refresh_prices()
        tasks.refresh_prices()

    assert price() == before
    assert len([record for record in caplog.records if "not refreshed" in str(record.msg)]) == 1


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/", "", "data:,[]"])
def test_only_http_is_fetched(settings, url):
    settings.CATALOG_URL = url

    with pytest.raises(price_refresh.PricesRefused):
        price_refresh.refresh()


def test_prices_that_another_release_of_the_package_read_are_not_used(packaged, origin):
    before = price()
    origin.body = with_price(packaged, 99)
    tasks.refresh_prices()

    PriceRelease.objects.update(package="0.0.0")

    assert price() == before


def test_stored_prices_that_cannot_be_read_leave_those_in_use(packaged, origin):
    origin.body = with_price(packaged, 99)
    tasks.refresh_prices()

    PriceRelease.objects.update(data=b"rubbish", digest="0" * 64)

    assert price() == "99"
    assert price() == "99"


@pytest.mark.django_db(transaction=True)
def test_a_refresh_is_published_at_once(packaged, origin, redis):
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()
    pause.end()
    rebuild.rebuild(patient_store())
    before = redis.hget(keys().catalog, "models")
    origin.body = with_price(packaged, 99)

    tasks.refresh_prices()

    assert b'"99"' in redis.hget(keys().catalog, "models") != before
    assert rebuild.publish_catalog_if_changed(patient_store()) is False


def test_prices_older_than_a_day_are_fetched_again():
    assert timedelta(hours=1) < tasks.FRESH < timedelta(hours=24)


WAITING = price_review.waiting


def priced(packaged, **prices):
    return price_refresh._read(
        with_price(packaged, 1).replace(b'{"input_mtok": 1, "output_mtok": 1}', json.dumps(prices).encode())
    )


TIERED = {"base": 1, "tiers": [{"start": 1000, "price": 2}]}


@pytest.mark.parametrize(
    ("new", "place"),
    [
        ({"input_mtok": 4.1}, "input_mtok"),
        ({"input_mtok": 0.2}, "input_mtok"),
        ({"input_mtok": 0}, "input_mtok"),
        ({"cache_read_mtok": 5}, "cache_read_mtok"),
        ({"output_mtok": {"base": 1, "tiers": [{"start": 1000, "price": 9}]}}, "output_mtok from 1000 tokens"),
        ({"output_mtok": {"base": 1, "tiers": [{"start": 1000, "price": 0}]}}, "output_mtok from 1000 tokens"),
        ({"input_mtok": 4}, None),
        ({"input_mtok": 0.25}, None),
    ],
)
def test_a_price_that_leaps_waits_in_every_kind_and_tier(packaged, new, place):
    base = {"input_mtok": 1, "output_mtok": TIERED, "cache_read_mtok": 1}
    present = priced(packaged, **base)

    found = WAITING(priced(packaged, **base | new), present, managed=[])

    assert found == ([f"openai/gpt-4o-mini {place}"] if place else [])


def test_a_missing_price_waits_only_where_managed_inference_serves(packaged):
    present, new = priced(packaged, input_mtok=1, output_mtok=1), priced(packaged, input_mtok=1)

    assert WAITING(new, present, managed=[]) == []
    assert WAITING(new, present, managed=["openai"]) == ["openai/gpt-4o-mini output_mtok (missing)"]


def test_a_negative_price_of_any_kind_and_tier_is_refused(packaged):
    tier = {"base": 1, "tiers": [{"start": 1000, "price": -1}]}

    assert price_review.invalid(priced(packaged, cache_read_mtok=-1)) == ["openai/gpt-4o-mini cache_read_mtok"]
    assert price_review.invalid(priced(packaged, input_mtok=tier)) == ["openai/gpt-4o-mini input_mtok from 1000 tokens"]


def test_waiting_prices_are_used_when_an_operator_accepts_their_digest(packaged, origin, monkeypatch, settings):
    monkeypatch.setattr(price_review, "waiting", WAITING)
    origin.body = with_price(packaged, 99)
    before = price()

    tasks.refresh_prices()
    with pytest.raises(CommandError, match="wait for an operator") as waits:
        call_command("accept_prices")
    assert price() == before
    assert price_refresh.waiting_count() > 0

    call_command("accept_prices", str(waits.value).split()[-1])
    assert price() == "99"
    assert price_refresh.waiting_count() == 0


def test_data_of_another_digest_than_the_pinned_one_are_refused(packaged, origin, settings):
    origin.body = with_price(packaged, 99)
    settings.CATALOG_SHA256 = "0" * 64

    with pytest.raises(price_refresh.PricesRefused, match="CATALOG_SHA256"):
        price_refresh.refresh()

    settings.CATALOG_SHA256 = hashlib.sha256(origin.body).hexdigest()
    assert price_refresh.refresh() is True
