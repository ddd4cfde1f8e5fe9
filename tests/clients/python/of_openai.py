"""The package `openai`: chat completions, responses, and what else it has that the gateway serves."""

import json
from typing import Any

import openai

from place import GPT, RESULT, TOKEN, V1, busy, with_tool

PARAMETERS: Any = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}]
TOOLS: Any = [{"type": "function", "name": "weather", "parameters": PARAMETERS}]


def client(token: str = TOKEN, retries: int = 0) -> openai.OpenAI:
    """As its documentation makes one."""
    return openai.OpenAI(base_url=V1, api_key=token, max_retries=retries)


class Chat:
    """Chat completions."""

    name = "openai, chat"

    def ask(self, token: str = TOKEN, prompt: str = "Hi", retries: int = 0) -> Any:
        """An ordinary call."""
        answer = client(token, retries).chat.completions.create(
            model=GPT, messages=[{"role": "user", "content": prompt}]
        )
        return answer.choices[0].message.content, answer.usage and answer.usage.completion_tokens

    def stream(self, prompt: str = "Hi") -> Any:
        """A stream."""
        told = client().chat.completions.create(model=GPT, messages=[{"role": "user", "content": prompt}], stream=True)
        return [piece for chunk in told if chunk.choices and (piece := chunk.choices[0].delta.content)]

    def tools(self) -> Any:
        """A call of a tool, and the answer to its result."""
        messages: Any = [{"role": "user", "content": with_tool(self.name)}]
        first = client().chat.completions.create(model=GPT, messages=messages, tools=CHAT_TOOLS)
        said: Any = first.choices[0].message
        messages += [said, {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": RESULT}]
        second = client().chat.completions.create(model=GPT, messages=messages, tools=CHAT_TOOLS)
        return json.loads(said.tool_calls[0].function.arguments), second.choices[0].message.content

    def retry(self) -> Any:
        """A call that is made again."""
        return self.ask(prompt=busy(self.name), retries=1)

    def cut(self) -> Any:
        """A stream that breaks off."""
        return self.stream("be cut")


class Responses:
    """Responses."""

    name = "openai, responses"

    def ask(self, token: str = TOKEN, prompt: str = "Hi", retries: int = 0) -> Any:
        """An ordinary call."""
        answer = client(token, retries).responses.create(model=GPT, input=prompt)
        return answer.output_text, answer.usage and answer.usage.output_tokens

    def stream(self, prompt: str = "Hi") -> Any:
        """A stream."""
        with client().responses.stream(model=GPT, input=prompt) as told:
            return [event.delta for event in told if event.type == "response.output_text.delta"]

    def tools(self) -> Any:
        """A call of a tool, and the answer to its result."""
        items: Any = [{"role": "user", "content": with_tool(self.name)}]
        first = client().responses.create(model=GPT, input=items, tools=TOOLS)
        call: Any = first.output[0]
        items += [call, {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}]
        second = client().responses.create(model=GPT, input=items, tools=TOOLS)
        return json.loads(call.arguments), second.output_text

    def retry(self) -> Any:
        """A call that is made again."""
        return self.ask(prompt=busy(self.name), retries=1)

    def cut(self) -> Any:
        """A stream that breaks off."""
        return self.stream("be cut")


def more() -> Any:
    """What else the package asks for."""
    embedded = client().embeddings.create(model=GPT, input="Hi", encoding_format="float")
    return {
        "embedding": embedded.data[0].embedding,
        "models": [model.id for model in client().models.list()],
        "model": client().models.retrieve(GPT).id,
        "picture": client().images.generate(model="gpt-image-1", prompt="A cat").data[0].b64_json,
        "sound": len(client().audio.speech.create(model="tts-1", voice="alloy", input="Hi").read()),
        "text": client().audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"sound")).text,
        "flagged": client().moderations.create(input="Hi").results[0].flagged,
        "file": client().files.create(file=("a.jsonl", b"{}"), purpose="batch").id,
        "files": [one.id for one in client().files.list()],
        "response": client().responses.retrieve("resp_tests").output_text,
    }


CLIENTS = (Chat(), Responses())
