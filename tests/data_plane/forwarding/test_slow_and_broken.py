"""Holds: data_plane.forwarding.bodies, data_plane.http.protocol

Bodies that come slowly or not whole, from either side.
"""

import asyncio
import json

import pytest

from local.stand_in import StandIn
from tests.patience import eventually
from tests.workers import Running, Tenant, saying

GOOD = "sk-good-0123456789abcdefghij"
BODY = json.dumps({"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}).encode()


class Connection:
    """A caller's, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, worker: Running) -> "Connection":
        """A new one."""
        return cls(*await asyncio.open_connection("127.0.0.1", int(worker.client.url.rpartition(":")[2])))

    def ask(self, token: str, body: bytes, *, length: int) -> None:
        """Send a request's head, which tells a length, and something of a body."""
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        self.writer.write(f"{head}content-length: {length}\r\n\r\n".encode() + body)

    async def status(self) -> bytes:
        """What is answered; empty if the connection ends first."""
        async with asyncio.timeout(10):
            return (await self.reader.readline())[9:12]

    async def close(self) -> None:
        """End it."""
        self.writer.close()
        await asyncio.wait([asyncio.ensure_future(self.writer.wait_closed())])


async def test_a_body_that_ends_before_its_length_is_sent_nowhere_though_it_is_whole_json(
    worker: Running, alice: Tenant, upstream: StandIn
):
    token = alice.routed(GOOD)
    connection = await Connection.to(worker)
    connection.ask(token, BODY, length=len(BODY) + 10)
    await connection.writer.drain()

    connection.writer.write_eof()

    assert await connection.status() in {b"", b"400"}
    await connection.close()
    assert await worker.client.status(token) == 200
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("framing", [b"content-length: 500", b"transfer-encoding: chunked"])
async def test_an_answer_that_ends_before_its_length_is_a_failure_though_it_is_whole_json(
    worker: Running, alice: Tenant, framing: bytes
):
    body = b'{"choices":[]}'
    sent = body if b"length" in framing else b"%x\r\n%b\r\n" % (len(body), body)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + framing + b"\r\n\r\n"
    async with saying(head + sent) as url:
        alice.provider("mine", url)

        answer = await worker.client.chat(alice.token(), "mine:x")

    assert answer.status == 502
    assert b"connection_failed" in answer.body


async def test_an_access_key_that_is_deleted_while_its_body_comes_starts_nothing(
    worker: Running, alice: Tenant, upstream: StandIn
):
    token = alice.routed(GOOD)
    assert await worker.client.status(token) == 200
    connection = await Connection.to(worker)
    connection.ask(token, BODY[:20], length=len(BODY))
    await connection.writer.drain()
    await asyncio.sleep(0.1)

    await worker.reaches(alice.delete_token(token))
    connection.writer.write(BODY[20:])

    assert await connection.status() == b"401"
    await connection.close()
    assert len(upstream.calls) == 1


async def test_an_upstream_that_sends_without_end_fills_no_memory_while_the_caller_does_not_read(
    worker: Running, alice: Tenant
):
    """Events this time; tests of streams do it with one large body."""
    event = b"data: " + b"x" * 1000 + b"\n\n"
    piece = b"%x\r\n%b\r\n" % (len(event) * 100, event * 100)
    written = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while written < 200_000_000:
                writer.write(piece)
                await writer.drain()
                written += len(piece)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as listening:
        alice.provider("mine", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        body = BODY.replace(b"openai:gpt-4o", b"mine:x")
        connection = await Connection.to(worker)
        connection.ask(alice.token(), body, length=len(body))
        assert await connection.status() == b"200"
        before = -1
        while written != before:
            before = written
            await asyncio.sleep(0.5)

        # What the sockets of both connections hold, and a little of ours.
        assert written < 32 * 1024 * 1024
        await connection.close()
        await eventually(lambda: worker.worker.upstream.open_connections == 0)
