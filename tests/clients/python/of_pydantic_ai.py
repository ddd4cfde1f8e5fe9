"""Pydantic AI: agents on its models of OpenAI and Anthropic."""

import asyncio
from typing import Any

import anthropic
import openai
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

from place import CLAUDE, GPT, TOKEN, URL, V1, busy, with_tool

asked: list[dict[str, str]] = []


def weather(city: str) -> str:
    """The weather."""
    asked.append({"city": city})
    return f"7 degrees in {city}"


class OnOpenAi:
    """An agent on `OpenAIChatModel` or `OpenAIResponsesModel`."""

    def __init__(self, kind: Any) -> None:
        self.name = f"pydantic-ai, {kind.__name__}"
        self._kind = kind

    def _agent(self, token: str = TOKEN, retries: int = 0) -> Any:
        client = openai.AsyncOpenAI(base_url=V1, api_key=token, max_retries=retries)
        return Agent(self._kind(GPT, provider=OpenAIProvider(openai_client=client)), tools=[weather])

    def ask(self, token: str = TOKEN, prompt: str = "Hi", retries: int = 0) -> Any:
        """An ordinary call."""
        answer = self._agent(token, retries).run_sync(prompt)
        usage = answer.usage
        return answer.output, (usage() if callable(usage) else usage).output_tokens

    def stream(self) -> Any:
        """A stream."""

        async def read() -> list[str]:
            async with self._agent().run_stream("Hi") as told:
                return [piece async for piece in told.stream_text(delta=True, debounce_by=None)]

        return asyncio.run(read())

    def tools(self) -> Any:
        """A call of a tool, and the answer to its result."""
        answer = self._agent().run_sync(with_tool(self.name))
        return asked[-1], answer.output

    def retry(self) -> Any:
        """A call that is made again."""
        return self.ask(prompt=busy(self.name), retries=1)


class OnAnthropic(OnOpenAi):
    """An agent on `AnthropicModel`."""

    def __init__(self) -> None:
        super().__init__(AnthropicModel)

    def _agent(self, token: str = TOKEN, retries: int = 0) -> Any:
        client = anthropic.AsyncAnthropic(base_url=URL, api_key=token, max_retries=retries)
        return Agent(AnthropicModel(CLAUDE, provider=AnthropicProvider(anthropic_client=client)), tools=[weather])


CLIENTS = (OnOpenAi(OpenAIChatModel), OnOpenAi(OpenAIResponsesModel), OnAnthropic())
