"""Holds: data_plane.forwarding.upstream

An upstream that answers in bad faith costs its own request, and nobody else's.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from tests.workers import Client, Tenant, WorkerProcess, saying

INTERIM = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
Start = Callable[..., WorkerProcess]


@asynccontextmanager
async def client_of(process: WorkerProcess) -> AsyncIterator[Client]:
    """A client of a worker process."""
    async with aiohttp.ClientSession() as session:
        yield Client(session, process.url)


@pytest.mark.parametrize(("count", "status"), [(8, 200), (9, 502), (2000, 502)])
async def test_interim_answers_are_taken_up_to_their_bound(start: Start, alice: Tenant, count: int, status: int):
    async with saying(INTERIM * count + ANSWER) as url, client_of(start()) as client:
        alice.provider("mine", url)

        assert await client.status(alice.token(), model="mine:x") == status


async def test_interim_answers_without_end_end_their_attempt(start: Start, alice: Tenant):
    ended = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            while True:
                writer.write(INTERIM * 1000)
                await writer.drain()
        except ConnectionError:
            ended.set()
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as listening, client_of(start()) as client:
        alice.provider("mine", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")

        assert await client.status(alice.token(), model="mine:x") == 502

        await ended.wait()
        assert (await client.get("/healthz")).status == 200
