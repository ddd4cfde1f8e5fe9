"""Holds: data_plane.forwarding.limits

Caps on tokens, in force within the second: what a request may say, and how long its answer may become.
"""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.forwarding.limits import estimated_input_tokens, lowered_maxima
from gateway_core.catalog import Surface
from gateway_core.snapshot import SurfaceSupport
from local.stand_in import StandIn
from tests.workers import Client, Running, SnapshotWriter, Tenant

KEY = "sk-first-0123456789abcdefghij"


def members(**values: Any) -> dict[str, msgspec.Raw]:
    """A body's members."""
    return {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in values.items()}


def said(text: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def source(kind: str, media_type: str, data: str) -> dict[str, Any]:
    """A part of an Anthropic message."""
    return {"type": "document", "source": {"type": kind, "media_type": media_type, "data": data}}


PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(bytes(3000)).decode()}}


@pytest.mark.parametrize(
    ("surface", "body", "tokens"),
    [
        (Surface.CHAT_COMPLETIONS, {"messages": said("x" * 35)}, 10),
        (Surface.CHAT_COMPLETIONS, {"messages": said("é" * 36)}, 11),
        (Surface.CHAT_COMPLETIONS, {"messages": said('"\n' * 35)}, 20),
        (Surface.CHAT_COMPLETIONS, {"messages": said([{"type": "text", "text": "x" * 7}, PICTURE])}, 10),
        (Surface.CHAT_COMPLETIONS, {"messages": [], "tools": ["x" * 68]}, 21),
        (Surface.CHAT_COMPLETIONS, {"messages": [], "metadata": {"note": "x" * 1000}}, 1),
        (Surface.COMPLETIONS, {"prompt": ["x" * 7, "x" * 7]}, 4),
        (Surface.COMPLETIONS, {"prompt": [[1, 2, 3], [4]]}, 4),
        (Surface.EMBEDDINGS, {"input": list(range(100))}, 100),
        (Surface.RESPONSES, {"instructions": "x" * 7, "input": "x" * 7}, 4),
        (Surface.MESSAGES, {"system": [{"type": "text", "text": "x" * 7}], "messages": said("x" * 7)}, 7),
        (Surface.MESSAGES, {"messages": said([{"type": "image", "source": {"data": "x" * 999}}])}, 290),
        (Surface.MESSAGES, {"messages": said([source("base64", "image/png", "x" * 40_000)])}, 36),
        (Surface.MESSAGES, {"messages": said([source("base64", "application/pdf", "x" * 4_667)])}, 1005),
        (Surface.MESSAGES, {"messages": said([source("text", "text/plain", "x" * 3_500)])}, 1005),
        (Surface.MESSAGES, {"messages": said([source("text", "image/png", "x" * 3_500)])}, 1005),
        (Surface.CHAT_COMPLETIONS, {"messages": said("data:" + "x" * 3_500)}, 1003),
        (
            Surface.CHAT_COMPLETIONS,
            {"messages": said([{"type": "text", "text": "data:image/png," + "x" * 3_500}])},
            1008,
        ),
        (Surface.CHAT_COMPLETIONS, {"messages": said([{"url": "data:image/png;base64," + "x" * 3_500}])}, 1009),
        (Surface.CHAT_COMPLETIONS, {"messages": [], "prediction": {"type": "content", "content": "x" * 3_500}}, 1002),
        (Surface.CHAT_COMPLETIONS, {"messages": [], "documents": ["x" * 3_500]}, 1001),
        (Surface.CHAT_COMPLETIONS, {"messages": [], "nobody_knows_it": {"x" * 3_500: 1}}, 1002),
        (Surface.CHAT_COMPLETIONS, {"messages": [{"role": "x" * 3_500, "content": ""}]}, 1002),
        (
            Surface.CHAT_COMPLETIONS,
            {"messages": said([{"type": "input_audio", "input_audio": {"data": "x" * 9_999}}])},
            14,
        ),
        (Surface.CHAT_COMPLETIONS, {"messages": said([{"type": "file", "file": {"file_data": "x" * 4_667}}])}, 1005),
        (Surface.CHAT_COMPLETIONS, {}, 0),
    ],
)
def test_input_is_estimated_by_what_a_model_reads(surface: Surface, body: dict[str, Any], tokens: int):
    assert abs(estimated_input_tokens(members(**body)) - tokens) <= 2


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_request_that_says_too_much_is_refused_in_its_callers_format_and_not_sent(
    worker: Running, alice: Tenant, upstream: StandIn, writer: SnapshotWriter, path: str
):
    alice.keys(KEY)
    alice.keys(KEY, provider="anthropic")
    token = alice.token()
    await worker.reaches(alice.settings(max_input_tokens=100))
    send = worker.client.chat if path == "/v1/chat/completions" else worker.client.message

    refused = await send(token, messages=said("x" * 360))
    allowed = await send(token, messages=said("x" * 340))

    assert (refused.status, allowed.status) == (413, 200)
    if path == "/v1/messages":
        assert refused.json()["error"]["type"] == "request_too_large"
    else:
        assert refused.code == "input_too_long"
    assert len(upstream.calls) == 1
    assert len(await writer.usage_of(1)) == 1


