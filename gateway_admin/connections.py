"""HTTP/1.1 with bounds: how many connections there are, how large and how slow a head is, how slow a reader is.

uvicorn hands a request on when its head is whole. It has no time limit for a head that never ends, and none for a
client that does not read. Here both cost one connection, for some seconds.

Source: docs/decisions/0113-no-thread-waits.md.
"""

import asyncio
import contextlib
import resource
import socket
import struct
import sys
from collections import Counter
from typing import Any, ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from gateway_core.addresses import neighbourhood
from rest.errors import Busy, GatewayError, HeadTooLarge, RequestMalformed, RequestTimedOut, http_response
from rest.middleware import is_trusted

# A request whose head has more bytes is refused.
HEAD_BYTES: Final = 64 * 1024
# A head is whole so many seconds after its first byte, or after the connection was made.
HEAD_SECONDS: Final = 10.0
# A connection may be silent so long between two requests.
IDLE_SECONDS: Final = 60.0
# A client reads what was handed to the system, at most one piece of an answer, within these seconds.
READING_SECONDS: Final = 20.0
# How many bytes of an answer the system may hold for its client.
SENDING_BYTES: Final = 128 * 1024
# How many file descriptors a connection may need (itself, its body, its answer), and how many are left for other uses.
_DESCRIPTORS_EACH: Final = 3
_DESCRIPTORS_KEPT: Final = 128
# `struct linger`: on, no seconds.
_FORGETS: Final = struct.pack("ii", 1, 0)


class BoundedProtocol(H11Protocol):
    """One connection."""

    # How many connections this process takes, and how many from one address (one /64 network of IPv6) that is not a
    # trusted proxy's.
    most: ClassVar[int] = 2000
    most_of_one: ClassVar[int] = 256
    _counts: ClassVar[Counter[str]] = Counter()
    # Connections without a request at the moment. The one that has been idle for the longest time is first.
    _idle: ClassVar[dict["BoundedProtocol", None]] = {}

    neighbourhood = ""
    _is_refused = False
    _has_begun = False
    _head_deadline: asyncio.TimerHandle | None = None
    _reading_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Take the connection, in place of an idle one where there is no more room, or refuse it."""
        super().connection_made(transport)
        # The last few bytes of an answer count as not read too, so that a client cannot keep the connection by them.
        transport.set_write_buffer_limits(high=0)
        # The system would grow its own buffer to some MiB for a client that does not read.
        if (own := transport.get_extra_info("socket")) is not None:
            own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENDING_BYTES)
        address = self.client[0] if self.client else ""
        self.neighbourhood = "" if is_trusted(address) else neighbourhood(address)
        if not self._has_room():
            self._is_refused = True
            self._refuse(Busy())
            return
        if self.neighbourhood:
            self._counts[self.neighbourhood] += 1
        self._wait_for_head(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self.end_wait()
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()
        if self.neighbourhood and not self._is_refused:
            self._counts[self.neighbourhood] -= 1
            if not self._counts[self.neighbourhood]:
                del self._counts[self.neighbourhood]
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._is_refused:
            return
        is_waiting = self._head_deadline is not None
        super().data_received(data)
        if self.transport.is_closing() or self._is_answering():
            self.end_wait()
        elif is_waiting and not self._has_begun:
            self._has_begun = True
            self._wait_for_head(HEAD_SECONDS)

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._wait_for_head(IDLE_SECONDS)
        super().on_response_complete()
        if self.transport.is_closing() or self._is_answering():
            self.end_wait()

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        super().pause_writing()
        self._reading_deadline = self.loop.call_later(READING_SECONDS, self._reset)

    def resume_writing(self) -> None:
        """It has read all that was written."""
        super().resume_writing()
        if self._reading_deadline is not None:
            self._reading_deadline.cancel()
            self._reading_deadline = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 -- uvicorn's words; this is called in its except block
        """Refuse what is not HTTP, in the form of every other refusal."""
        fault = sys.exc_info()[1]
        status = fault.error_status_hint if isinstance(fault, h11.RemoteProtocolError) else 0
        self._refuse(HeadTooLarge() if status == 431 else RequestMalformed())  # noqa: PLR2004

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _reset(self) -> None:
        """Close the connection. The system forgets what it has not sent yet."""
        with contextlib.suppress(OSError):
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGETS)
        self.transport.abort()

    def _has_room(self) -> bool:
        if self.neighbourhood and self._counts[self.neighbourhood] >= self.most_of_one:
            return self._make_room(self.neighbourhood)
        # This connection is one of them already.
        return len(self.connections) <= self.most or self._make_room("")

    def _make_room(self, neighbourhood: str) -> bool:
        """Close the connection that has been idle for the longest time, of these neighbours if any are named."""
        for one in self._idle:
            if not neighbourhood or one.neighbourhood == neighbourhood:
                one.end_wait()
                one.transport.abort()
                return True
        return False

    def _wait_for_head(self, seconds: float) -> None:
        self.end_wait()
        self._has_begun = False
        self._idle[self] = None
        self._head_deadline = self.loop.call_later(seconds, self._give_up)

    def end_wait(self) -> None:
        """Take away the time limit for the next head."""
        self._idle.pop(self, None)
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _give_up(self) -> None:
        self.end_wait()
        if self.conn.trailing_data[0] and self.conn.our_state is h11.IDLE:
            self._refuse(RequestTimedOut())
        else:
            self.transport.abort()

    def _refuse(self, error: GatewayError) -> None:
        """Write an answer that closes the connection, where none has begun; then close it in any case."""
        if not self._is_answering() or not self.cycle.response_started:
            answer = http_response(error)
            head = b"".join(b"%b: %b\r\n" % (k.encode(), v.encode()) for k, v in answer.items())
            status = b"HTTP/1.1 %d %b\r\n" % (answer.status_code, STATUS_PHRASES[answer.status_code])
            self.transport.write(b"%b%bconnection: close\r\n\r\n%b" % (status, head, answer.content))
        self.transport.close()


def allow_connections(most: int, most_of_one: int) -> int:
    """Bound the connections of this process, by what the system lets it open too; returns the bound."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most * _DESCRIPTORS_EACH + _DESCRIPTORS_KEPT
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        most = min(most, max(1, (soft - _DESCRIPTORS_KEPT) // _DESCRIPTORS_EACH))
    BoundedProtocol.most, BoundedProtocol.most_of_one = most, min(most_of_one, most)
    return most
