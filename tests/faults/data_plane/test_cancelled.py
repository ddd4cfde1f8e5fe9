"""Holds: data_plane.forwarding.exchange

Callers who leave: nobody gets another's answer, and nothing of theirs stays behind.

Every request names a model of its own, which the upstream repeats in each piece of its answer, so that any answer that
went astray would show. The full number is
`CANCELLED_REQUESTS=20000 pytest --timeout 1800 tests/faults/data_plane/test_cancelled.py`.
"""

import asyncio
import os
import random
import re
import time
from typing import Final
from urllib.parse import urlsplit

import psutil
import pytest

from local.stand_in import StandIn
from tests.patience import eventually
from tests.workers import Client, SnapshotWriter, WorkerProcess

pytestmark = pytest.mark.faults

REQUESTS: Final = int(os.environ.get("CANCELLED_REQUESTS", "2000"))
ACCOUNTS: Final = 20
AT_ONCE: Final = 40
_MODEL: Final = re.compile(rb'"model":\s*"([^"]*)"')


def upstream_connections(process: WorkerProcess, upstream: StandIn) -> int:
    """How many connections the worker has open to the upstream."""
    port = urlsplit(upstream.url).port
    found = psutil.Process(process.process.pid).net_connections(kind="tcp")
    return sum(1 for one in found if one.raddr and one.raddr.port == port and one.status == psutil.CONN_ESTABLISHED)


async def test_callers_that_leave_at_random_points_never_cross_answers_nor_leak_connections(
    process: WorkerProcess, client: Client, writer: SnapshotWriter, upstream: StandIn
):
    """Half of the callers leave, before, in or after an answer; every other request is a stream."""
    tenants = [writer.tenant() for _ in range(ACCOUNTS)]
    keys = [f"sk-account-{number}-0123456789abcdef" for number in range(ACCOUNTS)]
    for tenant, key in zip(tenants, keys, strict=True):
        tenant.keys(key)
    shown = [tenant.token() for tenant in tenants]
    upstream.pause = 0.002
    chance = random.Random(20_000)
    whole, cut, astray = 0, 0, []
    marks: set[str] = set()

    async def ask(number: int, received: bytearray) -> None:
        account = number % ACCOUNTS
        body = {"model": f"openai:m-{account}-{number}", "stream": bool(number // ACCOUNTS % 2), "messages": []}
        headers = {"authorization": f"Bearer {shown[account]}"}
        async with client.session.post(f"{client.url}/v1/chat/completions", json=body, headers=headers) as answer:
            assert answer.status == 200
            async for piece in answer.content.iter_any():
                received += piece

    async def call(number: int) -> None:
        nonlocal whole, cut
        received = bytearray()
        patience = chance.uniform(0, 0.04) if number % 4 < 2 else 60.0
        try:
            await asyncio.wait_for(ask(number, received), patience)
            whole += 1
        except TimeoutError:
            cut += 1
        found = set(_MODEL.findall(received))
        if found - {f"m-{number % ACCOUNTS}-{number}".encode()}:
            astray.append((number, found))

    for start in range(0, REQUESTS, AT_ONCE):
        await asyncio.gather(*(call(number) for number in range(start, start + AT_ONCE)))

    assert not astray
    assert whole >= REQUESTS // 2
    assert cut > REQUESTS // 20
    for one in upstream.calls:
        marks.add(str(one.body["model"]))
        assert one.key == keys[int(str(one.body["model"]).split("-")[1])]
    assert len(marks) >= min(whole, 9_000)
    await eventually(lambda: not upstream.under_way)
    assert upstream_connections(process, upstream) <= AT_ONCE
    assert psutil.Process(process.process.pid).num_fds() < 300


async def test_an_upstreams_connection_is_closed_soon_after_its_caller_left(
    process: WorkerProcess,
    client: Client,
    writer: SnapshotWriter,
    upstream: StandIn,
    capsys: pytest.CaptureFixture[str],
):
    """Streams that go on for ever, and requests that are never answered: both end with their callers."""
    streams, waits = writer.tenant(), writer.tenant()
    streams.keys("sk-streams-0123456789abcdef")
    waits.keys("sk-waits-hang-0123456789abcdef")
    upstream.pause, upstream.events = 0.1, 1000
    tokens = [streams.token()] * 20 + [waits.token()] * 20
    callers = [asyncio.create_task(client.chat(token, stream=token == tokens[0])) for token in tokens]
    await eventually(lambda: upstream.under_way == 40)

    began = time.monotonic()
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    # The promise is 1 s; a machine without a core to spare may take longer.
    await eventually(lambda: not upstream.under_way and not upstream_connections(process, upstream))

    with capsys.disabled():
        print(f" (40 upstream connections closed after {time.monotonic() - began:.2f} s)", end="")
    assert upstream.cut_off == 40
    assert (await client.get("/healthz")).status == 200
