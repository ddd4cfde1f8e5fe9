"""Holds: data_plane.forwarding.governed

An upstream obeys what was judged: members whose names it might read as others', and members by which it would route.
"""

import json
from typing import Any

import pytest

from data_plane.errors import GatewayError, MemberAmbiguous, MemberInvalid
from data_plane.forwarding import governed
from data_plane.forwarding.bodies import parse
from gateway_core.catalog import Surface
from gateway_core.snapshot import Scope, SurfaceSupport
from local.stand_in import StandIn
from tests.workers import Client, SnapshotWriter, Tenant

KEY = "sk-first-0123456789abcdefghij"


def body(**members: Any) -> bytes:
    """A body that asks for a model, with more members."""
    return json.dumps({"model": "small", "messages": []} | members).encode()


NEARLY = {
    "model": [
        "Model",
        "MODEL",
        "mode\u200bl",
        "ｍｏｄｅｌ",
        " model",
        "model ",
        "mod-el",
        "_model",
        "modél",
    ],
    "max_tokens": [
        "MAX_TOKENS",
        "max_to\u212aens",
        "max_token\u017f",
        "maxTokens",
        "max-tokens",
        "MaxTokens",
        "maxtokens",
    ],
    "max_completion_tokens": ["maxCompletionTokens", "Max_Completion_Tokens", "max_complet\u0131on_tokens"],
    "stream": ["Stream", "\u017ftream", "STREAM", "stream\ufeff"],
    "stream_options": ["streamOptions", "STREAM_OPTIONS"],
    "models": ["Models", "model\u017f", "models\u00ad"],
    "n": ["N", "ｎ", "n\u0301"],
    "best_of": ["bestOf", "BEST_OF"],
    "n_predict": ["nPredict", "N_PREDICT"],
    "service_tier": ["serviceTier", "serv\u0130ce_tier"],
    "messages": ["Messages", "me\u017f\u017fages"],
    "input": ["Input", "\u24d8nput"],
}


@pytest.mark.parametrize(("known", "given"), [(known, one) for known, names in NEARLY.items() for one in names])
def test_a_name_that_is_nearly_that_of_a_governed_member_is_refused_by_the_name_that_it_resembles(
    known: str, given: str
):
    with pytest.raises(MemberAmbiguous) as refusal:
        parse(body(**{given: "forbidden"}))

    assert refusal.value.param == known
    assert repr(known)[1:-1] in refusal.value.message


@pytest.mark.parametrize("escaped", [b'"\\u004dodel"', b'"mode\\u006C\\u0000"', b'"\\uff4dodel"'])
def test_an_escaped_name_is_judged_by_what_it_means(escaped: bytes):
    with pytest.raises(MemberAmbiguous):
        parse(b'{"model":"small",' + escaped + b':"forbidden"}')


@pytest.mark.parametrize(
    "name", ["__proto__", "constructor", "prototype", "Constructor", "--proto--", "model\0x", "x\0"]
)
def test_what_is_never_an_honest_name_is_refused(name: str):
    with pytest.raises(MemberAmbiguous):
        parse(body(**{name: {"max_tokens": 10**6}}))


@pytest.mark.parametrize("container", ["extra_body", "options", "Options", "generationConfig", "generation_config"])
@pytest.mark.parametrize("name", ["model", "num_predict", "maxOutputTokens", "stream", "__proto__", "N"])
def test_a_governed_member_within_a_container_is_refused_at_every_depth(container: str, name: str):
    for inside in ({name: 1}, {"a": {name: 1}}, {"a": [{"b": {name: 1}}]}):
        with pytest.raises(MemberAmbiguous):
            parse(body(**{container: inside}))


@pytest.mark.parametrize(
    "honest",
    [
        {"extra_body": {"google": {"thinking_config": {"thinking_budget": 100}, "cached_content": "c"}}},
        {"options": {"num_ctx": 8192, "temperature": 0.5}},
        {"metadata": {"model": "note", "Stream": "note"}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"model": {}}}}}]},
        {"chat_template_kwargs": {"enable_thinking": False}, "guided_json": {"properties": {"n": {}}}},
        {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
        {"stream": None, "stream_options": None, "my_own_parameter": {"model": 1}},
        {"ünïcode": 1, "模型": 2},
    ],
)
def test_honest_members_pass_as_they_came(honest: dict[str, Any]):
    sent = json.loads(b"".join(parse(body(**honest)).forwarded("small", None)))

    assert sent == {"model": "small", "messages": []} | honest


