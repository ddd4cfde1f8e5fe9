"""Holds: data_plane.forwarding.token_counts

Tokens are counted by the provider that would answer the message, else estimated, and never metered.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from gateway_core.catalog import Surface
from gateway_core.snapshot import Rule, Scope, Step, SurfaceSupport
from local.stand_in import StandIn
from tests.workers import Answer, Client, Running, SnapshotWriter, Tenant

KEY = "sk-ant-first-0123456789abcdefghij"
BAD = "sk-ant-401-0123456789abcdefghij"
MODEL = "anthropic:claude-sonnet-4-5"
PATH = "/v1/messages/count_tokens"


async def count(client: Client, token: str | None, model: str = MODEL, **members: Any) -> Answer:
    """Ask how many tokens a message is."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi " * 70}]} | members
    return await client.request("POST", PATH, token, data=msgspec.json.encode(body))


@asynccontextmanager
async def answering(status: int) -> AsyncIterator[str]:
    """The base URL of a server that answers everything with a status."""

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "Not here."}}, status=status)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()


async def test_the_provider_counts_under_its_own_path_and_gets_no_member_that_was_not_sent(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.settings(max_output_tokens=10, max_input_tokens=1)
    token = alice.routed(KEY, provider="anthropic")

    answer = await count(client, token, system="Be brief.")

    assert (answer.status, answer.json()) == (200, {"input_tokens": 11})
    assert "gateway-estimated" not in answer.headers
    assert upstream.calls[0].path == PATH
    assert set(upstream.calls[0].body) == {"model", "messages", "system"}
    assert upstream.calls[0].headers["anthropic-version"]


async def test_counting_fails_over_to_the_next_key_and_is_not_metered(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    token = alice.routed(BAD, KEY, provider="anthropic")

    assert (await count(client, token)).json() == {"input_tokens": 11}
    # The message comes after it, so its event is the first only if counting has none.
    assert (await client.message(token)).status == 200
    events = await writer.usage_of(1)

    # What counting has learnt of the first key holds for the message too.
    assert upstream.keys == [BAD, KEY, KEY]
    assert [event.attempt for event in events] == [1]


async def test_a_dead_key_is_told_and_not_hidden_by_an_estimate(client: Client, alice: Tenant):
    answer = await count(client, alice.routed(BAD, provider="anthropic"))

    assert (answer.status, answer.headers["gateway-error"]) == (502, "attempts_failed")
    assert answer.json()["type"] == "error"


async def test_the_access_scope_holds_for_counting_too(client: Client, alice: Tenant, upstream: StandIn):
    rule = Rule(provider="anthropic", steps=(Step(type="user", keys=tuple(alice.keys(KEY, provider="anthropic"))),))
    scope = Scope(providers=("anthropic",), models=(("anthropic", "claude-haiku-4-5"),))
    token = alice.token(configuration=alice.configuration(rule, scope=scope))

    refused = await count(client, token)
    foreign = await count(client, token, "openai:gpt-4o")
    nobody = await count(client, None)

    assert (refused.status, refused.headers["gateway-error"]) == (404, "model_not_allowed")
    assert (foreign.status, foreign.headers["gateway-error"]) == (404, "provider_not_allowed")
    assert (nobody.status, nobody.json()["type"]) == (401, "error")
    assert not upstream.calls


async def test_a_provider_without_the_surface_has_its_tokens_estimated(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.keys(KEY)

    answer = await count(client, alice.token(), "openai:gpt-4o")

    assert answer.status == 200
    assert answer.headers["gateway-estimated"] == "true"
    # 210 characters.
    assert 50 <= answer.json()["input_tokens"] <= 90
    assert not upstream.calls


@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_custom_provider_that_has_nothing_there_has_its_tokens_estimated(
    make_worker: Any, alice: Tenant, status: int
):
    worker: Running = await make_worker()
    async with answering(status) as url:
        alice.provider("local", url, SurfaceSupport(Surface.MESSAGES))

        answer = await count(worker.client, alice.token(), "local:llama")

    assert (answer.status, answer.headers.get("gateway-estimated")) == (200, "true")


async def test_a_built_in_providers_404_is_about_the_model(client: Client, alice: Tenant):
    answer = await count(client, alice.routed("sk-ant-404-0123456789abcdefghij", provider="anthropic"))

    assert answer.status == 404
    assert "gateway-estimated" not in answer.headers


async def test_counting_takes_no_other_method(client: Client, alice: Tenant):
    answer = await client.get(PATH, alice.token())

    assert (answer.status, answer.headers["allow"]) == (405, "POST")
