"""Holds: data_plane.http.app

The `openai` and `anthropic` packages, given a base URL and an access key and nothing else.
"""

from types import ModuleType
from typing import Any

import pytest

from local.stand_in import StandIn
from tests.workers import Running, Tenant

GOOD = "sk-good-0123456789abcdefghij"
TEXT = "Hello from the stand-in."
# No name that the package would one day warn of.
CLAUDE = "anthropic:claude-of-the-tests"
MESSAGES: Any = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def openai() -> ModuleType:
    """The package. Imported here, because it takes a second, and every process of a run collects every module."""
    import openai

    return openai


@pytest.fixture(scope="module")
def anthropic() -> ModuleType:
    """The package."""
    import anthropic

    return anthropic


@pytest.fixture
async def openai_client(openai: ModuleType, worker: Running, alice: Tenant):
    """OpenAI's own package."""
    token = alice.routed("sk-a-429-0123456789abcdefgh", "sk-b-401-0123456789abcdefgh", GOOD)
    async with openai.AsyncOpenAI(base_url=f"{worker.client.url}/v1", api_key=token, max_retries=0) as client:
        yield client


@pytest.fixture
async def anthropic_client(anthropic: ModuleType, worker: Running, alice: Tenant):
    """Anthropic's own package."""
    token = alice.routed("sk-a-429-0123456789abcdefgh", "sk-b-401-0123456789abcdefgh", GOOD, provider="anthropic")
    async with anthropic.AsyncAnthropic(base_url=worker.client.url, api_key=token, max_retries=0) as client:
        yield client


async def test_openai_gets_its_answer(openai_client: Any, upstream: StandIn):
    answer = await openai_client.chat.completions.create(model="gpt-4o", messages=MESSAGES)

    assert answer.choices[0].message.content == TEXT
    assert upstream.keys[-1] == GOOD
    assert len(upstream.keys) == 3


async def test_openai_gets_its_stream(openai_client: Any):
    stream = await openai_client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)

    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == TEXT


async def test_openai_gets_responses_streamed_and_not(openai_client: Any):
    whole = await openai_client.responses.create(model="gpt-4o", input="Hi")
    stream = await openai_client.responses.create(model="gpt-4o", input="Hi", stream=True)
    events = [event async for event in stream]

    assert whole.output_text == TEXT
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert events[-1].type == "response.completed"


async def test_openai_gets_embeddings_and_models(openai_client: Any):
    embedded = await openai_client.embeddings.create(model="gpt-4o", input="Hi", encoding_format="float")
    models = [model.id async for model in openai_client.models.list()]

    assert embedded.data[0].embedding == [0.1, 0.2, 0.3]
    assert models == ["openai:gpt-4o", "openai:gpt-4o-mini", "gpt-4o", "gpt-4o-mini"]


async def test_openai_raises_on_a_stream_that_was_cut(openai: ModuleType, worker: Running, alice: Tenant):
    token = alice.routed("sk-a-cut-0123456789abcdefgh")
    async with openai.AsyncOpenAI(base_url=f"{worker.client.url}/v1", api_key=token, max_retries=0) as client:
        stream = await client.chat.completions.create(model="gpt-4o", messages=MESSAGES, stream=True)

        with pytest.raises(openai.APIError, match="before it was complete"):
            _ = [chunk async for chunk in stream]


async def test_openai_knows_the_errors_by_their_classes(openai: ModuleType, worker: Running, alice: Tenant):
    url = f"{worker.client.url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="gwk_nothing", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
    async with openai.AsyncOpenAI(base_url=url, api_key=alice.token(), max_retries=0) as client:
        with pytest.raises(openai.NotFoundError) as refusal:
            await client.chat.completions.create(model="gpt-4oo", messages=MESSAGES)
    assert refusal.value.code == "model_unknown"


async def test_anthropic_gets_its_answer(anthropic_client: Any, upstream: StandIn):
    answer = await anthropic_client.messages.create(model=CLAUDE, max_tokens=50, messages=MESSAGES)

    assert answer.content[0].text == TEXT
    assert upstream.keys[-1] == GOOD
    assert len(upstream.keys) == 3


async def test_anthropic_gets_its_stream(anthropic_client: Any):
    async with anthropic_client.messages.stream(model=CLAUDE, max_tokens=50, messages=MESSAGES) as stream:
        assert "".join([text async for text in stream.text_stream]) == TEXT


async def test_anthropic_raises_on_a_stream_that_was_cut(anthropic: ModuleType, worker: Running, alice: Tenant):
    token = alice.routed("sk-a-cut-0123456789abcdefgh", provider="anthropic")
    async with (
        anthropic.AsyncAnthropic(base_url=worker.client.url, api_key=token, max_retries=0) as client,
    ):
        with pytest.raises(anthropic.APIStatusError, match="before it was complete"):
            async with client.messages.stream(model=CLAUDE, max_tokens=50, messages=MESSAGES) as stream:
                _ = [text async for text in stream.text_stream]
