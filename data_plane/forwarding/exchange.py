"""One request and its answer on the ASGI connection. It knows what was sent, and so what may still be sent."""

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
    """A new ID, which names the request in its answer and in the log."""
    return f"req_{os.urandom(12).hex()}"


class Exchange:
    """The answer to one request. After `is_started` the head was sent, and no other answer is possible."""

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
        # The last bytes that were passed on.
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
        # The provider and model of the last attempt.
        self.provider = ""
        self.model = ""
        self.attempts = 0

    def leave(self, task: "asyncio.Task[object]") -> None:
        """The caller has hung up: cancel the task that makes the answer."""
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
        """End with an error: as the answer if nothing was sent, or as the last event of a stream.

        An answer that has started and is not a stream stays open. The server then cuts the connection, so that clients
        see that the answer is incomplete.
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
    """A caller's text in the bytes that a header allows."""
    return text.encode("ascii", "replace").translate(None, bytes(range(0x20)) + b"\x7f")
