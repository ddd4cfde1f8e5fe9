"""Holds: data_plane.forwarding.managed_inference

Ways to be served with the operator's key for nothing, or to reach what is stored in the operator's organisation.
"""

import asyncio
import json
import random
from contextlib import suppress
from typing import Any, Final

import aiohttp
import pytest

from gateway_core.catalog import Model, ModelsDocument
from gateway_core.snapshot import Rule, Step
from local.stand_in import StandIn
from tests.patience import eventually
from tests.tiers import is_full
from tests.workers import Client, SnapshotWriter, Tenant, free_port, running, settings_of

OPERATORS: Final = "sk-operator-0123456789abcdefghij"
OWN: Final = "sk-own-0123456789abcdefghijkl"
CHAT: Final = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
RESPONSES: Final = {"model": "gpt-4o", "input": "Hi"}
MESSAGES: Final = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
PATHS: Final = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
BODIES: Final[dict[str, dict[str, Any]]] = {"chat": CHAT, "responses": RESPONSES, "messages": MESSAGES}


@pytest.fixture
def rich(writer: SnapshotWriter, alice: Tenant) -> Tenant:
    """An account with credits, where the operator has keys."""
    writer.managed(openai=OPERATORS, anthropic=OPERATORS)
    alice.settings(has_credits=True)
    return alice


async def ask(client: Client, token: str, surface: str, body: str, query: str = "", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.request("POST", PATHS[surface] + query, token, data=body, headers=named)


def part(**content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [content]}]}


