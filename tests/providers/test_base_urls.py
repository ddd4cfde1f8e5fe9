"""Holds: providers.base_url_check

Where a custom provider may stand, over the wire: when it is created, and when it is changed.
"""

import socket
import threading
import time
from typing import Any

import pytest
from django.db import connection

from gateway_core.addresses import parse_networks
from gateway_core.base_urls import UpstreamRules, parse_hosts
from providers import host_resolution
from providers.models import Provider
from tests import hostile_urls
from tests.patience import stretched

BODY = {"providerId": "mine", "name": "Mine"}


@pytest.fixture
def mine(create_provider):
    """A provider that stands well."""
    return create_provider(providerId="mine")


@pytest.fixture
def assert_not_taken(api, assert_refused, mine, subtests):
    """No provider is created at any of these URLs, and none is moved there."""

    def check(urls):
        for url in urls:
            with subtests.test(url=url):
                created = api.post("/providers", {**BODY, "providerId": "x", "baseUrl": url})
                assert_refused(created, 422, "invalid_request", "baseUrl")
                assert_refused(api.patch(mine["uri"], {"baseUrl": url}), 422, "invalid_request", "baseUrl")
        assert [provider.base_url for provider in Provider.objects.all()] == [mine["baseUrl"]]

    return check


def test_in_evaluation_too_no_hostile_url_is_created_or_put_in_place(assert_not_taken):
    assert_not_taken(hostile_urls.NEVER)


def test_in_production_no_url_that_turns_inward_is_created_or_put_in_place(assert_not_taken, production):
    assert_not_taken(hostile_urls.INWARD)


def test_a_configuration_carries_no_url_in_any_place(api, assert_refused):
    url = "https://evil.example.com"
    key = {"name": "a", "value": "sk-12345678"}
    step = {"type": "user", "keys": [key]}
    bodies: dict[str, dict[str, Any]] = {
        "baseUrl": {"baseUrl": url},
        "access.providers.baseUrl": {"access": {"providers": {"allow": [], "baseUrl": url}}},
        "router.baseUrl": {"router": {"baseUrl": url, "rules": [{"provider": "openai", "steps": [step]}]}},
        "router.rules[0].baseUrl": {"router": {"rules": [{"provider": "openai", "steps": [step], "baseUrl": url}]}},
        "router.rules[0].steps[0].baseUrl": {
            "router": {"rules": [{"provider": "openai", "steps": [{**step, "baseUrl": url}]}]}
        },
        "router.rules[0].steps[0].keys[0].baseUrl": {
            "router": {"rules": [{"provider": "openai", "steps": [{**step, "keys": [{**key, "baseUrl": url}]}]}]}
        },
    }
    for path, body in bodies.items():
        answer = api.post("/access-key-configurations", {"name": "x", **body})
        assert answer.status_code == 422
        assert path in answer.json()["details"]
    answer = api.post("/provider-keys", {"providerId": "openai", "name": "a", "value": "sk-12345678", "baseUrl": url})
    assert_refused(answer, 422, "invalid_request", "baseUrl")


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%eth0"],
        ["8.8.8.8", "192.168.0.1"],
    ],
)
def test_a_name_that_leads_inward_is_refused_when_it_is_written(api, assert_refused, mine, production, dns, addresses):
    dns["evil.example.com"] = addresses

    created = api.post("/providers", {**BODY, "providerId": "x", "baseUrl": "https://evil.example.com"})

    assert_refused(created, 422, "invalid_request", "baseUrl")
    assert_refused(api.patch(mine["uri"], {"baseUrl": "https://EVIL.example.com./"}), 422, "invalid_request", "baseUrl")


def test_a_name_that_leads_inward_is_refused_under_an_idempotency_key_too(api, assert_refused, production, dns):
    dns["evil.example.com"] = ["10.0.0.1"]

    answer = api.post("/providers", {**BODY, "baseUrl": "https://evil.example.com"}, idempotency_key="k")

    assert_refused(answer, 422, "invalid_request", "baseUrl")


