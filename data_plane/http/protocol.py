"""HTTP/1.1 as the worker speaks it: uvicorn's, but for three things.

An offer to change the protocol is passed over. Many a client offers HTTP/2 with its first request (curl's `--http2`,
Java's HttpClient). The parser stops at such a head and takes what follows for another protocol: the request's body is
lost. So the head is read again without the offer, by a new parser, and whatever came after it as the HTTP/1.1 that it
is. Requests without an offer pay nothing.

The head of an answer goes out with the first piece of its body, in one write: each write is a call of the system and a
packet of its own.

Who serves a request is told when its caller hangs up, without a task that waits for it (`Caller`).

Source: RFC 9110, section 7.8; docs/decisions/0055-lean-http.md.
"""

import asyncio
import urllib.parse
from collections.abc import Callable
from typing import Any, Protocol

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from data_plane import errors
from data_plane.forwarding.exchange import new_request_id
from gateway_core.catalog import Format

_BODILESS = (204, 304)


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

    def _should_upgrade(self) -> bool:
        # uvicorn takes no body of a request of which this is true; it is asked only where an offer was made.
        return True

    def on_headers_complete(self) -> None:
        """Begin a request, or have it wait for the one before it."""
        if self.parser.should_upgrade():
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

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answering = cycle if isinstance(cycle, _Cycle) else None
        super()._start_asgi_task(cycle, app)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever serves the request."""
        super().connection_lost(exc)
        answering, self._answering = self._answering, None
        if answering is not None and not answering.response_complete:
            answering.disconnected = True
            answering.message_event.set()
            if answering.on_leave is not None:
                answering.on_leave()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        self._unset_keepalive_if_required()
        try:
            while data:
                data = self._feed(data)
        except httptools.HttpParserError:
            message = "Invalid HTTP request received."
            self.logger.warning(message)
            self.send_400_response(message)

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's words, which are for the log
        """Answer malformed HTTP with 400 in our error format. If a response has already started, only close it."""
        answering = self._answering
        if answering is None or answering.response_complete or not answering.response_started:
            body = errors.body(errors.BadRequest(), Format.OPENAI)
            self.transport.write(
                b"%bcontent-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
                b"gateway-attempts: 0\r\nconnection: close\r\n\r\n%b"
                % (STATUS_LINE[errors.BadRequest.status], len(body), new_request_id().encode(), body)
            )
        self.transport.close()

    def _feed(self, data: bytes) -> bytes:
        """Let the parser read on. Return the bytes that it must read instead, if it stopped at an offer to upgrade."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as offer:
            if self.parser.get_method() == b"CONNECT":
                # This asks for a tunnel, and the worker is not a proxy.
                raise httptools.HttpParserError from None
            data = self._head_without_offer() + data[offer.args[0] :]
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            return data
        return b""

    def _head_without_offer(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        lines += [b"%b: %b" % (name, value) for name, value in self.headers if name != b"upgrade"]
        return b"\r\n".join(lines) + b"\r\n\r\n"
