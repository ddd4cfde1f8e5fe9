"""Everything but the worker is gone: control plane, relay, PostgreSQL and Redis. What is in force stays in force."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import aiohttp
import psutil
import pytest

from tests.live import ROOT, ControlPlane, control_plane
from tests.servers import FaultyPostgres, FaultyRedis
from tests.steady import SteadyTraffic
from tests.workers import Client, eventually, worker_process

pytestmark = pytest.mark.faults

GONE_SECONDS: Final = float(os.environ.get("GONE_SECONDS", "6"))
RATE: Final = 300


def end(process: psutil.Process) -> None:
    """At once, with all that it started."""
    for one in (*process.children(recursive=True), process):
        one.kill()


@contextmanager
def relay(environ: dict[str, str]) -> Iterator[psutil.Process]:
    """`manage.py relay` as a process."""
    process = subprocess.Popen([sys.executable, "manage.py", "relay"], cwd=ROOT, env=environ, stderr=subprocess.DEVNULL)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def server_of(plane: ControlPlane) -> psutil.Process:
    """The process that serves a control plane."""
    (found,) = (one for one in psutil.Process().children() if str(plane.port) in one.cmdline())
    return found


async def test_with_everything_else_gone_no_request_fails(
    environ: dict[str, str],
    server: FaultyRedis,
    postgres_server: Callable[..., FaultyPostgres],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    postgres = postgres_server()
    with (
        control_plane(postgres.url, REDIS_URL=server.url) as plane,
        relay(server_of(plane).environ()) as relaying,
        worker_process(environ, tmp_path) as process,
    ):
        value = "sk-good-0123456789abcdefghij"
        made = plane.request("POST", "/provider-keys", {"providerId": "openai", "name": "first", "value": value})
        assert made.status == 201, made.body
        keys = [plane.request("POST", "/access-keys", {}).json() for _ in range(3)]
        async with aiohttp.ClientSession() as session:
            client = Client(session, process.url)

            async def serves() -> bool:
                return {await client.status(key["token"]) for key in keys} == {200}

            await eventually(serves, within=30)
            deleted = keys.pop()
            assert plane.request("DELETE", f"/access-keys/{deleted['id']}").status == 204
            async with SteadyTraffic(process.url, [key["token"] for key in keys], rate=RATE) as traffic:
                await asyncio.sleep(0.5)
                end(server_of(plane))
                end(relaying)
                postgres.kill()
                server.kill()
                await asyncio.sleep(GONE_SECONDS)
                assert not (await client.readiness())["snapshot"]["isInSync"]
                assert await client.status(deleted["token"]) == 401
                statuses = await traffic.end()

    with capsys.disabled():
        print(f" ({traffic.statuses.total()} requests at {traffic.statuses.total() / traffic.seconds:.0f}/s)", end="")
    assert set(statuses) == {200}
