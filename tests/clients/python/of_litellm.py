"""LiteLLM's package, which speaks both formats by the model's name."""

import json
from typing import Any

import litellm

from place import CLAUDE, GPT, RESULT, TOKEN, URL, V1, busy, with_tool

PARAMETERS: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]


class Completion:
    """`litellm.completion`."""

    def __init__(self, model: str, base_url: str) -> None:
        self.name = f"litellm, {model.partition('/')[0]}"
        self._model = model
        self._base_url = base_url

    def _complete(self, messages: Any, token: str = TOKEN, retries: int = 0, **options: Any) -> Any:
        return litellm.completion(
            model=self._model,
            messages=messages,
            api_base=self._base_url,
            api_key=token,
            num_retries=retries,
            max_retries=0,
            **options,
        )

    def ask(self, token: str = TOKEN, prompt: str = "Hi", retries: int = 0) -> Any:
        """An ordinary call."""
        answer = self._complete([{"role": "user", "content": prompt}], token, retries)
        return answer.choices[0].message.content, answer.usage.completion_tokens

    def stream(self) -> Any:
        """A stream."""
        told = self._complete([{"role": "user", "content": "Hi"}], stream=True)
        return [piece for chunk in told if (piece := chunk.choices[0].delta.content)]

    def tools(self) -> Any:
        """A call of a tool, and the answer to its result."""
        messages: Any = [{"role": "user", "content": with_tool(self.name)}]
        said = self._complete(messages, tools=TOOLS).choices[0].message
        messages += [said.model_dump(), {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": RESULT}]
        second = self._complete(messages, tools=TOOLS)
        return json.loads(said.tool_calls[0].function.arguments), second.choices[0].message.content

    def retry(self) -> Any:
        """A call that is made again."""
        return self.ask(prompt=busy(self.name), retries=1)


CLIENTS = (Completion(f"openai/{GPT}", V1), Completion(f"anthropic/{CLAUDE}", URL))
