"""A worker as a process of its own, a Redis to do harm to, and a stand-in upstream."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import pytest
from redis import Redis

from gateway_core.envelopes import DocumentKeys
from gateway_core.sealing import SealingKey
from gateway_core.snapshot import Keys
from local.stand_in import StandIn
from local.stand_in import running as stand_in_running
from tests.servers import FaultyRedis
from tests.workers import Client, SnapshotWriter, Tenant, WorkerProcess, worker_process

GOOD = "sk-good-0123456789abcdefghij"


@pytest.fixture
def server(redis_server: Callable[..., FaultyRedis]) -> FaultyRedis:
    """A Redis to do harm to."""
    return redis_server()


@pytest.fixture
def writer(server: FaultyRedis) -> Iterator[SnapshotWriter]:
    """A control plane's hand."""
    with Redis.from_url(server.url) as redis:
        writer = SnapshotWriter(
            redis,
            Keys("gw"),
            DocumentKeys.parse(os.environ["DOCUMENT_KEYS"]),
            SealingKey.parse(os.environ["SEALING_PUBLIC_KEY"]),
        )
        writer.begin_epoch()
        writer.catalog()
        yield writer


@pytest.fixture
def alice(writer: SnapshotWriter) -> Tenant:
    """The account that a test is about, with a key."""
    tenant = writer.tenant()
    tenant.keys(GOOD)
    return tenant


@pytest.fixture
async def upstream() -> AsyncIterator[StandIn]:
    """A stand-in for every built-in provider."""
    async with stand_in_running() as stand_in:
        yield stand_in


@pytest.fixture
def environ(server: FaultyRedis, sealing_private_key: str, upstream: StandIn) -> dict[str, str]:
    """What a worker is started with."""
    return {
        "GATEWAY_MODE": "evaluation",
        "REDIS_URL": server.url,
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
        "LOADING_SPREAD": "0",
        "UPSTREAM_BASE_URLS": f"openai={upstream.url},anthropic={upstream.url}",
    }


@pytest.fixture
def process(environ: dict[str, str], writer: SnapshotWriter, tmp_path: Path) -> Iterator[WorkerProcess]:
    """`python -m data_plane serve`, ready."""
    with worker_process(environ, tmp_path) as found:
        yield found


@pytest.fixture
async def client(process: WorkerProcess) -> AsyncIterator[Client]:
    """A client of it."""
    async with aiohttp.ClientSession() as session:
        yield Client(session, process.url)
