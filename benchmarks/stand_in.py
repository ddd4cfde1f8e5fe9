"""An upstream that needs as little processor time as possible: fixed answers from a bare protocol, in its own process.

python -m benchmarks.stand_in PORT

A request for a stream gets 60 events in chunked coding, three in each write, so that this process is never the
bottleneck. A request of a user named `paced` gets each event in its own write, milliseconds apart, as from a real
model. Any other request gets a short JSON answer with its length.

A stream with usage is like OpenAI's: every event has `"usage":null`, and one chunk at the end has the usage. That chunk
and `[DONE]` are among the 60 events.
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from typing import Any, Final

import uvloop

EVENTS: Final = 60
_EVENTS_A_WRITE: Final = 3
_PACE_SECONDS: Final = 0.005
_LONGEST_HEAD: Final = 64 * 1024
_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nx-upstream: stand-in\r\nopenai-version: 2020-10-01\r\n%b\r\n\r\n"
)
_USAGE: Final = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0},
}


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _whole() -> bytes:
    message: dict[str, object] = {
        "role": "assistant",
        "content": "Hello! How can I assist you today?",
        "refusal": None,
        "annotations": [],
    }
    body = _compact(
        {
            "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
            "object": "chat.completion",
            "created": 1741569952,
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _USAGE,
            "service_tier": "default",
            "system_fingerprint": "fp_fc9f1d7035",
        }
    )
    return _HEAD % (b"application/json", b"content-length: %d" % len(body)) + body


def _pieces(*, with_usage: bool) -> list[bytes]:
    """The bytes of a stream, one piece for each event."""

    def chunk(choices: list[object], usage: object = None) -> bytes:
        event: dict[str, object] = {
            "id": "chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG",
            "object": "chat.completion.chunk",
            "created": 1741570283,
            "model": "gpt-4o-2024-08-06",
            "service_tier": "default",
            "system_fingerprint": "fp_fc9f1d7035",
            "choices": choices,
        }
        return _compact(event | ({"usage": usage} if with_usage else {}))

    def choice(delta: object, reason: str | None = None) -> object:
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}

    datas = [chunk([choice({"role": "assistant", "content": "", "refusal": None})])]
    words = EVENTS - 3 - with_usage
    datas += [chunk([choice({"content": f" word{number:02}"})]) for number in range(words)]
    datas.append(chunk([choice({}, "stop")]))
    if with_usage:
        datas.append(chunk([], _USAGE))
    datas.append(b"[DONE]")
    assert len(datas) == EVENTS
    events = [b"data: %b\n\n" % data for data in datas]
    pieces = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    pieces[0] = _HEAD % (b"text/event-stream; charset=utf-8", b"transfer-encoding: chunked") + pieces[0]
    pieces[-1] += b"0\r\n\r\n"
    return pieces


_WHOLE: Final = _whole()
_PLAIN: Final = _pieces(with_usage=False)
_PLACES: Final = range(0, EVENTS, _EVENTS_A_WRITE)
_WITH_USAGE: Final = _pieces(with_usage=True)


class _Upstream(asyncio.Protocol):
    """One connection. The next request comes after the answer to the one before."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        end = received.find(b"\r\n\r\n", 0, _LONGEST_HEAD) + 4
        if end > 3:
            head = received[:end].lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            if len(received) >= end + length:
                self._received = bytearray()
                self._answer(received[end:])

    def _answer(self, body: bytearray) -> None:
        if b'"stream":true' not in body:
            self._transport.write(_WHOLE)
            return
        pieces = _WITH_USAGE if b'"include_usage":true' in body else _PLAIN
        if b'"user":"paced"' in body:
            self._speak(iter(pieces))
            return
        self._write(iter([b"".join(pieces[place : place + _EVENTS_A_WRITE]) for place in _PLACES]))

    def _write(self, pieces: Iterator[bytes]) -> None:
        if (piece := next(pieces, None)) is not None:
            self._transport.write(piece)
            self._loop.call_soon(self._write, pieces)

    def _speak(self, pieces: Iterator[bytes]) -> None:
        if (piece := next(pieces, None)) is not None:
            self._transport.write(piece)
            self._loop.call_later(_PACE_SECONDS, self._speak, pieces)


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Upstream(loop), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
