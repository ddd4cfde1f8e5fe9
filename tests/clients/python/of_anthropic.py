"""The package `anthropic`."""

from typing import Any

import anthropic

from place import CLAUDE, RESULT, TOKEN, URL, busy, with_tool

SCHEMA: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: Any = [{"name": "weather", "description": "The weather.", "input_schema": SCHEMA}]


def client(token: str = TOKEN, retries: int = 0) -> anthropic.Anthropic:
    """As its documentation makes one."""
    return anthropic.Anthropic(base_url=URL, api_key=token, max_retries=retries)


class Messages:
    """Messages."""

    name = "anthropic"

    def ask(self, token: str = TOKEN, prompt: str = "Hi", retries: int = 0) -> Any:
        """An ordinary call."""
        answer = client(token, retries).messages.create(
            model=CLAUDE, max_tokens=50, messages=[{"role": "user", "content": prompt}]
        )
        said: Any = answer.content[0]
        return said.text, answer.usage.output_tokens

    def stream(self, prompt: str = "Hi") -> Any:
        """A stream."""
        messages: Any = [{"role": "user", "content": prompt}]
        with client().messages.stream(model=CLAUDE, max_tokens=50, messages=messages) as told:
            return list(told.text_stream)

    def tools(self) -> Any:
        """A call of a tool, and the answer to its result."""
        messages: Any = [{"role": "user", "content": with_tool(self.name)}]
        first = client().messages.create(model=CLAUDE, max_tokens=50, messages=messages, tools=TOOLS)
        call: Any = first.content[0]
        result = {"type": "tool_result", "tool_use_id": call.id, "content": RESULT}
        messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
        second: Any = client().messages.create(model=CLAUDE, max_tokens=50, messages=messages, tools=TOOLS)
        return call.input, second.content[0].text

    def retry(self) -> Any:
        """A call that is made again."""
        return self.ask(prompt=busy(self.name), retries=1)

    def cut(self) -> Any:
        """A stream that breaks off."""
        return self.stream("be cut")


def more() -> Any:
    """What else the package asks for."""
    messages: Any = [{"role": "user", "content": "Hi"}]
    return {
        "tokens": client().messages.count_tokens(model=CLAUDE, messages=messages).input_tokens,
        "models": [model.id for model in client().models.list()],
        "model": client().models.retrieve(CLAUDE).id,
    }


CLIENTS = (Messages(),)
