"""Holds: data_plane.state.snapshot_file

A worker that is restarted while Redis is away, with a snapshot file: good, damaged, or none.
"""

import asyncio
import time
from pathlib import Path

import aiohttp
import psutil
import pytest

from tests.patience import PATIENCE, eventually, stretched
from tests.servers import FaultyRedis
from tests.steady import SteadyTraffic
from tests.workers import ROOT, Client, Tenant, worker_process

pytestmark = pytest.mark.faults

# The promise is 2 s where the worker has a core; a test machine may give it none for a while, so its own work is timed.
WORKS_FOR_AT_MOST = 2.0


async def first_answer(client: Client, token: str, *, within: float = PATIENCE) -> int:
    """The status of the first answer that comes at all."""
    began = time.monotonic()
    while True:
        try:
            return await client.status(token)
        except aiohttp.ClientConnectionError:
            assert time.monotonic() - began < stretched(within), "it does not serve"
            await asyncio.sleep(0.01)


def one_file(directory: Path) -> Path:
    """The worker's file."""
    (file,) = directory.glob("*.snapshot")
    return file


async def test_a_restart_without_redis_serves_from_the_file_and_one_with_a_damaged_file_starts_all_the_same(
    environ: dict[str, str], server: FaultyRedis, alice: Tenant, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    directory = tmp_path / "snapshots"
    environ |= {"SNAPSHOT_DIRECTORY": str(directory)}
    shown, doomed, unseen = alice.token(), alice.token(), alice.token()

    def start(*, wait: bool = False):  # a context manager
        return worker_process(environ, tmp_path, wait=wait, code=ROOT)

    async with aiohttp.ClientSession() as session:
        with start(wait=True) as process:
            client = Client(session, process.url)
            assert await client.status(shown) == await client.status(doomed) == 200
            await eventually(lambda: list(directory.glob("*.snapshot")))
        alice.delete_token(doomed)
        await asyncio.sleep(1.2)  # until it is on Redis's disk
        server.kill()

        began = time.monotonic()
        with start() as process:
            client = Client(session, process.url)
            assert await first_answer(client, shown) == 200
            took, work = time.monotonic() - began, psutil.Process(process.process.pid).cpu_times()
            worked = work.user + work.system
            with capsys.disabled():
                print(f" (a restart from the file served after {took:.2f} s, {worked:.2f} s of them work)", end="")
            assert worked < WORKS_FOR_AT_MOST
            assert (await client.get("/readyz")).status == 200
            assert await client.status(unseen) == 503
            async with SteadyTraffic(process.url, [shown], rate=100) as traffic:
                await asyncio.sleep(0.5)
                server.restart()

                async def is_deleted() -> bool:
                    return await client.status(doomed) == 401

                await eventually(is_deleted)
            assert set(traffic.statuses) == {200}
            assert process.stop() == 0

        server.kill()
        good = one_file(directory).read_bytes()
        for damaged in (good[: len(good) // 2], good[:200] + bytes([good[200] ^ 1]) + good[201:]):
            one_file(directory).write_bytes(damaged)
            with start() as process:
                client = Client(session, process.url)
                assert await first_answer(client, shown) == 503
                assert (await client.get("/readyz")).status == 503
                assert process.log.read_text().count("a snapshot file was refused") == 1
