"""Holds: data_plane.http.paths

What can mean one path only is served, and every other path is answered with the right one, in the caller's format.
"""

from typing import Any

import msgspec
import pytest

from data_plane.http import paths
from local.stand_in import StandIn
from tests.workers import Client, Tenant

KEY = "sk-first-0123456789abcdefghij"
ANTHROPIC = {"anthropic-version": "2023-06-01"}
WEBSOCKET = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
}


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/v1/v1/v1/embeddings", "/v1/embeddings"),
        ("//v1/responses", "/v1/responses"),
        ("/v1//chat//completions/", "/v1/chat/completions"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/v1/v1/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/models", "/v1/models"),
        ("/models/openai/gpt-4o", "/v1/models/openai/gpt-4o"),
        ("/v1/v1/models/v1", "/v1/models/v1"),
        ("/v1/", "/v1"),
        ("/v1/models/a/models/b", "/v1/models/a/models/b"),
        # These mean nothing here, or more than one thing.
        ("/v1/models/", "/v1/models/"),
        ("/chat/v1/completions", "/chat/v1/completions"),
        ("/v2/chat/completions", "/v2/chat/completions"),
        ("/openai/v1/models/x", "/openai/v1/models/x"),
        ("//metrics", "//metrics"),
        ("/v1/healthz", "/v1/healthz"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_a_path_means_one_of_the_workers_or_itself(path: str, meant: str):
    assert paths.meant(path) == meant


@pytest.mark.parametrize("path", ["/chat/completions", "/v1/v1/chat/completions", "//v1//chat/completions"])
async def test_a_request_is_answered_wherever_v1_stands(client: Client, alice: Tenant, upstream: StandIn, path: str):
    alice.keys(KEY)
    body = msgspec.json.encode({"model": "openai:gpt-4o", "messages": []})

    answer = await client.request("POST", path, alice.token(), data=body)

    assert answer.status == 200
    assert upstream.calls[0].path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/openai/deployments/gpt-4o/chat/completions", "/v1/chat/completions"),
        ("/api/v1/responses", "/v1/responses"),
        ("/v1beta/models", "/v1/models"),
        ("/v1/threads", "with /v1 behind it"),
        ("/favicon.ico", "with /v1 behind it"),
    ],
)
async def test_a_404_names_the_path_and_the_base_url_for_openais_clients(client: Client, path: str, names: str):
    answer = await client.request("POST", path)

    assert (answer.status, answer.code) == (404, "not_found")
    assert names in answer.json()["error"]["message"]
    assert "base URL" in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/anthropic/v1/messages", {}),
        ("/v1/messages/other", {}),
        ("/proxy/messages/count_tokens", {}),
        ("/v1/complete", ANTHROPIC),
    ],
)
async def test_a_404_has_anthropics_form_for_its_clients(client: Client, path: str, headers: dict[str, str]):
    answer = await client.request("POST", path, headers=headers)

    assert (answer.status, answer.headers["gateway-error"]) == (404, "not_found")
    assert answer.json()["error"]["type"] == "not_found_error"
    assert "without /v1" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/api/hello"])
async def test_who_only_looks_whether_there_is_something_gets_an_answer(client: Client, path: str):
    whole = await client.get(path)
    head = await client.request("HEAD", path)

    assert (whole.status, whole.json()["status"]) == (200, "ok")
    assert (head.status, head.body) == (200, b"")
    assert (await client.request("POST", path)).status == 405


@pytest.mark.parametrize("path", ["/v1/responses", "/responses", "/v1/chat/completions", "/v1/messages"])
async def test_an_offer_of_a_websocket_is_426_and_the_connection_serves_on(client: Client, path: str):
    refused = await client.get(path, headers=WEBSOCKET)
    plain: Any = await client.get(path)

    assert (refused.status, refused.headers["gateway-error"]) == (426, "websocket_not_served")
    assert refused.headers["upgrade"] == "HTTP/1.1"
    assert plain.status == 405
