"""A scripted upstream that speaks both vendors' formats in full, so that other people's clients take it for one.

The last thing that the user said decides what it does, because that is what every package and command line passes on:

    use the tool NAME with {…}   call that tool; once its result is there, repeat the result
    be busy once                 429, and the answer when the same is asked again
    refuse                       400
    be cut                       a stream that breaks off

Anything else is answered with TEXT.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple

from aiohttp import web

TEXT: Final = "Hello from the upstream."
REASON: Final = "The upstream refuses this."
BUSY: Final = "The upstream is busy."
SOUND: Final = bytes(range(256))
# Of every answer.
INPUT_TOKENS, OUTPUT_TOKENS = 11, 7
_CALL: Final = re.compile(r"use the tool (\S+) with (\{.*?\})(?!\})", re.DOTALL)
_BODY_LIMIT: Final = 32 * 1024 * 1024
_TOOL_CALL: Final = "call_of_the_tests"
_STATUSES: Final = {400: "invalid_request_error", 429: "rate_limit_error"}


class Received(NamedTuple):
    """A request that came."""

    method: str
    path: str
    key: str
    headers: dict[str, str]
    # Its JSON, {} for none.
    body: dict[str, Any]
    raw: bytes


class Said(NamedTuple):
    """A conversation, as far as it decides."""

    # The user's last words.
    prompt: str
    # What the last tool gave back; "" for none since the user spoke.
    result: str


class Answer(NamedTuple):
    """What is answered: words, or a call of a tool."""

    text: str
    tool: str = ""
    arguments: str = ""

    @property
    def words(self) -> list[str]:
        """The text in pieces."""
        return re.findall(r"\S+\s*", self.text)


class Upstream:
    """The upstream, with what it received, in order."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.url = ""
        self._was_busy: set[str] = set()

    def asked(self, prompt: str) -> list[Received]:
        """The requests whose body holds a text."""
        return [one for one in self.received if prompt.encode() in one.raw]

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Answer one request."""
        raw = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        body = json.loads(raw) if raw[:1] == b"{" else {}
        self.received.append(Received(request.method, request.path_qs, key, headers, body, raw))
        match request.path.removeprefix("/v1"):
            case "/chat/completions":
                return await self._answer(request, body, _said_in_messages(body["messages"]), _chat, _chat_events)
            case "/responses":
                return await self._answer(request, body, _said_in_items(body["input"]), _response, _response_events)
            case "/messages":
                return await self._answer(request, body, _said_in_messages(body["messages"]), _message, _message_events)
            case "/messages/count_tokens":
                return web.json_response({"input_tokens": INPUT_TOKENS})
            case "/embeddings":
                return web.json_response(_embeddings(body))
            case "/images/generations":
                usage = {"input_tokens": INPUT_TOKENS, "output_tokens": OUTPUT_TOKENS, "total_tokens": 18}
                return web.json_response({"created": 1, "data": [{"b64_json": "aGk="}], "usage": usage})
            case "/audio/speech":
                return web.Response(body=SOUND, content_type="audio/mpeg")
            case "/audio/transcriptions":
                return web.json_response({"text": TEXT})
            case "/moderations":
                result = {"flagged": False, "categories": {}, "category_scores": {}}
                return web.json_response({"id": "modr-tests", "model": body["model"], "results": [result]})
            case "/files":
                file = {"id": "file-tests", "object": "file", "bytes": 2, "created_at": 1, "filename": "a.jsonl"}
                file |= {"purpose": "batch", "status": "processed"}
                listed = {"object": "list", "data": [file], "has_more": False}
                return web.json_response(file if request.method == "POST" else listed)
            case "/responses/resp_tests":
                return web.json_response(_response({"model": "gpt-4o"}, Answer(TEXT)))
        return web.json_response({"error": {"message": "nothing here", "type": "not_found_error"}}, status=404)

    async def _answer(self, request: web.Request, body: Any, said: Said, whole: Any, events: Any) -> web.StreamResponse:
        if "refuse" in said.prompt:
            return _error(request, 400, REASON)
        if "be busy once" in said.prompt and said.prompt not in self._was_busy:
            self._was_busy.add(said.prompt)
            return _error(request, 429, BUSY)
        answer = _answer_to(said, body.get("tools") or [])
        head = {"request-id": "req_upstream", "x-request-id": "req_upstream"}
        if not body.get("stream"):
            return web.json_response(whole(body, answer), headers=head)
        response = web.StreamResponse(headers={**head, "content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        written = list(events(body, answer))
        for event in written[: len(written) // 2] if "be cut" in said.prompt else written:
            await response.write(event)
        if "be cut" in said.prompt:
            assert request.transport is not None
            request.transport.abort()
        return response


def _error(request: web.Request, status: int, message: str) -> web.Response:
    error: dict[str, Any] = {"type": _STATUSES[status], "message": message}
    body = {"type": "error", "error": error}
    if not request.path.endswith("/messages"):
        body = {"error": error | {"param": None, "code": None}}
    headers = {"retry-after-ms": "30"} if status == 429 else {}
    return web.json_response(body, status=status, headers=headers)


def _answer_to(said: Said, tools: Sequence[Any]) -> Answer:
    if said.result:
        return Answer(f"The tool says: {said.result}")
    found = _CALL.search(said.prompt)
    names = {(one.get("function") or one).get("name") for one in tools}
    if found and found[1] in names:
        return Answer("", found[1], found[2])
    return Answer(TEXT)


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = [
        one.get("text") or one.get("content") or one.get("output") for one in content or () if isinstance(one, dict)
    ]
    return "\n".join(_text_of(part) if isinstance(part, list) else part for part in parts if part)


def _said_in_messages(messages: Sequence[Any]) -> Said:
    """Of chat completions and of Anthropic's messages."""
    prompt, result = "", ""
    for message in messages:
        content = message.get("content")
        results = [one for one in content if one.get("type") == "tool_result"] if isinstance(content, list) else []
        if message["role"] == "tool" or results:
            result = _text_of(results or content)
        elif message["role"] == "user":
            prompt, result = _text_of(content), ""
    return Said(prompt, result)


