"""Holds: providers.base_url_check, gateway_core.base_urls

A base URL that ends in a surface's path is refused with the right one in the message, wherever it is written.
"""

import pytest

from providers.models import Provider

BODY = {"providerId": "mine", "name": "Mine"}
# As vendors print their endpoints, and as people copy them.
ENDPOINTS = [
    ("https://api.example.com/v1/chat/completions", "https://api.example.com/v1"),
    ("https://api.example.com/v1/messages", "https://api.example.com/v1"),
    ("https://api.example.com/v1/responses", "https://api.example.com/v1"),
    ("https://api.example.com/v1/embeddings/", "https://api.example.com/v1"),
    ("https://api.example.com/v1/completions", "https://api.example.com/v1"),
    ("https://api.example.com/anthropic/v1/messages/count_tokens", "https://api.example.com/anthropic/v1"),
    ("https://api.example.com/api/paas/v4/chat/completions", "https://api.example.com/api/paas/v4"),
    ("https://api.example.com:8443/V1/Chat/Completions", "https://api.example.com:8443/V1"),
    ("https://api.example.com/v1//chat//completions//", "https://api.example.com/v1"),
    ("https://api.example.com/v1/chat/completion%73", "https://api.example.com/v1"),
    ("https://api.example.com/v1/responses?", "https://api.example.com/v1"),
]


@pytest.mark.parametrize(("url", "right"), ENDPOINTS)
def test_it_is_refused_with_the_right_one(api, assert_refused, create_provider, url, right):
    mine = create_provider(providerId="mine")

    created = api.post("/providers", {**BODY, "providerId": "x", "baseUrl": url})
    changed = api.patch(mine["uri"], {"baseUrl": url})

    for answer in (created, changed):
        assert_refused(answer, 422, "invalid_request", "baseUrl")
        assert f"use {right}." in answer.json()["details"]["baseUrl"]
    assert [provider.base_url for provider in Provider.objects.all()] == [mine["baseUrl"]]


@pytest.mark.parametrize(("url", "right"), ENDPOINTS)
def test_the_right_one_is_accepted(create_provider, url, right):
    assert create_provider(baseUrl=right)["baseUrl"] == right


@pytest.mark.parametrize(
    "url",
    [
        "https://messages.example.com/v1",
        "https://api.example.com/completions-proxy/v1",
        "https://api.example.com/v1/my-messages",
        "https://api.example.com/responses/v1",
        "https://api.example.com/v1/chat",
    ],
)
def test_what_only_looks_like_one_is_accepted(create_provider, url):
    assert create_provider(baseUrl=url)["baseUrl"] == url


def test_a_query_stays_and_is_not_shown(api):
    url = "https://x.openai.azure.com/openai/deployments/a/chat/completions?api-version=1&code=never-shown-0123"

    text = api.post("/providers", {**BODY, "baseUrl": url}).json()["details"]["baseUrl"]

    assert "use https://x.openai.azure.com/openai/deployments/a and the same query." in text
    assert "never-shown-0123" not in text


def test_a_surface_at_the_root_is_named_in_paths(api):
    text = api.post("/providers", {**BODY, "baseUrl": "https://api.example.com/chat/completions"}).json()["details"]

    assert (
        'use https://api.example.com, and name the path of the surface in paths, as "/chat/completions".'
        in (text["baseUrl"])
    )


def test_a_key_in_the_path_is_not_shown(api):
    url = "https://api.example.com/sk-proj-0123456789abcdefghijklmnopqrstuv/v1/messages"

    answer = api.post("/providers", {**BODY, "baseUrl": url})

    assert answer.status_code == 422
    assert b"0123456789abcdefghij" not in answer.content