async def test_a_picture_is_no_text(worker: Running, alice: Tenant):
    alice.keys(KEY)
    token = alice.token()
    await worker.reaches(alice.settings(max_input_tokens=100))

    assert (await worker.client.chat(token, messages=said([{"type": "text", "text": "What?"}, PICTURE]))).status == 200


async def test_a_cap_is_in_force_with_its_publication_and_gone_with_the_next(worker: Running, alice: Tenant):
    alice.keys(KEY)
    token = alice.token()
    long = said("x" * 1000)

    assert await worker.client.status(token, messages=long) == 200
    await worker.reaches(alice.settings(max_input_tokens=10))
    assert await worker.client.status(token, messages=long) == 413
    await worker.reaches(alice.settings(max_input_tokens=None))
    assert await worker.client.status(token, messages=long) == 200


ALL_MAXIMA = frozenset({"max_tokens", "max_completion_tokens", "max_output_tokens"})


@pytest.mark.parametrize(
    ("surface", "provider", "parameters", "given_members", "sent"),
    [
        (Surface.CHAT_COMPLETIONS, "openai", None, {"max_tokens": 500}, {"max_tokens": 100}),
        (Surface.CHAT_COMPLETIONS, "openai", None, {"max_tokens": 100}, {}),
        (Surface.CHAT_COMPLETIONS, "openai", None, {"max_completion_tokens": 101}, {"max_completion_tokens": 100}),
        (
            Surface.CHAT_COMPLETIONS,
            "openai",
            None,
            {"max_tokens": 500, "max_completion_tokens": 7},
            {"max_tokens": 100},
        ),
        (Surface.CHAT_COMPLETIONS, "openai", None, {}, {"max_completion_tokens": 100}),
        (Surface.CHAT_COMPLETIONS, "openai", None, {"max_tokens": None}, {"max_completion_tokens": 100}),
        (Surface.CHAT_COMPLETIONS, "mistral", None, {}, {"max_tokens": 100}),
        (Surface.CHAT_COMPLETIONS, "my-own", {"max_completion_tokens"}, {}, {"max_completion_tokens": 100}),
        (
            Surface.CHAT_COMPLETIONS,
            "my-own",
            {"max_completion_tokens"},
            {"max_tokens": 5},
            {"max_completion_tokens": 100},
        ),
        (Surface.CHAT_COMPLETIONS, "my-own", {"temperature"}, {"max_tokens": 500}, {}),
        (Surface.CHAT_COMPLETIONS, "openai", None, {"max_tokens": -1}, {"max_tokens": 100}),
        (Surface.CHAT_COMPLETIONS, "openai", None, {"max_tokens": "500"}, {"max_tokens": 100}),
        (Surface.CHAT_COMPLETIONS, "openai", None, {"max_tokens": 1e9}, {"max_tokens": 100}),
        (Surface.CHAT_COMPLETIONS, "openai", None, {"max_tokens": [5]}, {"max_tokens": 100}),
        (Surface.COMPLETIONS, "openai", None, {}, {"max_tokens": 100}),
        (Surface.RESPONSES, "openai", None, {"max_output_tokens": 5000}, {"max_output_tokens": 100}),
        (Surface.RESPONSES, "openai", None, {}, {"max_output_tokens": 100}),
        (Surface.MESSAGES, "anthropic", None, {"max_tokens": 4096}, {"max_tokens": 100}),
        (Surface.EMBEDDINGS, "openai", None, {}, {}),
    ],
)
def test_maxima_are_lowered_by_their_name_on_each_surface(
    surface: Surface,
    provider: str,
    parameters: set[str] | None,
    given_members: dict[str, Any],
    sent: dict[str, int],
):
    lowered = lowered_maxima(surface, members(**given_members), 100, 1, provider=provider, parameters=parameters)

    assert {name: msgspec.json.decode(value) for name, value in lowered.items()} == sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)


