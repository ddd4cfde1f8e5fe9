"""Holds: data_plane.forwarding.long_bodies, data_plane.forwarding.bodies, data_plane.forwarding.upstream

Bodies of many MiB reach each upstream byte for byte, take memory once, and are refused by name where they are too much.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from data_plane.settings import RequestLimits
from local.stand_in import StandIn
from tests.hostile.data_plane.shapes import SHAPES
from tests.tiers import number
from tests.workers import Client, Tenant, WorkerProcess

KEY = "sk-first-0123456789abcdefghij"
FAILING = "sk-500-0123456789abcdefghij"
MIB = 1024 * 1024
LENGTH = number(2, full=31) * MIB


def body(shape: str, length: int = LENGTH, **members: Any) -> bytes:
    """A long body with one member of a shape."""
    whole = msgspec.json.encode({"model": "openai:gpt-4o"} | members)
    return whole[:-1] + b',"messages":%b}' % SHAPES[shape](length)


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "compressed"])
@pytest.mark.parametrize("shape", ["text", "escapes", "messages"])
async def test_every_attempt_sends_a_long_body_as_it_came(
    client: Client, alice: Tenant, upstream: StandIn, shape: str, compress: Callable[[bytes], bytes]
):
    token = alice.routed(FAILING, KEY)
    raw = body(shape, temperature=0.5)
    headers = {"content-encoding": "gzip"} if compress is gzip.compress else {}

    answer = await client.chat(token, raw=compress(raw), headers=headers)

    assert answer.status == 200
    assert [call.raw for call in upstream.calls] == [raw.replace(b"openai:", b"", 1)] * 2


async def test_a_long_body_that_is_not_json_is_refused_wherever_its_fault_is(client: Client, alice: Tenant):
    token, raw = alice.routed(KEY), body("messages", 300_000)

    for place in (20, 100_000, len(raw) - 3):
        broken = raw[:place] + b"\xff" + raw[place + 1 :]
        answer = await client.chat(token, raw=broken)
        assert (answer.status, answer.code) == (400, "body_invalid")
    deep = await client.chat(token, raw=raw[:-1] + b',"a":' + b"[" * 600 + b"]" * 600 + b"}")
    assert (deep.status, deep.code) == (400, "body_too_deep")


async def test_a_long_body_takes_memory_once_and_gives_it_back(
    start: Callable[..., WorkerProcess], alice: Tenant, upstream: StandIn
):
    process = start()
    token = alice.routed(FAILING, FAILING.replace("first", "other"), KEY)
    raw = body("text", 31 * MIB)
    async with client_of(process) as client:
        assert (await client.chat(token)).status == 200
        before = memory_peak(process)

        assert (await client.chat(token, raw=raw)).status == 200

    assert memory_peak(process) - before < 1.4 * len(raw)


async def test_an_answer_that_comes_before_a_long_body_was_sent_is_passed_on(
    start: Callable[..., WorkerProcess], alice: Tenant
):
    """The upstream reads the head alone, answers, and reads nothing more."""

    told, ended = asyncio.Event(), asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        await told.wait()
        writer.transport.abort()
        ended.set()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listening, client_of(start()) as client:
        alice.provider("mine", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
        raw = body("text", 16 * MIB).replace(b"openai:gpt-4o", b"mine:x", 1)

        assert (await client.chat(alice.token(), raw=raw)).status == 413
        told.set()
        await ended.wait()


async def test_the_bytes_that_one_request_sends_upstream_are_bounded_and_the_answer_says_so(
    make_worker: Callable[..., Any], alice: Tenant, upstream: StandIn
):
    worker = await make_worker(request_limits=RequestLimits(upstream_bytes=500_000))
    token = alice.routed(*(f"sk-500-{one}-0123456789abcdefghij" for one in range(4)))

    answer = await worker.client.chat(token, raw=body("text", 200_000))

    assert (answer.status, answer.code) == (502, "attempts_failed")
    assert "one request may send 500000 bytes upstream" in answer.json()["error"]["message"]
    assert len(upstream.calls) == 2
    assert (await worker.client.chat(token)).headers["gateway-attempts"] == "4"


@pytest.mark.parametrize("limits", [{"requests": 0}, {"body_bytes": 1000}], ids=["requests", "bytes"])
async def test_a_worker_that_is_full_answers_503_to_any_account(
    make_worker: Callable[..., Any], alice: Tenant, upstream: StandIn, limits: dict[str, int]
):
    worker = await make_worker(request_limits=RequestLimits(**limits))

    answer = await worker.client.chat(alice.routed(KEY), user="x" * 1000)

    assert (answer.status, answer.headers["gateway-error"]) == (503, "worker_full")
    assert answer.headers["retry-after"] == "1"
    assert upstream.calls == []


@asynccontextmanager
async def client_of(process: WorkerProcess) -> AsyncIterator[Client]:
    """A client of a worker process."""
    async with aiohttp.ClientSession() as session:
        yield Client(session, process.url)


def memory_peak(process: WorkerProcess) -> int:
    """The most memory that a worker process has had, in bytes."""
    status = Path(f"/proc/{process.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024
