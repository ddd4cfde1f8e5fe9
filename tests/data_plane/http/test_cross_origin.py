"""Holds: data_plane.http.cross_origin

Pages of the origins that are set may ask, and no others; without the setting there is no word of CORS.
"""

from collections.abc import Callable
from typing import Any

import pytest

from tests.workers import Client, Tenant

KEY = "sk-first-0123456789abcdefghij"
PAGE = "https://app.example"
ASKING = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


@pytest.fixture
async def open_to(make_worker: Callable[..., Any]) -> Callable[..., Any]:
    """A client of a worker that pages of these origins may ask."""

    async def make(*origins: str) -> Client:
        client: Client = (await make_worker(cors_allowed_origins=origins)).client
        return client

    return make


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/models", "/responses"])
async def test_a_preflight_needs_no_key(open_to: Any, path: str):
    client = await open_to(PAGE, "http://localhost:3000")

    answer = await client.request("OPTIONS", path, headers=ASKING)

    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-allow-headers"] == ASKING["access-control-request-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers


async def test_answers_refusals_and_streams_are_open_to_the_page(open_to: Any, alice: Tenant):
    client = await open_to(PAGE)
    alice.keys(KEY)
    token = alice.token()

    answers = [
        await client.chat(token, headers={"origin": PAGE}),
        await client.chat(token, headers={"origin": PAGE}, stream=True),
        await client.chat(None, headers={"origin": PAGE}),
        await client.get("/nowhere", headers={"origin": PAGE}),
    ]

    assert [answer.status for answer in answers] == [200, 200, 401, 404]
    for answer in answers:
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "gateway-attempts" in answer.headers["access-control-expose-headers"]


@pytest.mark.parametrize("origin", ["https://app.example.evil", "http://app.example", "https://APP.example", "null"])
async def test_another_origin_is_allowed_nothing(open_to: Any, origin: str):
    client = await open_to(PAGE)

    asked = await client.request("OPTIONS", "/v1/models", headers=ASKING | {"origin": origin})
    got = await client.get("/healthz", headers={"origin": origin})

    for answer in (asked, got):
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["vary"] == "Origin"


async def test_any_origin_may_be_allowed(open_to: Any):
    client = await open_to("*")

    answer = await client.request("OPTIONS", "/v1/models", headers=ASKING | {"origin": "null"})

    assert (answer.status, answer.headers["access-control-allow-origin"]) == (204, "*")


async def test_a_malformed_list_of_headers_is_not_repeated(open_to: Any):
    client = await open_to(PAGE)

    answer = await client.request("OPTIONS", "/v1/models", headers=ASKING | {"access-control-request-headers": "a b;c"})

    assert "access-control-allow-headers" not in answer.headers


async def test_without_the_setting_a_preflight_is_a_method_that_is_not_taken(client: Client):
    answer = await client.request("OPTIONS", "/v1/models", headers=ASKING)

    assert answer.status == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]
