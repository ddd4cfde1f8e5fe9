"""An upstream that answers each key with bytes of the test's own, in pieces and with pauses."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

# Bytes to send, seconds to wait.
Script = Sequence[bytes | float]

GOOD: Final = (
    b'{"object":"chat.completion","choices":[{"index":0,"message":{"content":"good"},"finish_reason":"stop"}]}'
)
GOOD_STREAM: Final = (
    b'data: {"choices":[{"index":0,"delta":{"content":"good"},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
GOOD_RESPONSE: Final = (
    b"event: response.output_text.delta\n"
    b'data: {"type":"response.output_text.delta","sequence_number":1,"delta":"good"}\n\n'
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1"}}\n\n'
)
GOOD_MESSAGE: Final = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"good"}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


def answer(body: bytes, status: int = 200, content_type: str = "application/json", **headers: str) -> bytes:
    """A whole answer; `_` in the names of headers is `-`."""
    lines = [f"HTTP/1.1 {status} Of Course", f"content-type: {content_type}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "connection: close", "\r\n"]).encode() + body


def head(content_type: str = "text/event-stream", **headers: str) -> bytes:
    """The head of an answer that ends with its connection."""
    lines = ["HTTP/1.1 200 OK", f"content-type: {content_type}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "\r\n"]).encode()


class Scripted:
    """The upstream, with the keys that it was shown, in order."""

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.scripts = scripts
        self.keys: list[str] = []
        self.url = ""

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            received = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            fields = dict(line.split(": ", 1) for line in received.split("\r\n")[1:] if ": " in line)
            await reader.readexactly(int(fields["content-length"]))
            key = fields.get("x-api-key") or fields.get("authorization", "").removeprefix("bearer ")
            self.keys.append(key)
            for step in self.scripts[key]:
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                else:
                    await asyncio.sleep(step)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def scripted(scripts: Mapping[str, Script]) -> AsyncIterator[Scripted]:
    """An upstream on the loopback address; each script by the key that it answers (lower case)."""
    upstream = Scripted(scripts)
    async with await asyncio.start_server(upstream.take, "127.0.0.1", 0) as listening:
        upstream.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        yield upstream
