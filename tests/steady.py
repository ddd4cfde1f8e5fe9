"""Requests at a steady rate, whether the answers come or not, while a test does its harm."""

import asyncio
import re
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Self
from urllib.parse import urlsplit

from tests.patience import eventually

BODY: Final = b'{"model":"openai:gpt-4o","messages":[{"role":"user","content":"Hi"}]}'
_LENGTH: Final = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_TICK: Final = 0.01
# Few, so that a machine without a core to spare is asked late rather than drowned.
_CONNECTIONS: Final = 24


def request_of(token: str, *, body: bytes = BODY, headers: str = "") -> bytes:
    """A chat completion as it goes over the wire."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: worker\r\nauthorization: Bearer {token}\r\n{headers}"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, traffic: "SteadyTraffic") -> None:
        self._traffic = traffic
        self._received = b""
        self.is_asking = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: bytes) -> None:
        self.is_asking = True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n") if blank else None
        if not blank or (len(body) < int(length[1]) if length else not body.endswith(b"0\r\n\r\n")):
            return
        self._received = b""
        self.is_asking = False
        self._traffic.take(int(head[9:12]), self)

    def connection_lost(self, _: Exception | None) -> None:
        self._traffic.forget(self)
        if self.is_asking:
            self.is_asking = False
            self._traffic.take(0, None)


class SteadyTraffic:
    """Traffic to a worker: `async with SteadyTraffic(url, tokens, rate=300) as traffic`, then `traffic.statuses`.

    A status of 0 is a connection that was lost. What is due while all is slow is asked late, but it is asked.
    """

    def __init__(self, url: str, tokens: Sequence[str], *, rate: float) -> None:
        self.statuses: Counter[int] = Counter()
        self._requests = [request_of(token) for token in tokens]
        self._rate = rate
        self._url = urlsplit(url)
        self._idle: deque[_Connection] = deque()
        self._open: set[_Connection] = set()
        self._asked = 0
        self._is_over = False
        self._task: asyncio.Task[None] | None = None
        self.seconds = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._ask())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()

    async def end(self) -> dict[int, int]:
        """Ask no more, wait for what was asked; how often each status came."""
        self._is_over = True
        if self._task is not None:
            await self._task
            self._task = None
            with suppress(AssertionError):
                await eventually(lambda: self.statuses.total() == self._asked)
            for connection in list(self._open):
                connection.is_asking = False
                connection.transport.abort()
            if unanswered := self._asked - self.statuses.total():
                self.statuses[-1] = unanswered
        return dict(self.statuses)

    def forget(self, connection: _Connection) -> None:
        """A connection has ended."""
        self._open.discard(connection)

    def take(self, status: int, connection: _Connection | None) -> None:
        """An answer has come."""
        self.statuses[status] += 1
        if connection is not None:
            self._idle.append(connection)

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        while not self._is_over:
            self.seconds = loop.time() - begin
            while self._asked < self.seconds * self._rate and not self._is_over:
                connection = await self._connection()
                if connection is None:
                    break
                connection.ask(self._requests[self._asked % len(self._requests)])
                self._asked += 1
            await asyncio.sleep(_TICK)

    async def _connection(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                return connection
        if len(self._open) >= _CONNECTIONS:
            return None
        _, made = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(self), str(self._url.hostname), self._url.port or 80
        )
        self._open.add(made)
        return made
