"""A flood without a key: silent connections, slow senders, slow readers and flooders, from many addresses at once.

    python -m tests.hostile.flood --port 4000 --path /v1/models --silent 500 --senders 500 --readers 500 --flooders 20

It prints `flooding` once every connection has been made, and goes on until its standard input ends. A connection that
the server closes is made again, so the flood stays as large as it began.
"""

import argparse
import asyncio
import resource
import sys
from collections.abc import Awaitable, Callable
from typing import Final

# A pause between two pieces of a slow client, and before a connection that was closed is made again.
_PAUSE: Final = 1.0
_CONNECT_AT_ONCE: Final = 100
_BODY_BYTES: Final = 1_000_000
_RECEIVE_BYTES: Final = 4096
# Requests that a reader sends at once, to make the server hold answers.
_PIPELINED: Final = 200

_Client = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Flood:
    """The clients of one flood."""

    def __init__(self, port: int, path: str) -> None:
        """
        Args:
            port: of the server, on 127.0.0.1.
            path: what readers and flooders ask for.
        """
        self._port = port
        self._path = path.encode()
        self._made = 0
        self._connecting = asyncio.Semaphore(_CONNECT_AT_ONCE)

    async def client(self, act: _Client, up: asyncio.Event) -> None:
        """Connect and act, again and again."""
        while True:
            self._made += 1
            source = f"127.0.{1 + self._made // 200 % 200}.{1 + self._made % 200}"
            try:
                async with self._connecting:
                    reader, writer = await asyncio.open_connection(
                        "127.0.0.1", self._port, local_addr=(source, 0), limit=_RECEIVE_BYTES
                    )
            except OSError:
                await asyncio.sleep(_PAUSE)
                continue
            up.set()
            try:
                await act(reader, writer)
            except (OSError, EOFError):
                pass
            finally:
                writer.transport.abort()
            await asyncio.sleep(_PAUSE)

    async def silent(self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        """Say nothing until the server ends it."""
        await reader.read(1)

    async def send_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send a head in one piece and its body byte by byte, with a key that is not known."""
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer none\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % _BODY_BYTES
        )
        while not reader.at_eof():
            writer.write(b"{")
            await writer.drain()
            await asyncio.sleep(_PAUSE)

    async def read_slowly(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask many times, and read a byte a second."""
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n" % self._path * _PIPELINED)
        while not reader.at_eof():
            await asyncio.sleep(_PAUSE)
            writer.transport.resume_reading()  # type: ignore[attr-defined]
            if not await reader.read(1):
                return
            writer.transport.pause_reading()  # type: ignore[attr-defined]

    async def flood(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Ask as fast as the server answers."""
        ask = b"GET %b HTTP/1.1\r\nhost: x\r\nauthorization: Bearer none\r\n\r\n" % self._path
        while True:
            writer.write(ask)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            await reader.readexactly(int(length or 0))


async def _run(arguments: argparse.Namespace) -> None:
    flood = Flood(arguments.port, arguments.path)
    kinds: list[tuple[_Client, int]] = [
        (flood.silent, arguments.silent),
        (flood.send_slowly, arguments.senders),
        (flood.read_slowly, arguments.readers),
        (flood.flood, arguments.flooders),
    ]
    ups: list[asyncio.Event] = []
    clients = []
    for act, count in kinds:
        for _ in range(count):
            ups.append(up := asyncio.Event())
            clients.append(asyncio.create_task(flood.client(act, up)))
    await asyncio.gather(*(up.wait() for up in ups))
    print("flooding", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


def main() -> None:
    """Read the command line and flood."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", required=True, help="what readers and flooders ask for")
    for kind in ("silent", "senders", "readers", "flooders"):
        parser.add_argument(f"--{kind}", type=int, default=0)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asyncio.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