@given(
    surface=st.sampled_from([one for one in Surface if one is not Surface.EMBEDDINGS]),
    provider=st.sampled_from(["openai", "mistral", "my-own"]),
    body=st.dictionaries(st.sampled_from(sorted(ALL_MAXIMA)), JSON),
    limit=st.integers(1, 10_000),
)
def test_whatever_is_asked_for_an_upstream_is_told_of_no_more_than_the_cap(
    surface: Surface, provider: str, body: dict[str, Any], limit: int
):
    """Where a provider takes everything, one of the surface's maxima is sent, and each of them within the cap."""
    given_members = members(**body)

    sent = given_members | lowered_maxima(surface, given_members, limit, 1, provider=provider, parameters=None)

    of_surface = {
        Surface.CHAT_COMPLETIONS: {"max_tokens", "max_completion_tokens"},
        Surface.RESPONSES: {"max_output_tokens"},
    }.get(surface, {"max_tokens"})
    told = [msgspec.json.decode(value) for name, value in sent.items() if name in of_surface]
    meant = [value for value in told if value is not None]
    assert meant
    assert all(type(value) is int and 0 < value <= limit for value in meant)


async def test_the_cap_reaches_the_upstream_and_leaves_the_rest_of_the_body_alone(
    worker: Running, alice: Tenant, upstream: StandIn
):
    alice.keys(KEY)
    token = alice.token()
    await worker.reaches(alice.settings(max_output_tokens=64))

    await worker.client.chat(token, max_tokens=5000, temperature=0.5)
    await worker.client.chat(token, "openai:gpt-4o")

    first, second = (call.body for call in upstream.calls)
    assert (first["max_tokens"], first["temperature"]) == (64, 0.5)
    assert "max_completion_tokens" not in first
    assert second["max_completion_tokens"] == 64


async def test_unsupported_parameters_are_stripped_and_what_a_surface_needs_never_is(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.provider(
        "plain",
        upstream.url,
        SurfaceSupport(Surface.CHAT_COMPLETIONS, ("temperature",)),
        SurfaceSupport(Surface.MESSAGES, ()),
    )
    token = alice.token()

    await client.chat(token, "plain:m", temperature=0.5, top_p=0.5, tools=[], stream=True)
    await client.message(token, "plain:m", system="x", stream=False)

    chat, message = (set(call.body) for call in upstream.calls)
    assert chat == {"model", "messages", "stream", "temperature"}
    assert message == {"model", "messages", "max_tokens", "stream"}


async def test_a_surface_that_a_provider_lacks_is_refused_before_anything_is_sent(
    client: Client, alice: Tenant, upstream: StandIn
):
    alice.provider("chatty", upstream.url, SurfaceSupport(Surface.CHAT_COMPLETIONS))
    token = alice.token()

    refused = await client.message(token, "chatty:m")
    embedding = await client.request("POST", "/v1/embeddings", token, data=b'{"model":"chatty:m","input":"x"}')

    assert refused.status == 404
    assert (embedding.status, embedding.code) == (404, "surface_not_served")
    assert upstream.calls == []


async def test_a_custom_provider_is_called_without_credentials_and_with_its_own_once_there_are_some(
    worker: Running, alice: Tenant, upstream: StandIn, writer: SnapshotWriter
):
    alice.provider("my-ollama", upstream.url, models=("llama3.2",))
    token = alice.token()

    assert await worker.client.status(token, model="my-ollama:llama3.2") == 200
    alice.keys("ollama-key-0123456789abcdef", provider="my-ollama")
    number = alice.settings()
    await worker.reaches(number)
    assert await worker.client.status(token, model="my-ollama:llama3.2") == 200
    await worker.client.message(token, "llama3.2")

    none, one, other = upstream.calls
    assert "Authorization" not in none.headers
    assert "x-api-key" not in {name.lower() for name in none.headers}
    assert one.headers["Authorization"] == "Bearer ollama-key-0123456789abcdef"
    assert {name.lower(): value for name, value in other.headers.items()}["x-api-key"] == "ollama-key-0123456789abcdef"
    told = await writer.usage_of(3)
    assert [(event.provider, event.model, event.key_source) for event in told] == [
        ("my-ollama", "llama3.2", "none"),
        ("my-ollama", "llama3.2", "user"),
        ("my-ollama", "llama3.2", "user"),
    ]
