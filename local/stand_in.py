"""A small stand-in upstream: answers in OpenAI's and Anthropic's formats, streamed and not, for the demo and the tests.

    python -m local.stand_in --port 9901

It accepts every key, remembers the keys that it received (`GET /calls` lists them masked), and misbehaves on demand. A
word in the header `x-stainless-stand-in`, or in the key between dashes (`sk-demo-429-0123456789`), says what it should
do:

    a status (`429`, `500`)   answer with that status
    hang                      take the request and never answer
    close                     close the connection instead of answering
    slow                      wait half a second before each event
    cut                       break the connection in the middle of the answer
    unfinished                end a stream with its connection, without its last event
    echo                      refuse the request with 400, and repeat the key
"""

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final

import msgspec
import typer
from aiohttp import web

from gateway_core.redaction import mask

_BEHAVIOURS: Final = re.compile(r"(?:^|-)([345][0-9]{2}|hang|close|slow|cut|unfinished|echo)(?:-|$)")
_WORDS: Final = ("Hello", " from", " the", " stand-in", ".")
_TEXT: Final = "".join(_WORDS)
_SLOW_SECONDS: Final = 0.5
_INPUT_TOKENS: Final = 11
_BODY_LIMIT: Final = 64 * 1024 * 1024
_REMEMBERED: Final = 10_000
_PIECE: Final = 64 * 1024


class Call(msgspec.Struct):
    """One request as it arrived."""

    path: str
    query: str
    key: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes
    # Whether the caller closed the connection before the answer ended.
    was_cut_off: bool = False


