"""Holds: data_plane.forwarding.exchange, data_plane.forwarding.headers

Requests that are forwarded: what goes upstream, and what comes back.
"""

import json
from typing import Any

import pytest

from data_plane.forwarding.headers import downstream
from gateway_core.redaction import mask
from local.stand_in import StandIn
from tests.workers import Client, Tenant, saying

KEY = "sk-first-0123456789abcdefghij"


async def test_an_access_key_gets_an_answer_from_an_upstream_whose_key_it_never_sees(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.keys(KEY)

    answer = await client.chat(alice.token(), "gpt-4o")

    assert answer.status == 200
    assert answer.json()["choices"][0]["message"]["content"] == "Hello from the stand-in."
    assert upstream.keys == [KEY]
    assert upstream.calls[0].path == "/v1/chat/completions"
    assert KEY not in answer.body.decode() + str(answer.headers)
    assert answer.headers["gateway-provider"] == "openai"
    assert answer.headers["gateway-model"] == "gpt-4o"
    assert answer.headers["gateway-attempts"] == "1"
    assert answer.headers["x-request-id"].startswith("req_")


async def test_an_anthropic_message_is_sent_with_the_key_where_anthropic_wants_it(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.keys("sk-ant-REDACTED", provider="anthropic")

    answer = await client.message(alice.token())

    assert answer.json()["content"][0]["text"] == "Hello from the stand-in."
    sent = upstream.calls[0]
    assert sent.path == "/v1/messages"
    assert sent.headers["x-api-key"] == "sk-ant-REDACTED"
    assert sent.headers["anthropic-version"] == "2023-06-01"
    assert "Authorization" not in sent.headers


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v1/responses", {"input": "Hi"}),
        ("/v1/embeddings", {"input": "Hi"}),
    ],
)
async def test_the_other_openai_surfaces_are_forwarded_to_their_own_paths(
    client: Client, alice: Tenant, upstream: StandIn, path: str, body: dict[str, Any]
):
    alice.keys(KEY)

    answer = await client.request("POST", path, alice.token(), data=json.dumps({"model": "gpt-4o"} | body))

    assert answer.status == 200
    assert upstream.calls[0].path == path


async def test_an_access_key_in_x_api_key_serves_too(client: Client, alice: Tenant):
    alice.keys(KEY)

    token = alice.token()

    assert (await client.chat(None, headers={"x-api-key": token})).status == 200
    assert (await client.chat(None, headers={"x-api-key": token, "authorization": "Bearer unused"})).status == 200
    assert (await client.chat(token, headers={"x-api-key": "unused"})).status == 200


