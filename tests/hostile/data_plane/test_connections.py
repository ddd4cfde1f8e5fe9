"""Holds: data_plane.http.protocol, data_plane.http.connections

A connection costs little and ends soon, whatever comes on it, and without a look at any key.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from data_plane.http.connections import network_of
from tests.hostile.data_plane.callers import MIB, Raw, memory
from tests.patience import eventually
from tests.workers import Tenant, WorkerProcess

Start = Callable[..., WorkerProcess]
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
GOOD = "sk-good-0123456789abcdefghij"
SOON = 1


async def metric(process: WorkerProcess, line: str) -> float:
    """A value of /metrics."""
    raw = await Raw.to(process)
    await raw.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    _, body = await raw.answer()
    await raw.close()
    return float(body.decode().partition(f"\n{line} ")[2].partition("\n")[0])


def refused(reason: str) -> str:
    """The name of a counter."""
    return f'gateway_connections_refused_total{{reason="{reason}"}}'


async def assert_good(process: WorkerProcess) -> None:
    """Another caller is answered."""
    raw = await Raw.to(process)
    await raw.send(HEALTH)
    assert (await raw.answer())[0] == 200
    await raw.close()


@pytest.mark.parametrize(
    ("begin", "piece", "code", "reason"),
    [
        (b"GET /healthz HTTP/1.1\r\n", b"a:b\r\n" * 8000, "too_many_headers", "headers"),
        (b"GET /healthz HTTP/1.1\r\nx: ", b"x" * 65_536, "head_too_large", "head_bytes"),
        (b"GET /healthz HTTP/1.1\r\n", b"x: " + b"x" * 1000 + b"\r\n", "head_too_large", "head_bytes"),
        (b"GET /", b"x" * 65_536, "head_too_large", "head_bytes"),
        (b"", b"\r\n" * 32_768, "head_too_large", "head_bytes"),
    ],
    ids=["tiny headers", "a header without end", "headers of a kilobyte", "a target without end", "blank lines"],
)
async def test_a_head_without_end_is_refused_when_it_is_over_its_bound(
    unready: WorkerProcess, begin: bytes, piece: bytes, code: str, reason: str
):
    before, counted = memory(unready), await metric(unready, refused(reason))
    raw = await Raw.to(unready)
    await raw.send(begin)

    sent = await raw.pour(piece, 30 * MIB)

    assert sent < 16 * MIB
    status, body = await raw.answer()
    assert status in {0, 431}
    if status:
        assert json.loads(body)["error"]["code"] == code
    assert memory(unready) - before < 10 * MIB
    assert await metric(unready, refused(reason)) == counted + 1
    await raw.close()


@pytest.mark.parametrize(
    ("head", "code"),
    [(b"x: " + b"x" * 70_000 + b"\r\n", "head_too_large"), (b"a:b\r\n" * 200, "too_many_headers")],
    ids=["bytes", "headers"],
)
async def test_a_whole_head_over_a_bound_is_answered_with_the_bound_it_is_over(
    unready: WorkerProcess, head: bytes, code: str
):
    raw = await Raw.to(unready)
    await raw.send(b"GET /healthz HTTP/1.1\r\n" + head + b"\r\n")

    status, body = await raw.answer()

    error = json.loads(body)["error"]
    assert (status, error["code"]) == (431, code)
    assert "REQUEST_HEAD" in error["message"]
    assert await raw.ended() == b""
    await raw.close()


@pytest.mark.parametrize("extra", [0, 1])
async def test_a_head_may_be_as_large_as_its_bound(unready: WorkerProcess, extra: int):
    raw = await Raw.to(unready)
    head = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: %b\r\n\r\n"

    await raw.send(head % (b"x" * (65_536 - len(head) + 2 + extra)))

    assert (await raw.answer())[0] == (431 if extra else 200)
    await raw.close()


async def test_a_head_in_many_pieces_is_counted_as_one(unready: WorkerProcess):
    raw = await Raw.to(unready)
    await raw.send(b"GET /healthz HTTP/1.1\r\n")

    answer = asyncio.create_task(raw.answer())
    sent = 0
    while not answer.done():
        sent += await raw.pour(b"x: " + b"x" * 900 + b"\r\n", 1)
        await asyncio.sleep(0)

    assert sent < 16 * MIB
    assert (await answer)[0] in {0, 431}
    await raw.close()


async def test_silent_and_slow_connections_end(start: Start):
    process = start(REQUEST_HEAD_TIMEOUT=SOON, KEEPALIVE_TIMEOUT=SOON)
    silent, half, dripping, idle, second = [await Raw.to(process) for _ in range(5)]
    await half.send(b"GET /healthz HT")
    await idle.send(HEALTH)
    await second.send(HEALTH + b"GET /healthz HTTP/1.1\r\nx")

    async def drip() -> None:
        number = 0
        while not dripping.reader.at_eof():
            await dripping.send(b"GET / HTTP/1.1\r\n" if not number else b"x-%d: y\r\n" % number)
            number += 1
            await asyncio.sleep(0.2)

    drips = asyncio.create_task(drip())

    assert await silent.ended() == b""
    for slow in (half, dripping):
        status, body = await slow.answer()
        assert status == 408
        assert json.loads(body)["error"]["code"] == "head_too_slow"
    assert (await idle.answer())[0] == 200
    assert await idle.ended() == b""
    assert [(await second.answer())[0] for _ in range(2)] == [200, 408]
    await drips
    assert await metric(process, refused("head_timeout")) == 4
    for raw in (silent, half, dripping, idle, second):
        await raw.close()


async def test_pipelined_requests_whose_answers_are_not_read_fill_no_memory_and_end(start: Start):
    process = start(UNREAD_ANSWER_TIMEOUT=SOON)
    before = memory(process)
    raw = await Raw.to(process)
    raw.reader._transport.pause_reading()  # type: ignore[attr-defined]

    sent = await raw.pour(HEALTH * 1000, 100 * MIB)

    assert sent < 100 * MIB
    assert memory(process) - before < 10 * MIB
    await assert_good(process)
    await raw.close()


async def test_pipelined_requests_are_answered_in_their_order(start: Start, alice: Tenant):
    process = start()
    token = alice.routed(GOOD)
    body = json.dumps({"model": "openai:gpt-4o", "messages": [], "x": "\r\n\r\n" * 3}).encode()
    large = body[:-1] + b" " * 200_000 + b"}"
    chat = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n".encode()
    parts = []
    for number in range(60):
        if number % 3 == 0:
            parts.append(HEALTH)
        elif number % 3 == 1:
            sent = large if number % 4 == 0 else body
            parts.append(chat + b"content-length: %d\r\n\r\n%b" % (len(sent), sent))
        else:
            parts.append(chat + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    raw = await Raw.to(process)

    sending = asyncio.create_task(raw.send(b"".join(parts)))
    answers = [await raw.answer() for _ in parts]

    await sending
    assert {status for status, _ in answers} == {200}
    assert [b"choices" in answer for _, answer in answers] == [number % 3 != 0 for number in range(60)]
    await raw.close()


@pytest.mark.parametrize("piece", [b"x-%d: y\r\n", b""], ids=["trailers", "a chunk's extension"])
async def test_what_frames_a_body_is_bounded(start: Start, alice: Tenant, piece: bytes):
    process = start()
    token = alice.routed(GOOD)
    before = memory(process)
    raw = await Raw.to(process)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n".encode()
    await raw.send(head + b"transfer-encoding: chunked\r\n\r\n" + (b"0\r\n" if piece else b"5;x="))

    sent = await raw.pour(b"".join(piece % n for n in range(5000)) if piece else b"x" * 65_536, 30 * MIB)

    assert sent < 16 * MIB
    assert memory(process) - before < 10 * MIB
    await assert_good(process)
    await raw.close()


async def test_a_caller_who_does_not_read_is_cut(start: Start, alice: Tenant):
    left = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        event = b"data: " + b"x" * 10_000 + b"\n\n"
        try:
            while True:
                writer.write(b"%x\r\n%b\r\n" % (len(event), event))
                await writer.drain()
        except ConnectionError:
            left.set()
        finally:
            writer.transport.abort()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as listening:
        process = start(UNREAD_ANSWER_TIMEOUT=SOON)
        alice.provider("mine", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        body = json.dumps({"model": "mine:x", "messages": [], "stream": True}).encode()
        raw = await Raw.to(process)
        raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await raw.send(ask(alice.token(), body))

        await eventually(left.is_set, what="the upstream's connection ends")

        assert await metric(process, refused("unread_timeout")) == 1
        await raw.close()


def ask(token: str, body: bytes) -> bytes:
    """A chat completion as it goes over the wire."""
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
async def test_a_caller_who_hangs_up_behind_a_body_is_noticed(start: Start, alice: Tenant, is_stream: bool):
    asked, left = asyncio.Event(), asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        asked.set()
        await reader.read()
        left.set()
        writer.transport.abort()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as listening:
        process = start()
        alice.provider("mine", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        # Nothing else ends the request: no time limit of the account comes before the test's patience.
        alice.settings(total_timeout="24h", per_request_timeout="24h")
        token = alice.token()
        for size in (100, 65_535, 65_536, 65_537, 300_000, 1_000_000):
            asked.clear()
            left.clear()
            members: dict[str, Any] = {"model": "mine:x", "messages": [], "stream": is_stream, "x": ""}
            members["x"] = "x" * max(0, size - len(json.dumps(members)))
            raw = await Raw.to(process)
            await raw.send(ask(token, json.dumps(members).encode()))
            await eventually(asked.is_set, what="the upstream is asked")

            raw.writer.close()

            await eventually(left.is_set, what=f"the upstream's connection ends behind {size} bytes")
            await raw.close()


async def test_connections_in_all_are_bounded(start: Start):
    process = start(CONNECTIONS=4)
    held = [await Raw.to(process) for _ in range(4)]
    for raw in held:
        await raw.send(HEALTH)
        assert (await raw.answer())[0] == 200

    one_more = await Raw.to(process)

    status, body = await one_more.answer()
    assert (status, json.loads(body)["error"]["code"]) == (503, "too_many_connections")
    assert b"CONNECTIONS" in body
    assert await one_more.ended() == b""
    many = [await Raw.to(process) for _ in range(200)]
    for raw in many:
        assert (await raw.answer())[0] in {0, 503}
    await held[0].send(HEALTH)
    assert (await held[0].answer())[0] == 200
    for raw in (*held, one_more, *many):
        await raw.close()

    await eventually(lambda: _is_answered(process), what="the worker takes connections again")

    assert await metric(process, refused("connections")) >= 201


async def _is_answered(process: WorkerProcess) -> bool:
    raw = await Raw.to(process)
    await raw.send(HEALTH)
    status, _ = await raw.answer()
    await raw.close()
    return status == 200


@pytest.mark.parametrize("most", [2, 0])
async def test_connections_of_one_address_are_bounded_unless_that_is_switched_off(start: Start, most: int):
    process = start(CONNECTIONS_PER_ADDRESS=most)
    raws = [await Raw.to(process, source=source) for source in ("127.0.0.2",) * 3 + ("127.0.0.3",)]
    answers = []
    for raw in raws:
        await raw.send(HEALTH)
        answers.append(await raw.answer())

    assert [status for status, _ in answers] == [200, 200, 503 if most else 200, 200]
    if most:
        assert json.loads(answers[2][1])["error"]["code"] == "too_many_connections_of_address"
    for raw in raws:
        await raw.close()


def test_one_address_is_an_ipv4_address_or_a_network_of_64_bits():
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") != network_of("192.0.2.2")
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::9%eth0") != network_of("2001:db8:1:3::1")
