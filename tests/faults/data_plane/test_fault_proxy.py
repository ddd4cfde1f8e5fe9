"""Holds: tests.fault_proxy

The fault proxy does to a connection what it says: the tests that lean on it mean what they say.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.fault_proxy import FaultProxy

HELLO = b"hello" * 20


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    """In front of a server that says everything twice, and ends when its caller does."""

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(len(HELLO)) * 2)
        writer.close()

    server = await asyncio.start_server(repeat, "127.0.0.1", 0)
    async with server, FaultProxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


class Line:
    """A connection through it, and how long things take."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, *, patience: float = 5.0) -> tuple[bytes, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        self.writer.write(HELLO)
        answer = await asyncio.wait_for(self.reader.readexactly(2 * len(HELLO)), patience)
        return answer, loop.time() - began


@pytest.fixture
async def line(proxy: FaultProxy) -> AsyncIterator[Line]:
    """Through it, and found to work."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    line = Line(reader, writer)
    assert (await line.ask())[0] == HELLO * 2
    yield line
    writer.close()


@pytest.mark.parametrize(
    ("faults", "at_least"),
    [({"latency": 0.2}, 0.4), ({"bandwidth": 1000}, 0.3), ({"slices": 3}, 0.05), ({}, 0.0)],
    ids=["latency", "bandwidth", "slicer", "none"],
)
async def test_what_slows_changes_nothing_and_takes_its_time(
    proxy: FaultProxy, line: Line, faults: dict[str, float], at_least: float
):
    await proxy.set(**faults)

    answer, took = await line.ask()

    assert answer == HELLO * 2
    assert took >= at_least


async def test_silence_holds_everything_back_until_it_is_healed(proxy: FaultProxy, line: Line):
    await proxy.set(is_silent=True)
    with pytest.raises(TimeoutError):
        await line.ask(patience=0.2)
    await proxy.heal()

    assert await line.reader.readexactly(2 * len(HELLO)) == HELLO * 2


async def test_a_limit_cuts_an_answer_short(proxy: FaultProxy, line: Line):
    await proxy.set(limit=50)
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(HELLO)

    assert len(await reader.read()) <= 50
    writer.close()


async def test_a_reset_is_one(proxy: FaultProxy, line: Line):
    await proxy.set(resets=True)

    with pytest.raises(ConnectionResetError):
        await line.ask()


async def test_a_slow_close_comes_late(proxy: FaultProxy, line: Line):
    await proxy.set(close_after=0.2)
    line.writer.write_eof()
    began = asyncio.get_running_loop().time()

    assert await line.reader.read() == b""
    assert asyncio.get_running_loop().time() - began >= 0.4


async def test_down_cuts_what_is_open_and_refuses_what_comes_until_it_is_up_at_the_same_port(
    proxy: FaultProxy, line: Line
):
    await proxy.set(is_down=True)
    assert await line.reader.read() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", proxy.port)

    await proxy.heal()
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    assert (await Line(reader, writer).ask())[0] == HELLO * 2
    writer.close()
