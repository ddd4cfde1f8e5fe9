"""HTTP/1.1 as the worker speaks it: uvicorn's, but for four things.

An offer to change the protocol is passed over. Many a client offers HTTP/2 with its first request (curl's `--http2`,
Java's HttpClient). The parser stops at such a head and takes what follows for another protocol: the request's body is
lost. So the head is read again without the offer, by a new parser, and whatever came after it as the HTTP/1.1 that it
is. Requests without an offer pay nothing.

The head of an answer goes out with the first piece of its body, in one write: each write is a call of the system and a
packet of its own.

Who serves a request is told when its caller hangs up, without a task that waits for it (`Caller`).

What a connection costs before its key is looked at is bounded: bytes and time of a head, bytes of what frames a body,
headers, requests that wait behind another, and how long an answer waits for a caller who does not read it.

Source: RFC 9110, section 7.8; docs/decisions/0055-lean-http.md, docs/decisions/0056-bounds-on-connections.md.
"""

import asyncio
import math
import urllib.parse
from collections.abc import Callable
from typing import Any, Final, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from data_plane import error_forms, errors
from data_plane.forwarding.exchange import new_request_id
from data_plane.http.connections import Gate, network_of
from gateway_core.catalog import Format

_BODILESS = (204, 304)
# What ends a head, and a chunked body.
_END: Final = b"\r\n\r\n"
# Of data with several requests in it, the parser gets about so many bytes at a time, to stop after the first of them.
_PIECE_BYTES: Final = 256
# A body that waits to be read keeps its connection from being read.
_WAITING_BODY: Final = 65_536
# After a refusal what still comes is thrown away, so that its sender reads the answer; so long and so much of it.
_LINGER_SECONDS: Final = 2.0
_LINGER_BYTES: Final = 1024 * 1024


class Caller(Protocol):
    """Who waits for an answer; an ASGI scope has it as `caller`. The application takes it out."""

    # Whether the connection is gone.
    disconnected: bool
    # Called once, when the caller hangs up before the answer is whole.
    on_leave: Callable[[], object] | None


