"""LangChain's packages: `langchain-openai` and `langchain-anthropic`."""

from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from place import CLAUDE, GPT, RESULT, TOKEN, URL, V1, busy, with_tool


@tool
def weather(city: str) -> str:
    """The weather."""
    return f"7 degrees in {city}"


class OpenAi:
    """`ChatOpenAI`."""

    def __init__(self, *, is_responses: bool) -> None:
        self.name = f"langchain-openai, {'responses' if is_responses else 'chat'}"
        self._is_responses = is_responses

    def _model(self, token: str = TOKEN, retries: int = 0) -> Any:
        made: Any = ChatOpenAI
        return made(model=GPT, base_url=V1, api_key=token, max_retries=retries, use_responses_api=self._is_responses)

    def ask(self, token: str = TOKEN, prompt: str = "Hi", retries: int = 0) -> Any:
        """An ordinary call."""
        answer = self._model(token, retries).invoke(prompt)
        return answer.text, answer.usage_metadata["output_tokens"]

    def stream(self) -> Any:
        """A stream."""
        return [chunk.text for chunk in self._model().stream("Hi") if chunk.text]

    def tools(self) -> Any:
        """A call of a tool, and the answer to its result."""
        bound = self._model().bind_tools([weather])
        asked = HumanMessage(with_tool(self.name))
        first = bound.invoke([asked])
        call = first.tool_calls[0]
        second = bound.invoke(
            [asked, first, ToolMessage(content=weather.invoke(call["args"]), tool_call_id=call["id"])]
        )
        return call["args"], second.text

    def retry(self) -> Any:
        """A call that is made again."""
        return self.ask(prompt=busy(self.name), retries=1)


class Anthropic(OpenAi):
    """`ChatAnthropic`."""

    def __init__(self) -> None:
        super().__init__(is_responses=False)
        self.name = "langchain-anthropic"

    def _model(self, token: str = TOKEN, retries: int = 0) -> Any:
        made: Any = ChatAnthropic
        return made(model=CLAUDE, base_url=URL, api_key=token, max_retries=retries, max_tokens=50)


def more() -> Any:
    """What else the package asks for."""
    made: Any = ChatAnthropic(model=CLAUDE, base_url=URL, api_key=TOKEN, max_tokens=50)  # type: ignore[call-arg,arg-type,unused-ignore]
    return {"tokens": made.get_num_tokens_from_messages([HumanMessage("Hi")])}


CLIENTS = (OpenAi(is_responses=False), OpenAi(is_responses=True), Anthropic())
assert weather.invoke({"city": "Oslo"}) == RESULT
