"""An upstream's answer as it comes on its connection: the head at once, the body piece by piece.

The connection is aiohttp's; what reads from it is not. aiohttp's reader calls Python three times for each chunk of a
chunked body, and nearly every event of a stream is a chunk. Here the parser (llhttp, the same that aiohttp has) puts
each piece of a body into a list by itself.

Source: RFC 9112; docs/decisions/0055-lean-http.md.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, Final, Protocol, cast

import aiohttp
import httptools
from aiohttp.connector import Connection

from data_plane.forwarding.headers import Headers

# Of a head, and of what frames a body without being part of it.
_FRAMING_BYTES: Final = 64 * 1024
_MOST_HEADERS: Final = 128
# Of a long request as much is written before others get their turn.
_WRITTEN_BYTES: Final = 64 * 1024
# What may wait to be read before the upstream has to wait.
_WAITING_BYTES: Final = 128 * 1024
_EVENT_STREAM: Final = b"text/event-stream"
_SWITCHING: Final = 101
_FINAL: Final = 200
# What has no body, whatever its head says and whatever comes behind it.
_BODILESS: Final = frozenset({_SWITCHING, 204, 304})


class AnswerMalformed(aiohttp.ClientError):
    """What came from the upstream is no HTTP."""


class Content(Protocol):
    """The body of an answer while it is read."""

    async def readany(self) -> bytes:
        """The next piece, empty at the end."""

    def at_eof(self) -> bool:
        """Whether nothing more comes."""


class AnswerProtocol(asyncio.Protocol):
    """One connection to an upstream: the answer to one request after the other.

    aiohttp's connector makes it, keeps it while it is idle and closes it. For that it has `transport`, `is_connected`,
    `should_close`, `close`, `abort` and `closed`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most_interim: int) -> None:
        """
        Args:
            loop: where it runs.
            most_interim: how many interim answers may come before an answer.
        """
        self.transport: asyncio.Transport | None = None
        # The present answer's status, 0 until its head has come, and its headers in order with names in lower case.
        self.status = 0
        self.headers: Headers = []
        # Whether all of the present answer has come.
        self.is_whole = True
        # Whether the present request is not its first.
        self.is_kept = False
        self._loop = loop
        self._most_interim = most_interim
        self._parser: Any = None
        self._pieces: list[bytes] = []
        # Looked up by the parser: this is all that it does with a piece.
        self.on_body = self._pieces.append
        # How many of the pieces are the present answer's, once all of it has come; -1 until then.
        self._end = -1
        self._interim = 0
        self._framing = 0
        self._waiting = 0
        self._is_paused = False
        self._is_interim = False
        self._keeps_alive = True
        self._fault: BaseException | None = None
        # What is left of a long request, and whether the upstream takes no more for now.
        self._unsent: Iterator[memoryview] | None = None
        self._is_full = False
        self._reader: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None

    # ── what aiohttp's connector asks ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self.transport = cast("asyncio.Transport", transport)

    def is_connected(self) -> bool:
        """Whether the connection is there."""
        return self.transport is not None and not self.transport.is_closing()

    @property
    def should_close(self) -> bool:
        """Whether it cannot serve another request."""
        return not (self.is_whole and self._keeps_alive) or self._fault is not None

    @property
    def is_sending(self) -> bool:
        """Whether the upstream has not taken all of the request."""
        return self.transport is not None and (self._unsent is not None or self.transport.get_write_buffer_size() > 0)

    @property
    def closed(self) -> "asyncio.Future[None] | None":
        """Done once the connection is gone; None if it is."""
        if self.transport is None:
            return None
        if self._closed is None:
            self._closed = self._loop.create_future()
        return self._closed

    def close(self) -> None:
        """Close it in good order."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Close the connection at once, whatever is still to be sent."""
        self._unsent = None
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended. This is the regular end of an answer that has neither a length nor chunks."""
        self.transport = self._unsent = None
        self._keeps_alive = False
        if not self.is_whole and self._fault is None:
            if self.status and exc is None and not is_framed(self.headers):
                self.is_whole = True
                self._end = len(self._pieces)
            else:
                self._fault = _fault_of(exc, is_begun=bool(self.status))
        # It has this protocol's methods.
        self._parser = None
        self._wake()
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    # ── sending ──

    def send_long(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Send a long request a little at a time, as fast as it is taken, so that others get their turn."""
        self._unsent = (
            memoryview(piece)[begin : begin + _WRITTEN_BYTES]
            for piece in pieces
            for begin in range(0, len(piece), _WRITTEN_BYTES)
        )
        self._send_on()

    def _send_on(self) -> None:
        if self._unsent is None or self._is_full or self.transport is None or self.transport.is_closing():
            return
        piece = next(self._unsent, None)
        if piece is None:
            self._unsent = None
            return
        self.transport.write(piece)
        if not self._is_full:
            self._loop.call_soon(self._send_on)

    def pause_writing(self) -> None:
        """The upstream takes no more for now."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It takes more again."""
        self._is_full = False
        self._send_on()

    # ── reading ──

    def ask(self) -> None:
        """A request is about to be sent."""
        self.is_kept = self.was_used
        if not self.is_kept:
            self._parser = httptools.HttpResponseParser(self)
            # As aiohttp reads answers.
            self._parser.set_dangerous_leniencies(
                lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
            )
        self.status = 0
        self.headers = []
        self.is_whole = False
        self._end = -1
        self._interim = self._framing = self._waiting = 0

    @property
    def has_answered(self) -> bool:
        """Whether the head of the answer is here.

        Raises:
            AnswerMalformed: what came is no HTTP.
            aiohttp.ClientError: the connection was closed.
        """
        if self.status:
            return True
        if self._fault is not None:
            raise self._fault
        return False

    def take(self) -> bytes:
        """What of the body is here, empty where nothing is.

        Raises:
            AnswerMalformed, aiohttp.ClientError: the body does not come to its end.
        """
        pieces = self._pieces
        if not pieces:
            if self._fault is not None:
                raise self._fault
            return b""
        chunk = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        self._waiting = 0
        if self._is_paused and self.transport is not None:
            self._is_paused = False
            self.transport.resume_reading()
        return chunk

    @property
    def was_used(self) -> bool:
        """Whether it has served a request."""
        return self._parser is not None

    @property
    def has_expired(self) -> bool:
        """Whether the upstream had kept this connection, and closed it as the request was sent: not a byte came."""
        return self.is_kept and self.transport is None and not (self.status or self._framing or self._waiting)

    @property
    def is_read(self) -> bool:
        """Whether the body has come and was taken to its end."""
        return self.is_whole and not self._pieces

    def news(self) -> "asyncio.Future[None]":
        """A future that is done when more of the answer has come. Only one task waits at a time."""
        self._reader = self._loop.create_future()
        return self._reader

    def _wake(self) -> None:
        reader = self._reader
        if reader is not None and not reader.done():
            reader.set_result(None)

    # ── what comes ──

    def data_received(self, data: bytes) -> None:
        """Have the parser read it."""
        pieces = self._pieces
        if self.is_whole or self._parser is None or self._fault is not None:
            # Nobody asked for it, and it must not be taken for the answer to the next request.
            self._keeps_alive = False
            return
        had_head, before = self.status, len(pieces)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # What follows is not HTTP.
            self._keeps_alive = False
        except httptools.HttpParserError:
            self._fail()
        if self._end >= 0:
            # What is behind it is nobody's.
            del pieces[self._end :]
        elif len(pieces) > before or self.status != had_head:
            self._framing = 0
            self._waiting += len(data)
            if self._waiting > _WAITING_BYTES and not self._is_paused and self.transport is not None:
                self._is_paused = True
                self.transport.pause_reading()
        else:
            self._framing += len(data)
            if self._framing > _FRAMING_BYTES:
                self._fail()
        self._wake()

    def _fail(self) -> None:
        if not self.is_whole:
            self._fault = AnswerMalformed()
        self._keeps_alive = False
        self.abort()

    # ── the parser's callbacks ──

    def on_message_begin(self) -> None:
        """An answer begins."""
        if self.is_whole:
            # Nobody asked for it.
            self._keeps_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which nobody reads."""
        if not self.status and not self.is_whole:
            if len(self.headers) == _MOST_HEADERS:
                raise AnswerMalformed
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        """The head is here."""
        if self.is_whole:
            return
        status: int = self._parser.get_status_code()
        if status < _FINAL and status != _SWITCHING:
            self._interim += 1
            if self._interim > self._most_interim or is_framed(self.headers):
                # What is the body of an answer on the way there would be taken for the answer.
                raise AnswerMalformed
            self._is_interim = True
            self.headers = []
            return
        self._keeps_alive = self._parser.should_keep_alive()
        self.status = status

    def on_message_complete(self) -> None:
        """An answer, or an interim one, is whole."""
        if self._is_interim:
            self._is_interim = False
        elif not self.is_whole:
            self.is_whole = True
            self._end = len(self._pieces)


class Answer:
    """An upstream's answer: its head, and its body as it comes. Whoever has it ends it with `release` or `close`."""

    __slots__ = ("_body", "content", "content_length", "headers", "is_chunked", "status")

    def __init__(self, connection: Connection, protocol: AnswerProtocol) -> None:
        """
        Args:
            connection: where the answer comes from. It is given back when the body has been read.
            protocol: the protocol of this connection; it has read the head.
        """
        self.status = protocol.status
        # Names in lower case.
        self.headers = protocol.headers
        self.is_chunked = False
        self.content_length: int | None = None
        for name, value in self.headers:
            if name == b"content-length":
                self.content_length = int(value)
            elif name == b"transfer-encoding":
                self.is_chunked = is_framed(((name, value),))
        self._body = _Body(connection, protocol)
        self.content: Content = self._body

    def header(self, wanted: bytes) -> bytes:
        """The first header of this name; empty where there is none."""
        for name, value in self.headers:
            if name == wanted:
                return value
        return b""

    @property
    def is_event_stream(self) -> bool:
        """Whether its body is server-sent events."""
        return self.header(b"content-type").partition(b";")[0].strip().lower() == _EVENT_STREAM

    def release(self) -> None:
        """Give the connection back, once the body has come to its end."""
        self._body.release()

    def close(self) -> None:
        """Cut the connection, if it is not given back, so that the upstream stops."""
        self._body.close()