class StandIn:
    """The upstream, with the requests that it has received."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.cut_off = 0
        # The number of answers that are being sent now.
        self.under_way = 0
        # The behaviour by key, for keys that do not contain a behaviour themselves.
        self.behaviours: dict[str, str] = {}
        # Seconds between the events of every stream.
        self.pause = 0.0
        # Events of a stream; None for the words of the usual answer.
        self.events: int | None = None
        # A stream stops sending after so many events, and stays open.
        self.stall_after: int | None = None
        # The bytes of complete answers that callers have read.
        self.written = 0
        # The text of the usual answer.
        self.text = _TEXT
        # Added to every answer, because an upstream's cookies must never reach a caller.
        self.headers = {"set-cookie": "upstream-session=secret; Path=/", "openai-version": "stand-in"}
        # The base URL for a provider, once the stand-in listens.
        self.url = ""
        self._runner: web.AppRunner | None = None

    # ── start and stop ──

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen, and return the port."""
        app = web.Application(client_max_size=_BODY_LIMIT)
        app.router.add_get("/calls", self._list_calls)
        app.router.add_post("/{tail:.*}", self._answer)
        # Without this setting an answer would go on after its caller has left.
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        assert site._server is not None  # noqa: S101, SLF001 -- it was started; aiohttp has no public way to read the port
        found: int = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # noqa: SLF001
        self.url = f"http://{host}:{found}/v1"
        return found

    async def close(self) -> None:
        """Stop listening, and close open connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def keys(self) -> list[str]:
        """The keys of the received requests, in order."""
        return [call.key for call in self.calls]

    # ── answering ──

    async def _list_calls(self, _request: web.Request) -> web.Response:
        calls = [{"path": call.path, "key": mask(call.key), "model": call.body.get("model")} for call in self.calls]
        return web.json_response(calls)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        key = request.headers.get("x-api-key") or request.headers.get("authorization", "").removeprefix("Bearer ")
        try:
            body = json.loads(raw)
        except ValueError:
            return web.json_response({"error": {"message": "not JSON"}}, status=400)
        call = Call(request.path, request.rel_url.raw_query_string, key, dict(request.headers), body, raw)
        if len(self.calls) < _REMEMBERED:
            self.calls.append(call)
        found = _BEHAVIOURS.search(self.behaviours.get(key, key))
        behaviour = request.headers.get("x-stainless-stand-in") or (found[1] if found else "")
        self.under_way += 1
        try:
            return await self._behave(request, call, behaviour)
        except (asyncio.CancelledError, ConnectionError):
            call.was_cut_off = True
            self.cut_off += 1
            raise
        finally:
            self.under_way -= 1

    async def _behave(self, request: web.Request, call: Call, behaviour: str) -> web.StreamResponse:
        body = call.body
        if behaviour.isdigit():
            headers = self.headers | ({"retry-after": "7"} if behaviour == "429" else {})
            if behaviour.startswith("3"):
                # An address that would answer a client that followed the redirect.
                headers["location"] = f"{self.url.removesuffix('/v1')}/calls"
            message = {"error": {"message": f"the stand-in answers {behaviour}", "type": "stand_in"}}
            return web.json_response(message, status=int(behaviour), headers=headers)
        if behaviour == "echo":
            message = {"error": {"message": f"no such thing for {call.key}", "type": "stand_in"}}
            return web.json_response(message, status=400, headers=self.headers)
        if behaviour == "hang":
            await asyncio.Event().wait()
        if behaviour == "close":
            _abort(request)
            return web.Response()
        surface = request.path.rsplit("/v1", 1)[-1].strip("/")
        if body.get("stream"):
            return await self._stream(request, surface, body, behaviour)
        answer = msgspec.json.encode(self._whole(surface, body))
        if behaviour == "cut":
            response = web.StreamResponse(headers={**self.headers, "content-type": "application/json"})
            response.content_length = len(answer)
            await response.prepare(request)
            await response.write(answer[: len(answer) // 2])
            _abort(request)
            return response
        if len(answer) <= _PIECE:
            return web.Response(body=answer, headers=self.headers, content_type="application/json")
        response = web.StreamResponse(headers={**self.headers, "content-type": "application/json"})
        response.content_length = len(answer)
        await response.prepare(request)
        for start in range(0, len(answer), _PIECE):
            await response.write(answer[start : start + _PIECE])
            self.written += _PIECE
        return response

    async def _stream(
        self, request: web.Request, surface: str, body: dict[str, Any], behaviour: str
    ) -> web.StreamResponse:
        words = _WORDS if self.events is None else tuple(f"{number} " for number in range(self.events))
        events = list(_events(surface, body, words))
        if behaviour == "unfinished" and request.transport is not None:
            # As in HTTP/1.0, the end of the connection is the end of the answer.
            head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
            request.transport.write(head + b"".join(events[:-1]))
            request.transport.close()
            return web.Response()
        response = web.StreamResponse(headers={**self.headers, "content-type": "text/event-stream"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for place, event in enumerate(events):
            pause = _SLOW_SECONDS if behaviour == "slow" else self.pause
            if pause:
                await asyncio.sleep(pause)
            if place == self.stall_after:
                await asyncio.Event().wait()
            if behaviour == "cut" and place == len(events) // 2:
                await response.write(event[: len(event) // 2])
                await asyncio.sleep(0.05)
                _abort(request)
                return response
            await response.write(event)
        await response.write_eof()
        return response

    def _whole(self, surface: str, body: dict[str, Any]) -> dict[str, Any]:
        model = body.get("model")
        usage = {"prompt_tokens": _INPUT_TOKENS, "completion_tokens": len(_WORDS), "total_tokens": 16}
        head = {"id": "chatcmpl-standin", "created": int(time.time()), "model": model}
        match surface:
            case "messages":
                return _message(model) | {
                    "content": [{"type": "text", "text": self.text}],
                    "stop_reason": "end_turn",
                    "usage": {"input_tokens": _INPUT_TOKENS, "output_tokens": len(_WORDS)},
                }
            case "messages/count_tokens":
                return {"input_tokens": _INPUT_TOKENS}
            case "embeddings":
                data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2, 0.3]}]
                return {"object": "list", "model": model, "data": data, "usage": usage}
            case "responses":
                return _response(model, self.text, "completed")
            case "completions":
                choice = {"index": 0, "text": self.text, "finish_reason": "stop", "logprobs": None}
                return head | {"object": "text_completion", "choices": [choice], "usage": usage}
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": self.text},
            "finish_reason": "stop",
        }
        return head | {"object": "chat.completion", "choices": [choice], "usage": usage}


def _events(surface: str, body: dict[str, Any], words: tuple[str, ...]) -> Iterator[bytes]:
    model = body.get("model")
    if surface == "messages":
        yield _named("message_start", {"message": _message(model)})
        yield _named("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        for word in words:
            yield _named("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}})
        yield _named("content_block_stop", {"index": 0})
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        yield _named("message_delta", {"delta": delta, "usage": {"output_tokens": len(words)}})
        yield _named("message_stop", {})
        return
    if surface == "responses":
        yield _named("response.created", {"sequence_number": 0, "response": _response(model, "", "in_progress")})
        place = {"item_id": "msg_standin", "output_index": 0, "content_index": 0, "logprobs": []}
        for number, word in enumerate(words, start=1):
            yield _named("response.output_text.delta", place | {"sequence_number": number, "delta": word})
        whole = _response(model, "".join(words), "completed")
        yield _named("response.completed", {"sequence_number": len(words) + 1, "response": whole})
        return
    head = {"id": "chatcmpl-standin", "object": "chat.completion.chunk", "created": int(time.time()), "model": model}
    for word in words:
        choice = {"index": 0, "delta": {"role": "assistant", "content": word}, "finish_reason": None}
        yield _event(head | {"choices": [choice]})
    yield _event(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    options = body.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        usage = {"prompt_tokens": _INPUT_TOKENS, "completion_tokens": len(words), "total_tokens": 16}
        yield _event(head | {"choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


def _named(name: str, body: dict[str, Any]) -> bytes:
    return b"event: " + name.encode() + b"\n" + _event({"type": name} | body)


def _message(model: object) -> dict[str, Any]:
    return {
        "id": "msg_standin",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": _INPUT_TOKENS, "output_tokens": 1},
    }


def _response(model: object, text: str, status: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    item = {"id": "msg_standin", "type": "message", "role": "assistant", "status": status, "content": content}
    return {
        "id": "resp_standin",
        "object": "response",
        "created_at": int(time.time()),
        "status": status,
        "model": model,
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


@contextlib.asynccontextmanager
async def running(port: int = 0) -> AsyncIterator[StandIn]:
    """A stand-in that listens on the loopback address."""
    stand_in = StandIn()
    await stand_in.start(port=port)
    try:
        yield stand_in
    finally:
        await stand_in.close()


def main(
    port: Annotated[int, typer.Option(help="The port to listen on; 0 for any.")] = 9901,
) -> None:
    """Run a stand-in upstream on the loopback address until Ctrl-C."""

    async def serve() -> None:
        async with running(port) as stand_in:
            typer.echo(f"stand-in upstream: {stand_in.url}")
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    typer.run(main)
