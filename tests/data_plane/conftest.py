"""Fixtures of the data plane's tests: a snapshot in Redis, a stand-in upstream, a worker between them."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis import Redis

from gateway_core.envelopes import DocumentKeys
from gateway_core.sealing import SealingKey
from gateway_core.snapshot import Keys
from local.stand_in import StandIn
from local.stand_in import running as stand_in_running
from tests.workers import Client, Running, SnapshotWriter, Tenant, running, settings_of


@pytest.fixture
def writer(redis: Redis) -> SnapshotWriter:
    """A control plane's hand: an epoch and a catalog are in Redis."""
    writer = SnapshotWriter(
        redis,
        Keys("gw"),
        DocumentKeys.parse(os.environ["DOCUMENT_KEYS"]),
        SealingKey.parse(os.environ["SEALING_PUBLIC_KEY"]),
    )
    writer.begin_epoch()
    writer.catalog()
    return writer


@pytest.fixture
def alice(writer: SnapshotWriter) -> Tenant:
    """The account that a test is about."""
    return writer.tenant()


@pytest.fixture
def charlie(writer: SnapshotWriter) -> Tenant:
    """A stranger's account."""
    return writer.tenant()


@pytest.fixture
async def upstream() -> AsyncIterator[StandIn]:
    """A stand-in for every built-in provider."""
    async with stand_in_running() as stand_in:
        yield stand_in


@pytest.fixture
def environ(redis_url: str, sealing_private_key: str, upstream: StandIn) -> dict[str, str]:
    """What a worker is started with."""
    return {
        "GATEWAY_MODE": "evaluation",
        "REDIS_URL": redis_url,
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
        "LOADING_SPREAD": "0",
        "UPSTREAM_BASE_URLS": f"openai={upstream.url},anthropic={upstream.url}",
    }


@pytest.fixture
async def make_worker(environ: dict[str, str], writer: SnapshotWriter) -> AsyncIterator[Callable[..., Any]]:
    """Start workers with settings of the test's own: `await make_worker(staleness=1)`."""
    async with AsyncExitStack() as workers:

        async def make(**changes: Any) -> Running:
            return await workers.enter_async_context(running(settings_of(environ, **changes)))

        yield make


@pytest.fixture
async def worker(make_worker: Callable[..., Any]) -> Running:
    """A worker that is in sync and holds nothing yet."""
    found: Running = await make_worker()
    return found


@pytest.fixture
def client(worker: Running) -> Client:
    """A client of `worker`."""
    return worker.client