class _Cycle(RequestResponseCycle):
    """One request and its answer."""

    on_leave: Callable[[], object] | None = None
    # The answer's, until its first piece goes out.
    _head = b""
    # HTTP/1.0 knows no chunks: an answer without a length ends with its connection.
    _ends_with_connection = False

    async def send(self, message: Any) -> None:
        """ASGI's. Headers come in lower case and well-formed (data_plane.forwarding.headers); they are not checked."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            self.response_started = True
            self.waiting_for_100_continue = False
            self._head = self._begun(message["status"], message["headers"])
        elif self.response_complete:
            raise RuntimeError("The answer is whole already.")
        else:
            self._write(message["body"], is_last=not message["more_body"])

    def _begun(self, status: int, headers: list[tuple[bytes, bytes]]) -> bytes:
        parts = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            if name == b"content-length":
                self.chunked_encoding = False
                self.expected_content_length = int(value)
            parts += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            parts.append(b"connection: close\r\n")
        if self.scope["method"] == "HEAD":
            self.chunked_encoding = False
            self.expected_content_length = 0
        elif self.chunked_encoding is None and self.scope["http_version"] == "1.0":
            self.chunked_encoding = False
            self._ends_with_connection = True
        elif self.chunked_encoding is None and status not in _BODILESS:
            self.chunked_encoding = True
            parts.append(b"transfer-encoding: chunked\r\n")
        parts.append(b"\r\n")
        return b"".join(parts)

    def _write(self, body: bytes, *, is_last: bool) -> None:
        head, self._head = self._head, b""
        if self.chunked_encoding:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            self.transport.write(b"%b%b0\r\n\r\n" % (head, piece) if is_last else head + piece)
        elif self._ends_with_connection:
            self.transport.write(head + body)
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (is_last and self.expected_content_length):
                raise RuntimeError("The answer has another length than its head says.")
            self.transport.write(head + body if head else body)
        if is_last:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()


class CallerProtocol(HttpToolsProtocol):
    """One connection from a caller."""

    # The request that is being answered; others may wait behind it.
    _answering: _Cycle | None = None
    # What came behind a request that is in work, and has not been parsed.
    _behind = b""
    # Bytes since the last head ended, or the last piece of a body.
    _framing = 0
    # What lay unsent when it was last looked at.
    _unsent = 0
    # What came after a refusal.
    _after_refusal = 0
    _is_refused = False
    _network = ""
    # When the patience with this connection ends; infinite while a request is in work and its answer is read.
    deadline = math.inf

    def __init__(self, *args: Any, gate: Gate, **options: Any) -> None:
        """
        Args:
            args, options: uvicorn's.
            gate: of the process.
        """
        super().__init__(*args, **options)
        self._gate = gate
        self._limits = gate.limits

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Count it in, or refuse it."""
        super().connection_made(transport)
        if self.client is not None:
            self._network = network_of(self.client[0])
        self.deadline = self.loop.time() + self._limits.head_timeout
        try:
            self._gate.enter(self, self._network)
        except errors.Unavailable as refusal:
            self._refuse(refusal)
        except ConnectionRefusedError:
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the request that is in work."""
        super().connection_lost(exc)
        self._gate.leave(self, self._network)
        self._behind = b""
        self.pipeline.clear()
        answering, self._answering = self._answering, None
        if answering is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()
            if answering.on_leave is not None:
                answering.on_leave()

    # ── what comes ──

    def data_received(self, data: bytes) -> None:
        """Parse what came, or keep it while a request is in work."""
        if self._is_refused:
            self._after_refusal += len(data)
            if self._after_refusal > _LINGER_BYTES:
                self.transport.abort()
        elif self._is_busy():
            self._behind += data
            self.flow.pause_reading()
        else:
            self._take(data)

    def _is_busy(self) -> bool:
        """Whether a whole request is in work, or one waits behind it: what follows is not looked at yet."""
        answering = self._answering
        return (
            answering is not None
            and not answering.response_complete
            and (not answering.more_body or bool(self.pipeline))
        )

    def _take(self, data: bytes) -> None:
        try:
            while data:
                data = self._read_on(data)
                if data and self._is_busy():
                    self._behind = data
                    self.flow.pause_reading()
                    return
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self._refuse(errors.BadRequest())

    def _read_on(self, data: bytes) -> bytes:
        """Have the parser read the first of it; returns what is to be read next."""
        rest = b""
        if len(data) > _PIECE_BYTES and data.count(_END) > 1:
            end = data.find(_END, _PIECE_BYTES)
            if end >= 0:
                end += len(_END)
                data, rest = data[:end], data[end:]
        limits = self._limits
        before = self._framing
        if before + len(data) > limits.head_bytes:
            data, rest = data[: limits.head_bytes - before], data[limits.head_bytes - before :] + rest
        # The parser's callbacks set it to 0 where a head, a piece of a body or a message ends.
        self._framing = before + len(data)
        again = self._feed(data)
        if self._framing and not self._is_refused:
            self._check(is_first=not before, is_more=bool(rest))
        if self._is_refused:
            return b""
        return again + rest if again else rest

    def _check(self, *, is_first: bool, is_more: bool) -> None:
        """Hold a head, or what frames a body, to its bounds. It has not ended."""
        limits = self._limits
        if self.headers is not None and len(self.headers) > limits.headers:
            self._refuse_headers()
        elif self._framing >= limits.head_bytes:
            self._gate.count("head_bytes")
            self._refuse(
                errors.HeadTooLarge(f"The request's head is over {limits.head_bytes} bytes (REQUEST_HEAD_BYTES).")
            )
        elif is_first and not is_more and self.cycle is not None and self.cycle.response_complete and self._is_begun():
            self.deadline = self.loop.time() + limits.head_timeout

    def _refuse_headers(self) -> None:
        self._gate.count("headers")
        self._refuse(errors.TooManyHeaders(f"The request has over {self._limits.headers} headers (REQUEST_HEADERS)."))

    def _is_begun(self) -> bool:
        """Whether the head of a request has begun, and not ended."""
        # The parser's callback makes a scope where a message begins; the cycle comes with the head's end.
        return self.scope is not None and (self.cycle is None or self.scope is not self.cycle.scope)

    def _feed(self, data: bytes) -> bytes:
        """Have the parser read on; returns what is to be read instead of what it stopped at."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self.parser.get_method() == b"CONNECT":
                # Not an offer but a tunnel, and this is not a proxy.
                raise httptools.HttpParserError from None
            data = self._head_without_offer() + data[offer.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._framing = 0
            return data
        return b""

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + _END

    # ── the parser's callbacks ──

    def on_headers_complete(self) -> None:
        """Begin a request, or have it wait for the one before it."""
        if self._is_refused or self.parser.should_upgrade():
            return
        self._framing = 0
        if len(self.headers) > self._limits.headers:
            self._refuse_headers()
            return
        scope: Any = self.scope
        version = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope["http_version"] = version
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["raw_path"] = url.path
        scope["path"] = urllib.parse.unquote(path) if "%" in path else path
        scope["query_string"] = url.query or b""
        before = self.cycle
        cycle = scope["caller"] = self.cycle = _Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    def on_body(self, body: bytes) -> None:
        """Keep a piece of a body until it is read."""
        self._framing = 0
        cycle = self.cycle
        if self._is_refused or cycle.response_complete or self.parser.should_upgrade():
            return
        cycle.body += body
        if len(cycle.body) > _WAITING_BODY:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Read on behind a whole request: its caller's hanging up is seen no other way."""
        self._framing = 0
        cycle = self.cycle
        if self._is_refused or cycle is None or cycle.response_complete or self.parser.should_upgrade():
            return
        cycle.more_body = False
        cycle.message_event.set()
        if cycle is self._answering:
            self.flow.resume_reading()

    # ── what goes out ──

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle if isinstance(cycle, _Cycle) else None
        if not self.flow.write_paused:
            self.deadline = math.inf
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Begin the request that waits, look at what came behind, or wait for the next one."""
        self.server_state.total_requests += 1
        limits = self._limits
        if self.transport.is_closing() or self.flow.write_paused:
            self._unsent = self.transport.get_write_buffer_size()
            self.deadline = self.loop.time() + limits.unread_timeout
        else:
            patience = limits.head_timeout if self._is_begun() else limits.keepalive_timeout
            self.deadline = self.loop.time() + patience
        if self.transport.is_closing():
            return
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        if self._behind and not self._is_busy():
            data, self._behind = self._behind, b""
            # What is still not looked at then goes before what comes.
            self._take(data)
        if not self._behind and not self.pipeline:
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """The caller reads more slowly than its answer comes."""
        super().pause_writing()
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.loop.time() + self._limits.unread_timeout

    def resume_writing(self) -> None:
        """The caller has read what waited for it."""
        super().resume_writing()
        answering = self._answering
        if answering is not None and not answering.response_complete:
            self.deadline = math.inf
        elif not self.transport.is_closing():
            self.deadline = self.loop.time() + self._limits.keepalive_timeout

    # ── the end ──

    def look(self, now: float) -> None:
        """End the connection if its deadline has passed. The gate calls this."""
        if self.deadline > now:
            if self.deadline == math.inf and self.transport.is_closing():
                # The answer was cut; what is left of it may never be read.
                self.deadline = now + self._limits.unread_timeout
            return
        unsent = self.transport.get_write_buffer_size()
        if self._is_refused:
            self.transport.abort()
        elif unsent:
            if unsent != self._unsent:
                # Read in part: slow, but not idle.
                self._unsent = unsent
                self.deadline = now + self._limits.unread_timeout
                return
            self._gate.count("unread_timeout")
            self.transport.abort()
        elif self._is_begun() and not self.transport.is_closing():
            self._gate.count("head_timeout")
            seconds = f"{self._limits.head_timeout:g}"
            self._refuse(errors.HeadTooSlow(f"The request's head took over {seconds} s (REQUEST_HEAD_TIMEOUT)."))
        else:
            if self._answering is None:
                self._gate.count("head_timeout")
            self.transport.abort()

    def _refuse(self, error: errors.GatewayError) -> None:
        """Answer instead of a request that is not taken, and close; within another answer, only close."""
        if self._is_refused:
            return
        self._is_refused = True
        self._behind = b""
        self.pipeline.clear()
        answering = self._answering
        is_answering = answering is not None and not answering.response_complete
        if answering is None or not is_answering or not answering.response_started:
            body = error_forms.body(error, Format.OPENAI)
            headers = b"".join(b"%b: %b\r\n" % header for header in error_forms.headers(error))
            self.transport.write(
                b"%b%bcontent-length: %d\r\nx-request-id: %b\r\n"
                b"gateway-attempts: 0\r\nconnection: close\r\n\r\n%b"
                % (STATUS_LINE[error.status], headers, len(body), new_request_id().encode(), body)
            )
        self.deadline = self.loop.time() + _LINGER_SECONDS
        if is_answering or not self.transport.can_write_eof():
            self.transport.close()
        else:
            # Closed at once, with bytes unread, the answer would be lost with the connection's reset.
            self.transport.write_eof()
            self.flow.resume_reading()

    def _should_upgrade(self) -> bool:
        # uvicorn takes no body of a request of which this is true; it is asked only where an offer was made.
        return True
