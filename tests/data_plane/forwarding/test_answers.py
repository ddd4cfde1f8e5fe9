"""Holds: data_plane.forwarding.answers

How an upstream's answer is read from its connection: wherever it is cut, and whatever comes beside it.
"""

import asyncio
from typing import Any

import aiohttp
import pytest

from data_plane.forwarding.answers import AnswerMalformed, AnswerProtocol

STREAM = (
    b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream \r\ntransfer-encoding: chunked\r\n\r\n"
    b"7\r\ndata: 1\r\n7;a=b\r\ndata: 2\r\n0\r\nx-trailer: 1\r\n\r\n"
)
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc"
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"


class Wire(asyncio.Transport):
    """A connection's transport that notes what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[str] = []

    def is_closing(self) -> bool:
        return "abort" in self.done

    def pause_reading(self) -> None:
        self.done.append("pause")

    def resume_reading(self) -> None:
        self.done.append("resume")

    def abort(self) -> None:
        self.done.append("abort")


async def answered(reading: AnswerProtocol) -> None:
    while not reading.has_answered:
        await reading.news()


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def reading(wire: Wire) -> AnswerProtocol:
    protocol = AnswerProtocol(asyncio.get_running_loop(), 2)
    protocol.connection_made(wire)
    protocol.ask()
    return protocol


@pytest.mark.parametrize(
    ("sent", "body"), [(STREAM, b"data: 1data: 2"), (WHOLE, b"abc")], ids=["in chunks", "with a length"]
)
@pytest.mark.parametrize("step", [1, 2, 7, 10_000])
async def test_an_answer_is_the_same_wherever_its_packets_end(
    reading: AnswerProtocol, sent: bytes, body: bytes, step: int
):
    for _ in range(2):
        taken = b""
        for start in range(0, len(sent), step):
            reading.data_received(sent[start : start + step])
            taken += reading.take()
        await answered(reading)
        assert (reading.status, taken, reading.is_read, reading.should_close) == (200, body, True, False)
        assert all(name.islower() and not value.endswith(b" ") for name, value in reading.headers)
        assert b"x-trailer" not in dict(reading.headers)
        reading.ask()


async def test_without_a_length_the_connections_end_is_the_answers(reading: AnswerProtocol):
    reading.data_received(UNTIL_CLOSED)
    assert not reading.is_whole

    reading.connection_lost(None)

    assert (reading.take(), reading.is_read, reading.should_close) == (b"abc", True, True)


@pytest.mark.parametrize("fault", [None, ConnectionResetError(104, "reset")])
@pytest.mark.parametrize("sent", [STREAM[:-20], WHOLE[:-1]])
async def test_an_answer_that_breaks_off_fails_behind_what_came_of_it(
    reading: AnswerProtocol, sent: bytes, fault: Exception | None
):
    reading.data_received(sent)
    reading.connection_lost(fault)

    assert reading.take()
    with pytest.raises(aiohttp.ClientPayloadError):
        reading.take()


@pytest.mark.parametrize(
    ("fault", "raised"),
    [(None, aiohttp.ServerDisconnectedError), (ConnectionResetError(104, "reset"), aiohttp.ClientOSError)],
)
async def test_a_connection_that_ends_before_an_answer_says_so(
    reading: AnswerProtocol, fault: Exception | None, raised: type[Exception]
):
    waiting = asyncio.ensure_future(answered(reading))
    await asyncio.sleep(0)
    reading.connection_lost(fault)

    with pytest.raises(raised):
        await waiting


@pytest.mark.parametrize("more", [WHOLE, b"HTTP/1.1 2", b"not HTTP", STREAM])
@pytest.mark.parametrize("is_at_once", [True, False])
async def test_what_comes_behind_an_answer_is_not_of_it_and_ends_the_connections_use(
    reading: AnswerProtocol, more: bytes, is_at_once: bool
):
    for data in [WHOLE + more] if is_at_once else [WHOLE, more]:
        reading.data_received(data)

    assert (reading.take(), reading.is_read, reading.should_close) == (b"abc", True, True)


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 129 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3,
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
    ids=["headers", "bytes", "interim answers", "two lengths", "other lengths", "another protocol"],
)
async def test_a_head_over_its_bounds_is_not_an_answer(reading: AnswerProtocol, wire: Wire, sent: bytes):
    for start in range(0, len(sent), 4096):
        reading.data_received(sent[start : start + 4096])

    with pytest.raises(AnswerMalformed):
        reading.take()
    assert wire.done == ["abort"]


@pytest.mark.parametrize("framing", [b"1;" + b"x" * 4096, b"0\r\n" + b"x: y\r\n" * 700], ids=["chunk", "trailers"])
async def test_what_frames_a_body_without_end_ends_the_answer(reading: AnswerProtocol, wire: Wire, framing: bytes):
    reading.data_received(STREAM.partition(b"0\r\n")[0])
    reading.data_received(framing)
    for _ in range(20):
        reading.data_received(b"x" * 4090 if framing.startswith(b"1") else framing[3:])

    assert reading.take()
    with pytest.raises(AnswerMalformed):
        reading.take()
    assert wire.done == ["abort"]


async def test_an_upstream_waits_while_nobody_takes_what_it_sends(reading: AnswerProtocol, wire: Wire):
    reading.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    for _ in range(3):
        reading.data_received(bytes(65_536))
    assert wire.done == ["pause"]

    assert len(reading.take()) == 3 * 65_536
    assert wire.done == ["pause", "resume"]


async def test_who_waits_for_news_gets_them_once_something_came(reading: AnswerProtocol):
    waiting: Any = asyncio.ensure_future(answered(reading))
    await asyncio.sleep(0)
    assert not waiting.done()

    reading.data_received(WHOLE)
    await waiting

    assert reading.status == 200
