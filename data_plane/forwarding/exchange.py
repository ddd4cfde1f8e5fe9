"""One request and its answer, as the ASGI server hands them over: what was sent already, and what may still be."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

from data_plane import errors
from data_plane.forwarding.bodies import Receive
from data_plane.forwarding.headers import Headers
from data_plane.forwarding.sse import TAIL, apart_from
from gateway_core.catalog import Format

Send = Callable[[Any], Awaitable[None]]


def new_request_id() -> str:
    """What names one request in its answer and in the log."""
    return f"req_{os.urandom(12).hex()}"


class Exchange:
    """The answer's side of a request. `is_started`: the head has gone out, there is no other answer any more."""

    __slots__ = (
        "_send",
        "_tail",
        "attempts",
        "format",
        "has_left",
        "is_complete",
        "is_head",
        "is_started",
        "is_stream",
        "model",
        "provider",
        "receive",
        "request_id",
        "status",
    )

    def __init__(self, scope: Any, receive: Receive, send: Send, written_as: Format) -> None:
        self.receive = receive
        self._send = send
        # The end of what was passed on.
        self._tail = b""
        self.format = written_as
        self.request_id = new_request_id()
        self.is_head = scope["method"] == "HEAD"
        self.is_started = False
        # An event stream: it can still end in an error event.
        self.is_stream = False
        self.is_complete = False
        self.has_left = False
        self.status = 0
        # Of the last attempt.
        self.provider = ""
        self.model = ""
        self.attempts = 0

    def leave(self, task: "asyncio.Task[object]") -> None:
        """The caller has hung up: end the task that makes its answer."""
        if not self.is_complete:
            self.has_left = True
            task.cancel()

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""
        self.is_started = True
        self.status = status
        told: Headers = [
            *headers,
            (b"x-request-id", self.request_id.encode()),
            (b"gateway-attempts", b"%d" % self.attempts),
        ]
        if self.provider:
            told += ((b"gateway-provider", self.provider.encode()), (b"gateway-model", _visible(self.model)))
        await self._send({"type": "http.response.start", "status": status, "headers": told})

    async def pass_on(self, chunk: bytes) -> None:
        """Send a piece of the body. Waits while the caller reads slowly."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._tail = chunk[-TAIL:]

    async def end(self, chunk: bytes = b"") -> None:
        """Send the last piece."""
        self.is_complete = True
        await self._send({"type": "http.response.body", "body": b"" if self.is_head else chunk, "more_body": False})

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole answer."""
        await self.start(status, [*headers, (b"content-length", b"%d" % len(body))])
        await self.end(body)

    async def fail(self, error: errors.GatewayError) -> None:
        """End with an error: an answer of its own if nothing was sent, else the last event of the stream.

        What is neither is left open; the server then cuts the connection, which no client takes for complete.
        """
        if not self.is_started:
            headers: Headers = [(b"content-type", b"application/json")]
            if error.retry_after is not None:
                headers.append((b"retry-after", b"%d" % error.retry_after))
            if isinstance(error, errors.NotAuthorized):
                headers.append((b"www-authenticate", b"Bearer"))
            if isinstance(error, errors.MethodNotAllowed):
                headers.append((b"allow", error.allow.encode()))
            await self.answer(error.status, headers, errors.body(error, self.format))
        elif self.is_stream:
            await self.end(apart_from(self._tail) + errors.event(error, self.format))


@lru_cache(maxsize=1024)
def _visible(text: str) -> bytes:
    """A caller's text as a header may hold it."""
    return text.encode("ascii", "replace").translate(None, bytes(range(0x20)) + b"\x7f")