@pytest.mark.parametrize("value", ["true", 1, "yes", [True]])
def test_a_stream_that_is_neither_true_nor_false_is_refused(value: Any):
    with pytest.raises(MemberInvalid) as refusal:
        parse(body(stream=value))

    assert refusal.value.param == "stream"


def test_stream_options_hold_each_name_once_when_they_go_on():
    raw = b'{"model":"small","stream":true,"stream_options":{"include_usage":false,"include_usage":true}}'

    assert b"".join(parse(raw).forwarded("small", None)).count(b"include_usage") == 1
    with pytest.raises(MemberAmbiguous):
        parse(raw.replace(b"usage", b"Usage"))


@pytest.mark.parametrize(
    "raw",
    [
        body(**{"x" * 129: 1}),
        body(options={"a": "x" * 17_000}),
        body(options={"a": "x" * 9_000}, extra_body={"a": "x" * 9_000}),
        body(options={"model" + "\u200b" * 200: "forbidden"}),
        b'{"model":"small","options":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    ],
)
def test_names_and_containers_are_bounded(raw: bytes):
    with pytest.raises(GatewayError) as refusal:
        parse(raw)

    assert refusal.value.status == 400


ROUTING = [
    {"fallbacks": ["forbidden"]},
    {"Fallbacks": ["forbidden"]},
    {"route": "fallback"},
    {"provider": {"order": ["x"]}},
    {"plugins": [{"id": "auto"}]},
    {"api_base": "http://elsewhere.example"},
    {"apiBase": "http://elsewhere.example"},
    {"litellm_settings": {}},
    {"aws_bedrock_runtime_endpoint": "http://elsewhere.example"},
    {"extra_body": {"custom_llm_provider": "x"}},
    {"options": {"nested": [{"base-url": "http://elsewhere.example"}]}},
    {"lora_path": "other"},
    {"tools": [{"type": "image_generation", "Model": "forbidden"}]},
]


@pytest.mark.parametrize("members", ROUTING)
async def test_a_member_that_routes_is_refused_where_the_access_scope_names_models(
    client: Client, alice: Tenant, upstream: StandIn, members: dict[str, Any]
):
    alice.provider("mine", upstream.url)
    scoped = alice.token(configuration=alice.configuration(scope=Scope(models=(("mine", "small"),))))
    free = alice.token()

    refused = await client.chat(scoped, "mine:small", **members)

    assert (refused.status, refused.code) == (400, "member_routes")
    assert upstream.calls == []
    assert await client.status(scoped, model="mine:small", temperature=1) == 200
    assert await client.status(free, model="mine:small", **members) == 200


async def test_a_member_that_routes_is_refused_with_a_managed_key(
    client: Client, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    writer.managed(openai="sk-operators-0123456789abcdef")
    alice.settings(has_credits=True)

    refused = await client.chat(alice.token(), "openai:gpt-4o", api_base="http://elsewhere.example")

    assert (refused.status, refused.code) == (400, "member_routes")
    assert upstream.calls == []


async def test_a_custom_provider_takes_the_routing_members_that_its_account_lists(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.provider("mine", upstream.url, SurfaceSupport(Surface.CHAT_COMPLETIONS, ("route",)))
    scoped = alice.token(configuration=alice.configuration(scope=Scope(models=(("mine", "small"),))))

    assert await client.status(scoped, model="mine:small", route="x", fallbacks=["forbidden"]) == 200
    assert set(upstream.calls[0].body) == {"model", "messages", "route"}


def test_the_members_that_only_one_provider_routes_by_stand_in_its_facts():
    for provider, name in (("groq", "compound_custom"), ("together", "safety_model"), ("mistral", "agent_id")):
        assert governed._routing_name(name, [provider]) == name
        assert governed._routing_name(name, ["openai"]) is None