def _said_in_items(items: Any) -> Said:
    """Of the Responses API."""
    if isinstance(items, str):
        return Said(items, "")
    prompt, result = "", ""
    for item in items:
        if str(item.get("type")).endswith("_call_output"):
            result = _text_of(item["output"])
        elif item.get("role") == "user":
            prompt, result = _text_of(item["content"]), ""
    return Said(prompt, result)


# ── OpenAI's chat completions ──


def _chat(body: Any, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None, "refusal": None, "annotations": []}
    if answer.tool:
        function = {"name": answer.tool, "arguments": answer.arguments}
        message["tool_calls"] = [{"id": _TOOL_CALL, "type": "function", "function": function}]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": "tool_calls" if answer.tool else "stop",
    }
    return _chat_head(body, "chat.completion") | {"choices": [choice], "usage": _chat_usage()}


def _chat_head(body: Any, kind: str) -> dict[str, Any]:
    head = {"id": "chatcmpl-tests", "object": kind, "created": int(time.time()), "model": body["model"]}
    return head | {"service_tier": "default", "system_fingerprint": "fp_tests"}


def _chat_usage() -> dict[str, Any]:
    return {
        "prompt_tokens": INPUT_TOKENS,
        "completion_tokens": OUTPUT_TOKENS,
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def _chat_events(body: Any, answer: Answer) -> Iterator[bytes]:
    head = _chat_head(body, "chat.completion.chunk")
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": "", "refusal": None}]
    if answer.tool:
        call = {"index": 0, "id": _TOOL_CALL, "type": "function", "function": {"name": answer.tool, "arguments": ""}}
        deltas = [{"role": "assistant", "content": None, "tool_calls": [call]}]
        halves = answer.arguments[:5], answer.arguments[5:]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": half}}]} for half in halves]
    deltas += [{"content": word} for word in answer.words]
    for delta in deltas:
        yield _data(head | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]})
    reason = "tool_calls" if answer.tool else "stop"
    yield _data(head | {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}]})
    if (body.get("stream_options") or {}).get("include_usage"):
        yield _data(head | {"choices": [], "usage": _chat_usage()})
    yield b"data: [DONE]\n\n"


def _embeddings(body: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}]
    usage = {"prompt_tokens": INPUT_TOKENS, "total_tokens": INPUT_TOKENS}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


# ── OpenAI's responses ──