@pytest.mark.parametrize(
    "answer",
    [["93.184.215.14"], ["2606:2800:21f::1"], socket.gaierror(-2, "unknown"), UnicodeError("odd"), OSError("away")],
)
def test_a_name_on_the_internet_and_one_that_does_not_resolve_are_accepted(create_provider, production, dns, answer):
    dns["api.example.com"] = answer

    assert create_provider(baseUrl="https://api.example.com")["baseUrl"] == "https://api.example.com"


def test_the_resolver_is_never_asked_while_a_transaction_is_open(api, production, monkeypatch):
    depths = []

    def getaddrinfo(*_args, **_options):
        depths.append(True)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    asked_in = []
    resolve = host_resolution.resolve

    def noting(host, port):
        asked_in.append(len(connection.savepoint_ids))
        return resolve(host, port)

    monkeypatch.setattr(host_resolution, "resolve", noting)
    before = len(connection.savepoint_ids)

    answer = api.post("/providers", {**BODY, "baseUrl": "https://api.example.com"}, idempotency_key="k")

    assert answer.status_code == 201
    assert asked_in == [before]
    assert depths == [True]


def test_a_resolver_that_hangs_costs_a_bounded_time(monkeypatch):
    hangs = threading.Event()
    monkeypatch.setattr(host_resolution, "SECONDS", 0.1)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: hangs.wait(10) and [])

    began = time.monotonic()
    for _ in range(20):
        assert host_resolution.resolve("slow.example.com", 443) == ()

    assert time.monotonic() - began < stretched(5)
    hangs.set()


@pytest.mark.parametrize(
    ("rules", "url"),
    [
        (UpstreamRules(loopback=True), "http://localhost:11434"),
        (UpstreamRules(loopback=True), "http://127.0.0.1:11434/v1"),
        (UpstreamRules(loopback=True), "http://[::1]:11434/v1"),
        (UpstreamRules(networks=parse_networks(["10.1.0.0/16"])), "http://10.1.2.3:8000/v1"),
        (UpstreamRules(hosts=parse_hosts(["gpu.lan"])), "http://gpu.lan:8000/v1"),
        (UpstreamRules(), "http://ollama.internal:11434"),
        (UpstreamRules(), "https://x.openai.azure.com/openai/deployments/x?api-version=1"),
    ],
)
def test_what_the_operator_allows_is_accepted_and_shown_as_it_was_written(api, settings, rules, url):
    settings.UPSTREAM_RULES = rules

    answer = api.post("/providers", {**BODY, "baseUrl": url})

    assert answer.status_code == 201, answer.json()
    assert answer.json()["baseUrl"] == url


def test_an_internal_name_may_be_private_but_never_loopback_or_metadata(api, assert_refused, production, dns):
    dns |= {"a.internal": ["10.0.0.1"], "b.internal": ["127.0.0.1"], "c.internal": ["169.254.169.254"]}

    assert api.post("/providers", {**BODY, "baseUrl": "http://a.internal"}).status_code == 201
    for host in ("b", "c"):
        answer = api.post("/providers", {**BODY, "providerId": host, "baseUrl": f"http://{host}.internal"})
        assert_refused(answer, 422, "invalid_request", "baseUrl")


def test_in_evaluation_the_gateways_own_ports_stay_closed(api, assert_refused, settings):
    assert settings.UPSTREAM_RULES.loopback
    own = settings.UPSTREAM_RULES.own_ports

    assert {8000, 8001} <= own
    for port in own:
        for host in ("localhost", "127.0.0.1", "[::1]", "127.1", "[::ffff:127.0.0.1]", "0.0.0.0"):
            answer = api.post("/providers", {**BODY, "baseUrl": f"http://{host}:{port}/v1"})
            assert_refused(answer, 422, "invalid_request", "baseUrl")


def test_our_servers_ports_are_among_our_own(settings):
    from urllib.parse import urlsplit

    assert urlsplit(settings.REDIS_URL).port in settings.UPSTREAM_RULES.own_ports


def test_a_refusal_never_repeats_the_url(api):
    answer = api.post("/providers", {**BODY, "baseUrl": "https://user:sk-very-secret-value@example.com"})

    assert answer.status_code == 422
    assert b"sk-very-secret-value" not in answer.content