UNPRICED: list[tuple[str, dict[str, Any], str]] = [
    ("responses", {"background": True}, "background"),
    *(("responses", {"tools": [{"type": kind}]}, "tools") for kind in ("web_search", "web_search_preview", "mcp")),
    *(
        ("responses", {"tools": [{"type": kind}]}, "tools")
        for kind in ("code_interpreter", "image_generation", "shell")
    ),
    ("responses", {"tools": [{"type": "function", "name": "f"}, {"type": "file_search"}]}, "tools"),
    ("responses", {"tools": {"type": "web_search"}}, "tools"),
    ("responses", {"tools": [{"type": "web\\u005fsearch"}]}, "tools"),
    ("responses", {"tools": [{"type": ["function"]}]}, "tools"),
    ("chat", {"web_search_options": {}}, "web_search_options"),
    ("chat", {"tools": [{"type": "web_search"}]}, "tools"),
    # Nobody looks at so many.
    ("chat", {"tools": [{"type": "function", "function": {"name": "f" * 300_000}}]}, "tools"),
    ("chat", {"service_tier": "d" * 300_000}, "service_tier"),
    *(("chat", {"service_tier": tier}, "service_tier") for tier in ("flex", "priority", "scale", "fast", 1, ["auto"])),
    ("messages", {"service_tier": "priority"}, "service_tier"),
    ("messages", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools"),
    ("messages", {"tools": [{"type": "code_execution_20250825", "name": "x"}]}, "tools"),
    ("messages", {"tools": [{"type": "web_fetch_20250910", "name": "x"}]}, "tools"),
    ("messages", {"mcp_servers": [{"type": "url", "url": "https://example.com"}]}, "mcp_servers"),
    ("messages", {"speed": "fast"}, "speed"),
    ("messages", {"inference_geo": "us"}, "inference_geo"),
    ("chat", {"a_member_of_next_year": 1}, "a_member_of_next_year"),
]
OF_OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("responses", {"previous_response_id": "resp_1"}, "previous_response_id"),
    ("responses", {"conversation": "conv_1"}, "conversation"),
    ("responses", {"prompt": {"id": "pmpt_1"}}, "prompt"),
    ("responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]}, "input"),
    ("chat", part(type="file", file={"file_id": "file-1"}), "messages"),
    ("messages", {"container": "container_1"}, "container"),
    ("messages", part(type="document", source={"type": "file", "file_id": "file_1"}), "messages"),
    ("messages", part(type="container_upload", file_id="file_1"), "messages"),
    ("messages", {"tools": [{"name": "f", "input_schema": {}, "x": {"vector_store_ids": ["vs_1"]}}]}, "tools"),
]


async def test_what_has_no_price_is_not_sent_with_the_operators_key(client: Client, rich: Tenant, upstream: StandIn):
    token = rich.token()
    for surface, members, param in UNPRICED:
        answer = await ask(client, token, surface, json.dumps(BODIES[surface] | members).replace("\\\\u", "\\u"))

        assert (answer.status, answer.headers["gateway-error"]) == (400, "not_priced"), (surface, members, answer.body)
        assert param in answer.body.decode(), members
    assert upstream.calls == []


async def test_nothing_that_is_stored_for_the_operator_is_reached(client: Client, rich: Tenant, upstream: StandIn):
    token = rich.token()
    for surface, members, param in OF_OTHERS:
        written = json.dumps(BODIES[surface] | members)
        spellings = {written, written.replace("file_id", "\\u0066ile\\u005fid")}
        spellings |= {written.replace('"item_reference"', '"\\u0069tem_reference"')}
        for body in spellings | {written.replace(": ", " :\n\t")}:
            answer = await ask(client, token, surface, body)

            assert (answer.status, answer.headers["gateway-error"]) == (400, "not_priced"), (body, answer.body)
            assert param in answer.body.decode(), body
    assert upstream.calls == []


async def test_words_that_only_look_like_a_reference_pass(client: Client, rich: Tenant, upstream: StandIn):
    token = rich.token()
    for text in (
        'the member "file_id": of a file',
        "file_id",
        "item_reference",
        "\\u0066ile_id",
        "x" * 400_000 + "file_id",
    ):
        for surface in ("chat", "messages"):
            answer = await ask(client, token, surface, json.dumps(BODIES[surface] | part(type="text", text=text)))
            assert answer.status == 200, (text[:40], answer.body)


async def test_what_is_the_gateways_to_say_is_said_by_it(client: Client, rich: Tenant, upstream: StandIn):
    token = rich.token()
    given = {"store": True, "service_tier": "auto", "background": False, "user": "me", "previous_response_id": None}
    headers = {
        "openai_beta": "responses=v9",
        "idempotency_key": "mine",
        "session_id": "s",
        "anthropic_beta": "fast-mode-2026-02-01, interleaved-thinking-2025-05-14,files-api-2025-04-14",
    }
    for surface in ("chat", "responses"):
        assert (
            await ask(client, token, surface, json.dumps(BODIES[surface] | given), "?beta=true", **headers)
        ).status == 200
    messages = {"store": True, "service_tier": "standard_only"} | MESSAGES
    assert (await ask(client, token, "messages", json.dumps(messages), "?beta=true", **headers)).status == 200

    for call in upstream.calls:
        names = {name.lower() for name in call.headers}
        assert call.query == ""
        assert not names & {"openai-beta", "idempotency-key", "session-id", "session_id"}
        assert not call.body.keys() & {"service_tier", "background", "previous_response_id"}
    assert [call.body.get("store") for call in upstream.calls] == [False, False, None]
    assert [one.get("anthropic-beta") for one in (upstream.calls[2].headers,)] == ["interleaved-thinking-2025-05-14"]


async def test_own_keys_serve_what_the_operators_key_may_not(client: Client, rich: Tenant, upstream: StandIn):
    (own,) = rich.keys(OWN)
    steps = (Step(type="ngrok"), Step(type="user", keys=(own,)))
    token = rich.token(configuration=rich.configuration(Rule(provider="openai", steps=steps)))
    body = CHAT | {"service_tier": "priority", "store": True, "web_search_options": {}}

    assert (await ask(client, token, "chat", json.dumps(body), "?beta=true")).status == 200
    assert (await ask(client, token, "chat", json.dumps(CHAT))).status == 200

    assert upstream.keys == [OWN, OPERATORS]
    sent = upstream.calls[0]
    assert (sent.body["service_tier"], sent.body["store"], sent.query) == ("priority", True, "beta=true")


async def test_a_tool_that_the_caller_runs_passes(client: Client, rich: Tenant, upstream: StandIn):
    token = rich.token()
    tools = {
        "chat": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "g"}}],
        "responses": [{"type": "function", "name": "f"}, {"type": "local_shell"}],
        "messages": [{"name": "f", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"}],
    }
    for surface, given in tools.items():
        answer = await ask(client, token, surface, json.dumps(BODIES[surface] | {"tools": given}))
        assert answer.status == 200, answer.body

    assert [call.body["tools"] for call in upstream.calls] == list(tools.values())


async def test_a_model_that_searches_by_itself_is_not_served(
    client: Client, alice: Tenant, writer: SnapshotWriter, upstream: StandIn
):
    names = ("gpt-4o-search-preview", "o3-deep-research", "gpt-4o")
    models = tuple(Model(id=name, input_price="1", output_price="2") for name in names)
    writer.managed(ModelsDocument(providers={"openai": models}), openai=OPERATORS)
    alice.settings(has_credits=True)
    token = alice.token()

    statuses = {
        name: (await ask(client, token, "chat", json.dumps(CHAT | {"model": name}))).status
        for name in (*names, "GPT-4o-Search-Preview-2099-01-01", "gpt-4o-2099-01-01")
    }

    assert [name for name, status in statuses.items() if status == 200] == ["gpt-4o", "gpt-4o-2099-01-01"]


# ── what an attempt is settled at that did not report what it used ──

STREAM: Final = CHAT | {"stream": True, "max_tokens": 77}


async def leave(client: Client, token: str, body: dict[str, Any], *, after: int) -> None:
    """Ask, and hang up after so many bytes of the answer; after 0 before its head."""
    headers = {"authorization": f"Bearer {token}"}
    with suppress(TimeoutError, aiohttp.ClientError, asyncio.IncompleteReadError):
        async with asyncio.timeout(0.3 if not after else 30):
            url = f"{client.url}/v1/chat/completions"
            async with client.session.post(url, data=json.dumps(body), headers=headers) as response:
                await response.content.readexactly(after)
                response.close()


@pytest.mark.parametrize(("body", "after"), [(STREAM, 0), (STREAM, 20), (STREAM, 400)])
async def test_a_caller_that_leaves_pays_for_the_whole_answer(
    client: Client, rich: Tenant, upstream: StandIn, writer: SnapshotWriter, body: dict[str, Any], after: int
):
    upstream.pause = 0.1 if after else 0.4

    await leave(client, rich.token(), body, after=after)

    (told,) = await writer.usage_of(1)
    assert (told.input_tokens, told.output_tokens, told.usage_estimated) == (11, 5, False)
    assert upstream.cut_off == 0


async def test_with_a_key_of_the_account_the_upstream_still_stops_when_the_caller_leaves(
    client: Client, rich: Tenant, upstream: StandIn
):
    rich.keys(OWN)
    upstream.pause = 0.2

    await leave(client, rich.token(), STREAM, after=20)

    await eventually(lambda: upstream.cut_off == 1)


@pytest.mark.parametrize("behaviour", ["hang", "close", "cut"])
@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_attempt_that_was_sent_and_reported_nothing_is_settled_at_its_reservation(
    client: Client, rich: Tenant, upstream: StandIn, writer: SnapshotWriter, behaviour: str, *, is_stream: bool
):
    rich.settings(has_credits=True, per_request_timeout="500ms", total_timeout="2s")
    upstream.behaviours[OPERATORS] = behaviour

    await ask(client, rich.token(), "chat", json.dumps(STREAM | {"stream": is_stream, "n": 2}))

    (told,) = await writer.usage_of(1)
    assert told.output_tokens == 2 * 77
    assert told.input_tokens > 0
    assert told.usage_estimated


async def test_an_attempt_that_the_upstream_refused_or_never_had_costs_nothing(
    environ: dict[str, str], rich: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    urls = f"openai=http://127.0.0.1:{free_port()}/v1,anthropic={upstream.url}"
    async with running(settings_of(environ | {"UPSTREAM_BASE_URLS": urls})) as worker:
        token = rich.token()
        await ask(worker.client, token, "chat", json.dumps(STREAM))
        for status in ("429", "500", "400"):
            upstream.behaviours[OPERATORS] = status
            await ask(worker.client, token, "messages", json.dumps(MESSAGES))
        events = await writer.usage_of(4)

    assert [one.status for one in events] == [0, 429, 500, 400]
    assert {(one.input_tokens, one.output_tokens, one.usage_estimated) for one in events} == {(0, 0, False)}


@pytest.mark.parametrize("seed", range(3))
async def test_no_moment_of_leaving_and_no_misbehaviour_is_a_free_ride(
    client: Client, rich: Tenant, upstream: StandIn, writer: SnapshotWriter, seed: int
):
    """Whatever reached the upstream and was not refused there costs at least its input and one token."""
    chance = random.Random(seed)
    tries = 300 if is_full() else 12
    rich.settings(has_credits=True, per_request_timeout="2s", total_timeout="4s")
    token = rich.token()
    for _ in range(tries):
        upstream.pause = chance.choice([0.0, 0.01, 0.05])
        upstream.behaviours[OPERATORS] = chance.choice(["", "cut", "unfinished", "close"])
        body = STREAM | {"stream": chance.random() < 0.7}
        await leave(client, token, body, after=chance.choice([1, 30, 120, 300, 10_000]))

    events = await writer.usage_of(tries)
    assert [event for event in events if event.output_tokens < 1 or event.input_tokens < 1] == []
