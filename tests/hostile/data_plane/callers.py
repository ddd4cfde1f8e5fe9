"""Callers who send and read byte by byte, and what a worker process holds."""

import asyncio
from pathlib import Path
from typing import Self

from tests.patience import PATIENCE, stretched
from tests.workers import WorkerProcess

MIB = 1024 * 1024


class Raw:
    """One connection to a worker, without a client library."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, process: WorkerProcess, *, source: str = "127.0.0.1") -> Self:
        """A new one.

        Args:
            process: the worker.
            source: the address that it comes from.
        """
        port = int(process.url.rpartition(":")[2])
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))

    async def send(self, data: bytes) -> None:
        """Send, and wait until the socket has taken most of it. The other side may have closed already."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def pour(self, piece: bytes, most: int) -> int:
        """Send a piece again and again, until so many bytes went or the other side closed; how many went."""
        sent = 0
        try:
            while sent < most and not self.reader.at_eof():
                self.writer.write(piece)
                await self.writer.drain()
                sent += len(piece)
        except ConnectionError:
            pass
        return sent

    async def answer(self) -> tuple[int, bytes]:
        """The status and the body of the next answer; 0 if the connection ends first."""
        async with asyncio.timeout(stretched(PATIENCE)):
            try:
                head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                return int(head.split()[1]), await self.reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError):
                return 0, b""

    async def ended(self) -> bytes:
        """What still comes before the other side ends the connection."""
        async with asyncio.timeout(stretched(PATIENCE)):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def close(self) -> None:
        """End it at once."""
        self.writer.transport.abort()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


def memory(process: WorkerProcess) -> int:
    """How many bytes of memory a worker has."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024
