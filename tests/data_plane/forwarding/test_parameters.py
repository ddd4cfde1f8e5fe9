"""Holds: data_plane.forwarding.parameters, gateway_core.dialects

What a model does not take is left out for that model alone, and the caller is told.
"""

from typing import Any

import msgspec
import pytest

from data_plane.forwarding.bodies import parse
from data_plane.forwarding.parameters import header, left_out
from gateway_core.catalog import Surface
from gateway_core.dialects import parameters_not_taken
from gateway_core.snapshot import SurfaceSupport
from local.stand_in import StandIn
from tests.workers import Client, Tenant

CHAT, RESPONSES, MESSAGES = Surface.CHAT_COMPLETIONS, Surface.RESPONSES, Surface.MESSAGES
SAMPLING = {"temperature": 0.2, "top_p": 0.9}
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
KEY = "sk-own-0123456789abcdefghijkl"


def sent(provider: str, model: str, surface: Surface, members: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The body that goes upstream, without its model, and what the caller is told."""
    body = parse(msgspec.json.encode({"model": f"{provider}:{model}", **members}))
    changes: dict[str, msgspec.Raw] = {}
    dropped, told = left_out(body.members, None, changes, parameters_not_taken(provider, model, surface))
    found = msgspec.json.decode(b"".join(body.forwarded(model, None, changes, dropped)))
    assert found.pop("model") == model
    return found, header(told)


@pytest.mark.parametrize(
    ("provider", "model", "surface", "members", "left", "told"),
    [
        # Reasoning models of OpenAI.
        ("openai", "o3", CHAT, SAMPLING | {"seed": 1}, {"seed": 1}, "temperature, top_p"),
        ("openai", "o1-mini-2024-09-12", CHAT, {"logit_bias": {}, "n": 2}, {"n": 2}, "logit_bias"),
        ("openai", "openai/GPT-5-mini", CHAT, {"stop": ["a"], "logprobs": True}, {}, "logprobs, stop"),
        (
            "openai",
            "gpt-5-2025-08-07",
            RESPONSES,
            SAMPLING | {"top_logprobs": 1},
            {},
            "temperature, top_p, top_logprobs",
        ),
        ("openai", "ft:o4-mini-2025-04-16:acme::1", CHAT, {"presence_penalty": 1}, {}, "presence_penalty"),
        ("openai", "gpt-5.2-pro", RESPONSES, {"temperature": 0}, {}, "temperature"),
        (
            "openai",
            "o4-mini",
            CHAT,
            {"max_tokens": 9},
            {"max_completion_tokens": 9},
            "max_tokens;as=max_completion_tokens",
        ),
        (
            "openai",
            "gpt-5.1",
            CHAT,
            {"max_tokens": 9},
            {"max_completion_tokens": 9},
            "max_tokens;as=max_completion_tokens",
        ),
        (
            "openai",
            "o3",
            CHAT,
            {"max_tokens": 9, "max_completion_tokens": 8},
            {"max_completion_tokens": 8},
            "max_tokens",
        ),
        # These reason when they are asked to.
        (
            "openai",
            "gpt-5.1",
            CHAT,
            SAMPLING | {"reasoning_effort": "high"},
            {"reasoning_effort": "high"},
            "temperature, top_p",
        ),
        (
            "openai",
            "gpt-5.4-mini",
            RESPONSES,
            SAMPLING | {"reasoning": {"effort": "low"}},
            {"reasoning": {"effort": "low"}},
            "temperature, top_p",
        ),
        # Models that do not reason.
        (
            "openai",
            "gpt-4.1",
            CHAT,
            {"reasoning_effort": "low", "temperature": 1},
            {"temperature": 1},
            "reasoning_effort",
        ),
        ("openai", "gpt-4o", RESPONSES, {"reasoning": {"effort": "low"}}, {}, "reasoning"),
        ("openai", "gpt-4o-search-preview", CHAT, {"temperature": 1, "n": 1}, {"n": 1}, "temperature"),
        # Anthropic.
        ("anthropic", "claude-opus-4-7", MESSAGES, SAMPLING | {"top_k": 5}, {}, "temperature, top_p, top_k"),
        ("anthropic", "claude-opus-4-8-20260528", CHAT, {"temperature": 1}, {}, "temperature"),
        ("anthropic", "claude-sonnet-4-5", MESSAGES, SAMPLING, {"temperature": 0.2}, "top_p"),
        (
            "anthropic",
            "claude-sonnet-4-5",
            MESSAGES,
            THINKING | {"temperature": 0, "top_k": 1},
            THINKING,
            "temperature, top_k",
        ),
        # Others.
        ("xai", "grok-4-fast-reasoning", CHAT, {"stop": "a", "reasoning_effort": "low"}, {}, "stop, reasoning_effort"),
        (
            "xai",
            "grok-3-mini",
            CHAT,
            {"frequency_penalty": 1, "reasoning_effort": "low"},
            {"reasoning_effort": "low"},
            "frequency_penalty",
        ),
        ("groq", "llama-3.3-70b-versatile", CHAT, {"logprobs": True, "temperature": 1}, {"temperature": 1}, "logprobs"),
        ("cerebras", "gpt-oss-120b", CHAT, {"logit_bias": {}, "seed": 1}, {"seed": 1}, "logit_bias"),
        ("deepseek", "deepseek-reasoner", CHAT, {"logprobs": True}, {}, "logprobs"),
        (
            "deepseek",
            "deepseek-chat",
            CHAT,
            {"max_completion_tokens": 5},
            {"max_tokens": 5},
            "max_completion_tokens;as=max_tokens",
        ),
        ("moonshot", "kimi-k2.6", CHAT, SAMPLING, {}, "temperature, top_p"),
        (
            "mistral",
            "mistral-large-latest",
            CHAT,
            {"seed": 3, "user": "u"},
            {"random_seed": 3},
            "user, seed;as=random_seed",
        ),
    ],
)
def test_what_a_model_does_not_take_is_left_out_and_told(provider, model, surface, members, left, told):
    assert sent(provider, model, surface, members) == (left, told)


@pytest.mark.parametrize(
    ("provider", "model", "surface", "members"),
    [
        ("openai", "gpt-4o", CHAT, SAMPLING | {"max_tokens": 5, "stop": "a"}),
        ("openai", "gpt-5-chat-latest", CHAT, SAMPLING),
        ("openai", "gpt-5.1", CHAT, SAMPLING | {"reasoning_effort": "none"}),
        ("openai", "gpt-5.2", RESPONSES, SAMPLING | {"reasoning": {"effort": "none"}}),
        ("openai", "gpt-5.2", RESPONSES, SAMPLING),
        ("openai", "o3", CHAT, {"reasoning_effort": "low", "max_completion_tokens": 5}),
        ("openai", "omni-o3", CHAT, SAMPLING),
        ("anthropic", "claude-sonnet-4-5", MESSAGES, {"top_p": 0.9, "top_k": 2}),
        ("anthropic", "claude-sonnet-4-5", MESSAGES, {"thinking": {"type": "disabled"}, "temperature": 0}),
        ("anthropic", "claude-3-5-haiku-latest", MESSAGES, SAMPLING),
        ("xai", "grok-4-fast-non-reasoning", CHAT, {"stop": "a"}),
        ("xai", "grok-4.3", CHAT, {"reasoning_effort": "low"}),
        ("moonshot", "kimi-k2-0905-preview", CHAT, SAMPLING),
        # Providers that only speak the format are not known to refuse anything.
        ("together", "openai/o3", CHAT, SAMPLING | {"max_tokens": 5}),
        ("openrouter", "openai/o3", CHAT, SAMPLING),
        ("", "o3", CHAT, SAMPLING),
    ],
)
def test_what_a_model_takes_goes_as_it_came_and_nothing_is_told(provider, model, surface, members):
    assert sent(provider, model, surface, members) == (members, "")


async def test_it_is_left_out_for_the_model_that_does_not_take_it_alone(
    client: Client, alice: Tenant, upstream: StandIn
):
    token = alice.routed(KEY)

    reasoning = await client.chat(token, "openai:o3", temperature=0.5, max_tokens=7)
    plain = await client.chat(token, "openai:gpt-4o", temperature=0.5, max_tokens=7)

    assert (reasoning.status, plain.status) == (200, 200)
    assert reasoning.headers["gateway-removed-params"] == "temperature, max_tokens;as=max_completion_tokens"
    assert "gateway-removed-params" not in plain.headers
    assert upstream.calls[0].body["max_completion_tokens"] == 7
    assert not {"temperature", "max_tokens"} & set(upstream.calls[0].body)
    assert upstream.calls[1].body["temperature"] == 0.5


async def test_the_header_tells_of_the_attempt_that_answered(client: Client, alice: Tenant, upstream: StandIn):
    token = alice.routed(KEY)
    upstream.behaviours[KEY] = "400"

    answer = await client.chat(token, "openai:o3", models=["openai:gpt-4o"], temperature=0.5, stream=True)

    assert answer.status == 400
    assert answer.headers["gateway-model"] == "gpt-4o"
    assert "gateway-removed-params" not in answer.headers


@pytest.mark.parametrize("limit", [3, 100])
async def test_a_cap_goes_with_the_name_that_the_model_takes(
    client: Client, alice: Tenant, upstream: StandIn, limit: int
):
    alice.settings(max_output_tokens=limit)

    answer = await client.chat(alice.routed(KEY), "openai:o3", max_tokens=7)

    assert upstream.calls[0].body["max_completion_tokens"] == min(limit, 7)
    assert "max_tokens" not in upstream.calls[0].body
    assert answer.headers["gateway-removed-params"] == "max_tokens;as=max_completion_tokens"


async def test_a_custom_providers_dialect_says_what_its_models_do_not_take(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.provider("azure", upstream.url, dialect="openai")
    alice.provider("plain", upstream.url)

    azure, plain = [await client.chat(alice.token(), f"{slug}:o3", temperature=0.5) for slug in ("azure", "plain")]

    assert azure.headers["gateway-removed-params"] == "temperature"
    assert "gateway-removed-params" not in plain.headers
    assert [call.body.get("temperature") for call in upstream.calls] == [None, 0.5]


async def test_what_a_custom_provider_does_not_list_is_told_as_far_as_a_header_may(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.provider("own", upstream.url, SurfaceSupport(CHAT, ("temperature",)))
    strange = {'a"b': 1, "x\r\ny": 2, "ü": 3, "x" * 65: 4, "": 5} | {f"many_{number}": number for number in range(30)}

    answer = await client.chat(alice.token(), "own:m", temperature=0.5, top_p=1, **strange)

    assert answer.status == 200
    assert answer.headers["gateway-removed-params"].split(", ") == ["top_p", *(f"many_{one}" for one in range(19))]
    assert set(upstream.calls[0].body) == {"model", "messages", "temperature"}