async def test_only_the_model_is_changed_in_a_body_and_only_the_fallbacks_are_taken_out(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.keys(KEY)
    raw = (
        b'{"temperature":1.0,"seed":12345678901234567890123,"model":"openai/GPT-4o" ,  "models": ["openai:gpt-4o"],'
        b'"messages":[{"role":"user","content":"\\u00e9 \xc3\xa9 \\u0000 1e5"}],"logit_bias":{"1":1E5,"1":-0.0}}'
    )

    assert (await client.chat(alice.token(), raw=raw)).status == 200

    assert upstream.calls[0].raw == (
        b'{"temperature":1.0,"seed":12345678901234567890123,"model":"gpt-4o",'
        b'"messages":[{"role":"user","content":"\\u00e9 \xc3\xa9 \\u0000 1e5"}],"logit_bias":{"1":1E5,"1":-0.0}}'
    )


async def test_of_a_model_named_twice_the_one_that_was_judged_is_the_one_forwarded(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.keys(KEY)

    await client.chat(alice.token(), raw=b'{"model":"openai:gpt-4o","model":"openai:gpt-4o-mini","messages":[]}')

    assert upstream.calls[0].raw.count(b'"model"') == 1
    assert upstream.calls[0].body["model"] == "gpt-4o-mini"


@pytest.mark.parametrize("name", ["api_base", "base_url", "api_key", "api_type", "organization", "provider"])
async def test_no_member_of_a_body_changes_the_upstream_or_the_key(
    client: Client, alice: Tenant, upstream: StandIn, name: str
):
    alice.keys(KEY)

    answer = await client.chat(alice.token(), **{name: "http://127.0.0.1:1/v1"})

    assert answer.status == 200
    assert upstream.keys == [KEY]


async def test_the_callers_credentials_cookies_and_whereabouts_never_reach_an_upstream(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.keys(KEY)
    token = alice.token()
    foreign = {
        "cookie": "session=caller",
        "x-forwarded-for": "10.1.2.3",
        "x-forwarded-host": "inside.example",
        "forwarded": "for=10.1.2.3",
        "via": "1.1 proxy",
        "x-real-ip": "10.1.2.3",
        "true-client-ip": "10.1.2.3",
        "cf-connecting-ip": "10.1.2.3",
        "proxy-authorization": "Basic c2VjcmV0",
        "te": "trailers",
        "origin": "https://inside.example",
        "referer": "https://inside.example/secret",
        "x-goog-api-key": token,
        "api-key": token,
        "x-odd-place-for-a-token": f"Token {token}",
        "connection": "keep-alive, x-hop",
        "x-hop": "dropped with the connection",
        "x-stainless-lang": "kept",
        "accept-encoding": "gzip, br",
        "anthropic-beta": "some-feature",
    }

    assert (await client.chat(token, headers=foreign)).status == 200

    sent = {name.lower(): value for name, value in upstream.calls[0].headers.items()}
    assert token not in str(sent)
    assert "10.1.2.3" not in str(sent)
    assert "inside.example" not in str(sent)
    assert sent["x-stainless-lang"] == "kept"
    assert sent["anthropic-beta"] == "some-feature"
    assert sent["accept-encoding"] == "identity"
    assert not {"cookie", "x-hop", "te", "via", "proxy-authorization"} & set(sent)


async def test_the_upstreams_cookies_never_reach_the_caller(client: Client, alice: Tenant):
    alice.keys(KEY)
    token = alice.token()

    for members in ({}, {"stream": True}):
        answer = await client.chat(token, **members)

        assert answer.status == 200
        assert "set-cookie" not in answer.headers
        assert answer.headers["openai-version"] == "stand-in"


@pytest.mark.parametrize("malformed", [b"X-RateLimit-A: a\x01b", b"X-RateLimit-A: a\x7fb", b"X-RateLimit-A: a\x0bb"])
async def test_an_answer_passes_without_its_malformed_headers(client: Client, alice: Tenant, malformed: bytes):
    body = b'{"choices":[]}'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-RateLimit-B: caf\xe9\tau lait\r\n%b\r\n" % malformed
    async with saying(head + b"Content-Length: %d\r\n\r\n" % len(body) + body) as url:
        alice.provider("mine", url)

        answer = await client.chat(alice.token(), "mine:x")

    assert (answer.status, answer.body) == (200, body)
    assert "x-ratelimit-a" not in answer.headers
    assert "x-ratelimit-b" in answer.headers


@pytest.mark.parametrize(
    "name", [b"x-ratelimit-a b", b"x-ratelimit-:a", b"", b"x-ratelimit-\xe9", b"x-ratelimit-\r\na"]
)
def test_a_header_passes_only_by_a_name_that_is_one(name: bytes):
    assert downstream([(name, b"1"), (b"X-RateLimit-Limit", b"2")]) == [(b"x-ratelimit-limit", b"2")]


async def test_the_callers_query_is_kept_and_comes_after_the_providers_own(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.provider("azure", upstream.url + "/deployments/x?api-version=1")
    body = b'{"model":"azure:m","messages":[]}'

    await client.request("POST", "/v1/chat/completions?beta=true&x=%26", alice.token(), data=body)

    sent = upstream.calls[0]
    assert (sent.path, sent.query) == ("/v1/deployments/x/chat/completions", "api-version=1&beta=true&x=%26")


async def test_an_access_key_in_a_query_is_refused_instead_of_passed_on(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.keys(KEY)
    token = alice.token()

    answer = await client.request(
        "POST", f"/v1/chat/completions?key={token}", token, data=b'{"model":"openai:gpt-4o","messages":[]}'
    )

    assert (answer.status, answer.code) == (400, "access_key_in_query")
    assert not upstream.calls


async def test_a_custom_provider_without_keys_is_called_without_credentials(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.provider("my-ollama", upstream.url.removesuffix("/v1"))

    answer = await client.chat(alice.token(), "my-ollama:llama3.2")

    assert answer.status == 200
    assert upstream.calls[0].path == "/v1/chat/completions"
    assert upstream.keys == [""]
    assert upstream.calls[0].body["model"] == "llama3.2"


async def test_parameters_that_a_surface_does_not_take_are_left_out(client: Client, alice: Tenant, upstream: StandIn):
    from gateway_core.catalog import Surface
    from gateway_core.snapshot import SurfaceSupport

    alice.provider("plain", upstream.url, SurfaceSupport(Surface.CHAT_COMPLETIONS, ("temperature",)))

    await client.chat(alice.token(), "plain:m", temperature=1, top_k=3, stream=False)

    assert set(upstream.calls[0].body) == {"model", "messages", "temperature", "stream"}


async def test_a_refusal_that_repeats_the_upstream_key_loses_it(client: Client, alice: Tenant, upstream: StandIn):
    alice.keys(KEY)
    upstream.behaviours[KEY] = "echo"

    answer = await client.chat(alice.token())

    assert answer.status == 400
    assert KEY not in answer.body.decode()
    assert mask(KEY) in answer.body.decode()


async def test_what_a_gateway_sent_itself_is_refused_when_it_comes_back(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.keys(KEY)
    token = alice.token()
    await client.chat(token)
    marked = {"gateway-loop": upstream.calls[0].headers["gateway-loop"]}

    answer = await client.chat(token, headers=marked)

    assert (answer.status, answer.code) == (400, "routing_loop")
    assert (await client.chat(token, headers={"gateway-loop": "made up"})).status == 200


async def test_the_models_that_a_key_reaches_are_listed_as_openai_does(client: Client, alice: Tenant):
    alice.keys(KEY)
    alice.provider("my-ollama", "http://127.0.0.1:1", models=("llama3.2",))
    token = alice.token()

    listed = (await client.get("/v1/models", token)).json()
    one = await client.get("/v1/models/openai:gpt-4o", token)
    none = await client.get("/v1/models/anthropic:claude-sonnet-4-5", token)
    head = await client.request("HEAD", "/v1/models", token)

    assert listed["object"] == "list"
    qualified = ["openai:gpt-4o", "openai:gpt-4o-mini", "my-ollama:llama3.2"]
    assert [model["id"] for model in listed["data"]] == [*qualified, "gpt-4o", "gpt-4o-mini", "llama3.2"]
    assert one.json() == {"id": "openai:gpt-4o", "object": "model", "created": 0, "owned_by": "openai"}
    assert (none.status, none.code) == (404, "model_not_reachable")
    assert (head.status, head.body) == (200, b"")
