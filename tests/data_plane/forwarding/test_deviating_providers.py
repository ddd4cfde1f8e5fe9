"""Holds: data_plane.forwarding.targets, data_plane.forwarding.one_attempt, gateway_core.policy, data_plane.state.held

Requests to custom providers that deviate: the key's header, static headers, paths, dialects; and what is never sent.
"""

import msgspec
import pytest

from gateway_core.catalog import KeyHeader
from gateway_core.snapshot import provider_document
from local.stand_in import StandIn
from tests.scripted_upstream import GOOD, answer, scripted
from tests.workers import Client, Running, Tenant

KEY, OTHER = "sk-own-0123456789abcdefghijkl", "sk-other-0123456789abcdefghij"
AZURE = "/openai/deployments/{model}/chat/completions?api-version=2024-10-21"


def sent_to(upstream: StandIn) -> dict[str, str]:
    """The headers of the newest request."""
    return {name.lower(): value for name, value in upstream.calls[-1].headers.items()}


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        (KeyHeader("api-key", ""), "api-key", KEY),
        (KeyHeader("x-goog-api-key", ""), "x-goog-api-key", KEY),
        (KeyHeader("authorization", "Api-Key "), "authorization", f"Api-Key {KEY}"),
        (KeyHeader("authorization", ""), "authorization", KEY),
    ],
)
async def test_the_key_stands_in_its_header_and_in_no_other(
    client: Client, alice: Tenant, upstream: StandIn, auth: KeyHeader, name: str, value: str
):
    alice.provider("azure", upstream.url, auth=auth)
    token = alice.routed(KEY, provider="azure")

    for surface in ("chat/completions", "messages"):
        body = {"model": "azure:m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
        assert (await client.request("POST", f"/v1/{surface}", token, json=body)).status == 200
        sent = sent_to(upstream)
        assert sent[name] == value
        assert [other for other, text in sent.items() if KEY in text] == [name]


async def test_a_provider_without_a_key_gets_nothing_of_the_callers_in_its_place(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.provider("open", upstream.url, auth=KeyHeader("openai-organization", ""))

    found = await client.chat(alice.token(), "open:m", headers={"openai-organization": "of-the-caller"})

    assert found.status == 200
    assert "openai-organization" not in sent_to(upstream)
    assert "authorization" not in sent_to(upstream)


async def test_static_headers_win_over_the_callers_and_never_over_the_gateways(
    client: Client, alice: Tenant, upstream: StandIn
):
    static = {"x-tenant": "ours", "anthropic-version": "2099-01-01", "user-agent": "ours/1", "content-type": "text/x"}
    alice.provider("own", upstream.url, headers=static)
    body = {"model": "own:m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5}
    headers = {"anthropic-version": "2023-06-01", "user-agent": "caller/1", "x-tenant": "theirs"}

    assert (await client.request("POST", "/v1/messages", alice.token(), json=body, headers=headers)).status == 200

    sent = sent_to(upstream)
    assert {name: sent[name] for name in ("x-tenant", "anthropic-version", "user-agent")} == {
        "x-tenant": "ours",
        "anthropic-version": "2099-01-01",
        "user-agent": "ours/1",
    }
    assert sent["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("path", "model", "place", "query"),
    [
        (AZURE, "gpt-4o", "/openai/deployments/gpt-4o/chat/completions", "api-version=2024-10-21"),
        (AZURE, "my_deployment.2", "/openai/deployments/my_deployment.2/chat/completions", "api-version=2024-10-21"),
        ("/api/paas/v4/chat/completions", "a/b", "/api/paas/v4/chat/completions", ""),
        ("/run/{model}", "llama3.2:latest", "/run/llama3.2:latest", ""),
        ("/{model}/x/{model}", "@m", "/@m/x/@m", ""),
    ],
)
async def test_a_surface_stands_at_its_own_path(
    client: Client, alice: Tenant, upstream: StandIn, path: str, model: str, place: str, query: str
):
    alice.provider("azure", f"{upstream.url}?tenant=a", paths={"chat-completions": path})

    for _ in range(2):
        assert (await client.chat(alice.token(), f"azure:{model}")).status == 200

    assert {(call.path, call.query) for call in upstream.calls} == {
        (place, "&".join(filter(None, (query, "tenant=a"))))
    }
    assert {call.body["model"] for call in upstream.calls} == {model}


async def test_tokens_are_counted_below_the_messages_own_path(client: Client, alice: Tenant, upstream: StandIn):
    alice.provider("own", upstream.url, paths={"messages": "/anthropic/v1/messages?a=b"})
    body = {"model": "own:m", "messages": [{"role": "user", "content": "Hi"}]}

    found = await client.request("POST", "/v1/messages/count_tokens", alice.token(), json=body)

    assert found.json() == {"input_tokens": 11}
    assert (upstream.calls[0].path, upstream.calls[0].query) == ("/anthropic/v1/messages/count_tokens", "a=b")


@pytest.mark.parametrize("model", ["..", ".", "a/../b", "a/b", "%2e%2e", "a?b", "a#b", "a b", "a\\b", "ü", "x" * 256])
async def test_a_model_that_could_be_read_as_another_path_is_refused_before_anything_is_sent(
    client: Client, alice: Tenant, upstream: StandIn, model: str
):
    alice.provider("azure", upstream.url, paths={"chat-completions": AZURE})

    found = await client.chat(alice.token(), f"azure:{model}")

    assert (found.status, found.headers["gateway-error"]) == (404, "model_unknown")
    assert not upstream.calls


async def test_the_callers_query_never_replaces_that_of_the_path(client: Client, alice: Tenant, upstream: StandIn):
    alice.provider("azure", upstream.url, paths={"chat-completions": AZURE})
    body = {"model": "azure:m", "messages": [{"role": "user", "content": "Hi"}]}

    await client.request("POST", "/v1/chat/completions?api-version=1&beta=true", alice.token(), json=body)

    assert upstream.calls[0].query == "api-version=2024-10-21&beta=true"


@pytest.mark.parametrize(
    ("dialect", "message", "status"),
    [
        ("anthropic", "Your credit balance is too low", 200),
        ("", "Your credit balance is too low", 400),
        ("xai", "Your team x has either used all available credits", 200),
        ("google", "API key expired. Please renew the API key.", 200),
        ("openai", "API key expired. Please renew the API key.", 400),
    ],
)
async def test_a_dialect_says_what_an_error_means(
    client: Client, alice: Tenant, dialect: str, message: str, status: int
):
    error = answer(msgspec.json.encode({"error": {"message": message}}), 400)
    async with scripted({KEY: [error], OTHER: [answer(GOOD)]}) as strange:
        alice.provider("own", f"{strange.url}/v1", dialect=dialect)

        found = await client.chat(alice.routed(KEY, OTHER, provider="own"), "own:m")

    assert found.status == status
    assert strange.keys == ([KEY, OTHER] if status == 200 else [KEY])


async def test_a_dialect_that_this_release_does_not_know_is_not_asked(client: Client, alice: Tenant, upstream: StandIn):
    alice.provider("own", upstream.url, dialect="of-tomorrow")

    found = await client.chat(alice.routed(KEY, provider="own"), "own:m")

    assert (found.status, found.headers["gateway-error"]) == (502, "attempts_failed")
    assert not upstream.calls


@pytest.mark.parametrize("slug", ["openai", "own"])
async def test_a_provider_that_is_not_understood_is_not_asked_and_no_built_in_one_of_its_name_instead(
    worker: Running, client: Client, alice: Tenant, upstream: StandIn, slug: str
):
    alice.provider(slug, upstream.url, must_understand=("ofTomorrow",))
    token = alice.routed(KEY, provider=slug)

    refused = await client.chat(token, f"{slug}:gpt-4o")
    await worker.reaches(alice.publish({provider_document(slug): None}))
    later = await client.chat(token, f"{slug}:gpt-4o")

    assert (refused.status, refused.headers["gateway-error"]) == (503, "snapshot_unfit")
    assert len(upstream.calls) == (slug == "openai")
    assert later.status == (200 if slug == "openai" else 404)