class _Body:
    """The body of one answer. At its end its connection is given back: nothing of what comes later is read here."""

    __slots__ = ("_connection", "_protocol")

    def __init__(self, connection: Connection, protocol: AnswerProtocol) -> None:
        self._connection: Connection | None = connection
        self._protocol = protocol
        if protocol.is_read:
            self.release()

    async def readany(self) -> bytes:
        protocol = self._protocol
        while self._connection is not None:
            chunk = protocol.take()
            if protocol.is_read:
                self.release()
                return chunk
            if chunk:
                return chunk
            await protocol.news()
        return b""

    def at_eof(self) -> bool:
        return self._connection is None

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._protocol.status in _BODILESS or self._protocol.is_sending:
            # A body may still come behind its head, or it answered before it had the whole request: what it does with
            # the rest is not to meet the next one.
            cut(connection)
        else:
            connection.release()

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            cut(connection)


def cut(connection: Connection) -> None:
    """Close a connection at once."""
    protocol = protocol_of(connection)
    if protocol is not None and protocol.is_sending:
        # Closing in good order would wait until an upstream has read what it may never read.
        protocol.abort()
    connection.close()


def protocol_of(connection: Connection) -> AnswerProtocol | None:
    """A connection's protocol; None if it was given back."""
    return cast("AnswerProtocol | None", connection.protocol)


def is_framed(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a head says where its body ends: by a length or by chunked coding."""
    return any(
        name == b"content-length" or (name == b"transfer-encoding" and value.lower().endswith(b"chunked"))
        for name, value in headers
    )


def _fault_of(cause: Exception | None, *, is_begun: bool) -> BaseException:
    if is_begun:
        fault: Exception = aiohttp.ClientPayloadError()
    elif isinstance(cause, OSError):
        fault = aiohttp.ClientOSError(*cause.args)
    else:
        fault = aiohttp.ServerDisconnectedError()
    fault.__cause__ = cause
    return fault