def _item(answer: Answer, *, is_done: bool = True) -> dict[str, Any]:
    status = "completed" if is_done else "in_progress"
    if answer.tool:
        arguments = answer.arguments if is_done else ""
        call = {"id": "fc_tests", "type": "function_call", "status": status, "call_id": _TOOL_CALL}
        return call | {"name": answer.tool, "arguments": arguments}
    content = [_part(answer.text)] if is_done else []
    return {"id": "msg_tests", "type": "message", "status": status, "role": "assistant", "content": content}


def _part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _response(body: Any, answer: Answer, *, is_done: bool = True) -> dict[str, Any]:
    usage = {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }
    return {
        "id": "resp_tests",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed" if is_done else "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": None,
        "model": body["model"],
        "output": [_item(answer)] if is_done else [],
        "parallel_tool_calls": True,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "store": body.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": usage if is_done else None,
        "user": None,
        "metadata": {},
    }


def _response_events(body: Any, answer: Answer) -> Iterator[bytes]:
    place: dict[str, Any] = {"output_index": 0}
    item = {"item_id": "fc_tests" if answer.tool else "msg_tests", **place}
    text = {**item, "content_index": 0}
    events: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": _response(body, answer, is_done=False)}),
        ("response.in_progress", {"response": _response(body, answer, is_done=False)}),
        ("response.output_item.added", place | {"item": _item(answer, is_done=False)}),
    ]
    if answer.tool:
        events.append(("response.function_call_arguments.delta", item | {"delta": answer.arguments}))
        events.append(("response.function_call_arguments.done", item | {"arguments": answer.arguments}))
    else:
        events.append(("response.content_part.added", text | {"part": _part("")}))
        events += [("response.output_text.delta", text | {"delta": word, "logprobs": []}) for word in answer.words]
        events.append(("response.output_text.done", text | {"text": answer.text, "logprobs": []}))
        events.append(("response.content_part.done", text | {"part": _part(answer.text)}))
    events.append(("response.output_item.done", place | {"item": _item(answer)}))
    events.append(("response.completed", {"response": _response(body, answer)}))
    for number, (name, fields) in enumerate(events):
        yield _named(name, fields | {"sequence_number": number})


# ── Anthropic's messages ──


def _message(body: Any, answer: Answer, *, is_done: bool = True) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": answer.text}]
    if answer.tool:
        content = [
            {"type": "tool_use", "id": "toolu_tests", "name": answer.tool, "input": json.loads(answer.arguments)}
        ]
    usage = {"input_tokens": INPUT_TOKENS, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
    return {
        "id": "msg_tests",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": content if is_done else [],
        "stop_reason": ("tool_use" if answer.tool else "end_turn") if is_done else None,
        "stop_sequence": None,
        "usage": usage | {"output_tokens": OUTPUT_TOKENS if is_done else 1, "service_tier": "standard"},
    }


def _message_events(body: Any, answer: Answer) -> Iterator[bytes]:
    whole = _message(body, answer)
    yield _named("message_start", {"message": _message(body, answer, is_done=False)})
    empty: dict[str, Any] = {"input": {}} if answer.tool else {"text": ""}
    block = whole["content"][0] | empty
    yield _named("content_block_start", {"index": 0, "content_block": block})
    yield _named("ping", {})
    deltas: list[dict[str, Any]] = [{"type": "text_delta", "text": word} for word in answer.words]
    if answer.tool:
        halves = answer.arguments[:5], answer.arguments[5:]
        deltas = [{"type": "input_json_delta", "partial_json": half} for half in halves]
    for delta in deltas:
        yield _named("content_block_delta", {"index": 0, "delta": delta})
    yield _named("content_block_stop", {"index": 0})
    delta = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield _named("message_delta", {"delta": delta, "usage": {"output_tokens": OUTPUT_TOKENS}})
    yield _named("message_stop", {})


def _data(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


def _named(name: str, fields: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\n" + _data({"type": name} | fields)


@asynccontextmanager
async def running() -> AsyncIterator[Upstream]:
    """An upstream on the loopback address."""
    upstream = Upstream()
    app = web.Application(client_max_size=_BODY_LIMIT)
    app.router.add_route("*", "/{tail:.*}", upstream.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield upstream
    finally:
        await runner.cleanup()
