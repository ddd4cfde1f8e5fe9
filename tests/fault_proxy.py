"""A TCP proxy that does what networks do on their bad days. Faults may be set and healed while connections are open.

async with FaultProxy(port) as proxy:
    proxy.set(latency=0.2)
    ...
    proxy.heal()
"""

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any, Final, Self

import msgspec

_PIECE: Final = 64 * 1024
# "Linger for no time": the connection ends in a reset.
_RESET: Final = struct.pack("ii", 1, 0)


class Faults(msgspec.Struct, frozen=True, kw_only=True):
    """What befalls each connection; without any, bytes go through as they come."""

    # Seconds that each piece waits, in both directions.
    latency: float = 0.0
    # Bytes a second, for each direction.
    bandwidth: float | None = None
    # Pieces of so many bytes, a moment apart.
    slices: int | None = None
    # So many bytes of answers, then the end.
    limit: int | None = None
    # Seconds between the end of one side and the end that the other sees.
    close_after: float = 0.0
    # Nothing goes through, nothing ends.
    is_silent: bool = False
    # Whoever sends something gets a reset.
    resets: bool = False
    # Nobody listens, and what was open is cut.
    is_down: bool = False


class FaultProxy:
    """Listens on a port of its own and passes everything to another one of this machine."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.faults = Faults()
        self._target = target
        self._changed = asyncio.Event()
        self._listening: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._writers) // 2

    async def set(self, **faults: Any) -> None:
        """From now on these and no others."""
        was_down, self.faults = self.faults.is_down, Faults(**faults)
        self._changed.set()
        self._changed = asyncio.Event()
        if self.faults.is_down:
            self._end()
        elif was_down:
            await self._listen()

    async def heal(self) -> None:
        """No faults any more."""
        await self.set()

    async def _listen(self) -> None:
        self._listening = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._listening.sockets[0].getsockname()[1]

    def _end(self) -> None:
        if self._listening is not None:
            self._listening.close()
            self._listening = None
        for task in self._tasks:
            task.cancel()
        for writer in self._writers:
            writer.transport.abort()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        mine = [writer]
        try:
            with suppress(OSError):
                answers, sink = await asyncio.open_connection("127.0.0.1", self._target)
                self._writers.add(sink)
                mine.append(sink)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass(reader, sink, writer, is_answer=False))
                    both.create_task(self._pass(answers, writer, writer, is_answer=True))
        except (asyncio.CancelledError, BaseExceptionGroup):
            pass  # the proxy ends, or the connection was cut
        finally:
            for one in mine:
                one.transport.abort()
                self._writers.discard(one)
            self._tasks.discard(task)

    async def _pass(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter, *, is_answer: bool
    ) -> None:
        passed = 0
        while piece := await source.read(_PIECE):
            while self.faults.is_silent:
                await self._changed.wait()
            faults = self.faults
            if faults.resets:
                client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.transport.abort()
                raise ConnectionResetError
            await asyncio.sleep(faults.latency)
            size = faults.slices or len(piece)
            for start in range(0, len(piece), size):
                part = piece[start : start + size]
                passed += len(part)
                if is_answer and faults.limit is not None and passed > faults.limit:
                    sink.write(part[: max(0, len(part) - (passed - faults.limit))])
                    await sink.drain()
                    raise ConnectionAbortedError
                if faults.bandwidth:
                    await asyncio.sleep(len(part) / faults.bandwidth)
                elif faults.slices:
                    await asyncio.sleep(0.001)
                sink.write(part)
                await sink.drain()
        await asyncio.sleep(self.faults.close_after)
        if sink.can_write_eof():
            sink.write_eof()
