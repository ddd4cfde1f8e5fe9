"""Holds: data_plane.state.follower

Between a worker and its Redis is a network with bad days: no known key is refused, no valid one called invalid.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway_core import tokens
from local.stand_in import StandIn
from tests.fault_proxy import FaultProxy
from tests.patience import eventually
from tests.servers import FaultyRedis
from tests.steady import SteadyTraffic
from tests.workers import Client, SnapshotWriter, Tenant, WorkerProcess, worker_process

pytestmark = pytest.mark.faults

FAULTS: dict[str, dict[str, Any]] = {
    "latency": {"latency": 0.3},
    "bandwidth": {"bandwidth": 3000},
    "slicer": {"slices": 5},
    "limit": {"limit": 400},
    "slow close": {"close_after": 0.5},
    "reset": {"resets": True},
    "silence": {"is_silent": True},
    "down": {"is_down": True},
}


@pytest.fixture
async def proxy(server: FaultyRedis) -> AsyncIterator[FaultProxy]:
    """Between worker and Redis."""
    async with FaultProxy(urlsplit(server.url).port or 0) as proxy:
        yield proxy


@pytest.fixture
async def process(
    environ: dict[str, str], server: FaultyRedis, proxy: FaultProxy, writer: SnapshotWriter, tmp_path: Path
) -> AsyncIterator[WorkerProcess]:
    """A worker that knows Redis by the proxy's address."""
    parts = urlsplit(server.url)
    behind = parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{proxy.port}").geturl()
    # Its start needs the proxy, which lives in this loop.
    with worker_process(environ | {"REDIS_URL": behind}, tmp_path, wait=False) as process:
        yield process
        # In a thread: it takes leave of Redis through this loop.
        await asyncio.to_thread(process.stop)


@pytest.fixture
async def client(process: WorkerProcess) -> AsyncIterator[Client]:
    """A client of it, once it is ready."""
    async with aiohttp.ClientSession() as session:
        client = Client(session, process.url)

        async def is_ready() -> bool:
            try:
                return (await client.get("/readyz")).status == 200
            except aiohttp.ClientError:
                return False

        await eventually(is_ready)
        yield client


async def settled(client: Client) -> None:
    """Wait until the worker is in sync, and stays so."""

    async def is_in_sync() -> bool:
        return bool((await client.readiness())["snapshot"]["isInSync"])

    await eventually(is_in_sync)


async def test_no_fault_of_the_network_refuses_a_known_key_or_calls_a_valid_one_invalid(
    client: Client, proxy: FaultProxy, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    """Each fault for a second under traffic. Every new key has an account and an upstream key of its own, so that an
    answer of Redis that reached the wrong question would show.
    """
    known = [alice.token() for _ in range(3)]
    assert [await client.status(token) for token in known] == [200] * 3
    told: dict[str, list[int]] = {}
    async with SteadyTraffic(client.url, known, rate=50) as traffic:
        for name, faults in FAULTS.items():
            fresh = {}
            for number in range(4):
                tenant = writer.tenant()
                value = f"sk-{name.replace(' ', '')}-{number}-0123456789abcdef"
                tenant.keys(value)
                fresh[tenant.token()] = value
            await proxy.set(**faults)
            asked = [asyncio.create_task(client.status(token)) for token in fresh]
            await asyncio.sleep(1)
            told[name] = await asyncio.gather(*asked)
            await proxy.heal()
            await settled(client)
            for token, value in fresh.items():
                seen = len(upstream.calls)
                assert await client.status(token) == 200, name
                assert value in upstream.keys[seen:], name

    assert set(traffic.statuses) == {200}
    assert {status for statuses in told.values() for status in statuses} <= {200, 503}, told
    assert told["down"] == told["reset"] == told["silence"] == [503] * 4


async def test_what_was_trimmed_from_the_stream_while_the_network_was_down_is_read_anew(
    client: Client, proxy: FaultProxy, writer: SnapshotWriter, alice: Tenant
):
    doomed, kept = alice.token(), alice.token()
    assert await client.status(doomed) == await client.status(kept) == 200
    async with SteadyTraffic(client.url, [kept], rate=50) as traffic:
        await proxy.set(is_down=True)
        alice.delete_token(doomed)
        alice.settings(total_timeout="55s")
        number = writer.tenant().settings(total_timeout="33s")
        writer.redis.xtrim(writer.names.changes, maxlen=1, approximate=False)
        assert await client.status(doomed) == 200
        await proxy.heal()

        async def has_passed() -> bool:
            return int((await client.readiness())["snapshot"]["position"]) >= number

        async def is_deleted() -> bool:
            return await client.status(doomed) == 401

        await eventually(has_passed)
        await eventually(is_deleted)
    assert set(traffic.statuses) == {200}
    assert tokens.digest(doomed) not in (await client.get("/metrics")).body.decode()
