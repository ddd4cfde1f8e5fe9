"""One request and its answer on the ASGI connection. It knows what was sent, and so what may still be sent."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from data_plane import error_forms, errors
from data_plane.forwarding import parameters
from data_plane.forwarding.bodies import Receive
from data_plane.forwarding.headers import Headers
from data_plane.forwarding.sse import TAIL, apart_from
from gateway_core.catalog import Format, Surface
from gateway_core.distinct_bits import distinct_bits

# The form of a caller's own `x-request-id` that is kept. Any other is replaced by a new ID.
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_SEQUENCE_NUMBER: Final = re.compile(rb'"sequence_number" ?: ?([0-9]{1,9})')
# The first ID in an answer of the surface `responses`: the response's own.
RESPONSE_ID: Final = re.compile(rb'"id" ?: ?"([A-Za-z0-9_-]{1,200})"')

# What upstreams say of their limits.
_OF_LIMITS: Final = (b"x-ratelimit-", b"ratelimit")
# An answer whose end reports what the operator pays is read for so long after its caller has left.
_READ_ON_SECONDS: Final = 60.0

Send = Callable[[Any], Awaitable[None]]


def new_request_id() -> str:
    """A new ID, which names the request in its answer and in the log."""
    return f"req_{distinct_bits(96):024x}"


def _request_id(headers: Headers) -> str:
    """The caller's own, if it is well-formed; else a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
            return value.decode("ascii")
    return new_request_id()


class Exchange:
    """The answer to one request. After `is_started` the head was sent, and no other answer is possible."""

    __slots__ = (
        "_first",
        "_last",
        "_send",
        "added",
        "attempts",
        "format",
        "has_left",
        "is_complete",
        "is_head",
        "is_started",
        "is_stream",
        "limits",
        "model",
        "provider",
        "reads_on",
        "receive",
        "rejected",
        "removed",
        "request_id",
        "status",
        "surface",
        "upstream_request_id",
    )

    def __init__(
        self, scope: Any, receive: Receive, send: Send, written_as: Format, surface: Surface | None = None
    ) -> None:
        self.receive = receive
        self._send = send
        # The first and the last piece that was passed on.
        self._first = b""
        self._last = b""
        self.format = written_as
        # Headers that every answer gets beside its own.
        self.added: Headers = []
        # What is left of the access key's limits. It stands in the place of what the upstream says of its own.
        self.limits: Headers = []
        # None for a path that is not forwarded.
        self.surface = surface
        self.request_id = _request_id(scope["headers"])
        # The name that the upstream of the last attempt gave the request; empty if it gave none.
        self.upstream_request_id = b""
        self.is_head = scope["method"] == "HEAD"
        self.is_started = False
        # An event stream: it can still end in an error event.
        self.is_stream = False
        self.is_complete = False
        self.has_left = False
        # Whether the answer is read to its end though its caller has left.
        self.reads_on = False
        self.status = 0
        # The provider and model of the last attempt.
        self.provider = ""
        self.model = ""
        self.attempts = 0
        # The candidates that the plan leaves out, as `gateway-rejected-models` has them.
        self.rejected = ""
        # The parameters that the last attempt left out, as `gateway-removed-params` lists them.
        self.removed: Sequence[str] = ()

    def leave(self, task: "asyncio.Task[object]") -> None:
        """The caller has hung up: cancel the task that makes the answer, at once or after it was read on for long."""
        if self.is_complete:
            return
        self.has_left = True
        if self.reads_on:
            asyncio.get_running_loop().call_later(_READ_ON_SECONDS, self._give_up, task)
        else:
            task.cancel()

    def _give_up(self, task: "asyncio.Task[object]") -> None:
        if not self.is_complete and not task.done():
            task.cancel()

    async def start(self, status: int, headers: Headers) -> None:
        """Send the head of the answer."""
        self.is_started = True
        self.status = status
        if self.limits:
            headers = [one for one in headers if not one[0].startswith(_OF_LIMITS)] + self.limits
        told: Headers = [
            *headers,
            (b"x-request-id", self.request_id.encode()),
            (b"gateway-attempts", b"%d" % self.attempts),
            *self.added,
        ]
        if self.format is Format.ANTHROPIC:
            told.append((b"request-id", self.request_id.encode()))
        if self.upstream_request_id:
            told.append((b"gateway-upstream-request-id", self.upstream_request_id))
        if self.rejected:
            told.append((b"gateway-rejected-models", self.rejected.encode("ascii")))
        if self.removed:
            told.append((b"gateway-removed-params", parameters.header(self.removed).encode("ascii")))
        if self.provider:
            told += ((b"gateway-provider", self.provider.encode()), (b"gateway-model", _visible(self.model)))
        await self._send({"type": "http.response.start", "status": status, "headers": told})

    async def pass_on(self, chunk: bytes) -> None:
        """Send a piece of the body. Waits while the caller reads slowly."""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._last = chunk
        if not self._first:
            self._first = chunk

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
            body = error_forms.body(error, self.format, self.request_id)
            await self.answer(error.status, error_forms.headers(error), body)
        elif self.is_stream:
            await self.end(apart_from(self._last[-TAIL:]) + self._last_events(error))

    def _last_events(self, error: errors.GatewayError) -> bytes:
        if self.surface is not Surface.RESPONSES:
            return error_forms.event(error, self.format, self.request_id)
        numbers = _SEQUENCE_NUMBER.findall(self._last)
        found = RESPONSE_ID.search(self._first)
        begun = error_forms.BegunResponse(
            id=found[1].decode() if found else f"resp_{self.request_id}",
            model=self.model,
            sequence_number=int(numbers[-1]) if numbers else 0,
        )
        return error_forms.response_events(error, begun)


@lru_cache(maxsize=1024)
def _visible(text: str) -> bytes:
    """A caller's text in the bytes that a header allows."""
    return text.encode("ascii", "replace").translate(None, bytes(range(0x20)) + b"\x7f")
