"""Holds: data_plane.state.follower, data_plane.http.server

Bad days of a worker: Redis gone, slow, empty, older; the worker stopped; a drain. Real processes, real faults.
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from gateway_core import tokens
from gateway_core.snapshot import Rule, Step
from local.stand_in import StandIn
from tests.patience import eventually, stretched
from tests.servers import FaultyRedis
from tests.workers import Client, SnapshotWriter, Tenant, WorkerProcess, name_of, worker_process

pytestmark = pytest.mark.faults

GOOD = "sk-good-0123456789abcdefghij"


class Traffic:
    """Requests that go on while a test does its harm."""

    def __init__(self, client: Client, *shown: str) -> None:
        self.statuses: list[int] = []
        self._is_over = False
        self._client = client
        self._tasks = [asyncio.create_task(self._ask(token)) for token in shown]

    async def _ask(self, token: str) -> None:
        while not self._is_over:
            self.statuses.append(await self._client.status(token))
            await asyncio.sleep(0.01)

    def cancel(self) -> None:
        """Stop at once, for a test that failed."""
        for task in self._tasks:
            task.cancel()

    async def end(self) -> dict[int, int]:
        """Stop; how often each status came."""
        self._is_over = True
        await asyncio.gather(*self._tasks)
        return {status: self.statuses.count(status) for status in set(self.statuses)}


@pytest.fixture
async def ask_on(client: Client) -> AsyncIterator[Callable[..., Traffic]]:
    """Begin traffic: `traffic = ask_on(token, token)`, two callers who ask again and again."""
    begun: list[Traffic] = []

    def begin(*shown: str) -> Traffic:
        begun.append(Traffic(client, *shown))
        return begun[-1]

    yield begin
    for traffic in begun:
        traffic.cancel()


async def position(client: Client) -> int:
    """How far the worker has got."""
    return int((await client.readiness())["snapshot"]["position"])


async def is_in_sync(client: Client) -> bool:
    """Whether it says so."""
    return bool((await client.readiness())["snapshot"]["isInSync"])


async def reaches(client: Client, number: int) -> None:
    """Wait until it has passed a publication."""

    async def has_reached() -> bool:
        return await position(client) >= number

    await eventually(has_reached)


async def test_redis_stopped_under_traffic_costs_no_request_and_no_valid_key_a_401(
    client: Client, server: FaultyRedis, alice: Tenant, ask_on: Callable[..., Traffic]
):
    known, fresh = alice.token(), alice.token(publish=False)
    document = alice.token_document()
    alice.publish({name_of(fresh): document})
    assert await client.status(known) == 200
    unseen = [alice.writer.tenant().token() for _ in range(3)]
    # Known not to exist; by and by it may, and nobody could tell the worker.
    unknown = alice.token(publish=False)
    assert await client.status(unknown) == 401
    traffic = ask_on(known, known)

    server.kill()
    await asyncio.sleep(3)
    away = [(await client.chat(token)).status for token in unseen]
    unknown_away = await client.status(unknown)
    readiness = await client.readiness()
    server.restart()

    async def serves_again() -> bool:
        return await client.status(unseen[0], model="nobody:x") == 404

    await eventually(serves_again)
    assert await traffic.end() == {200: len(traffic.statuses)}
    assert len(traffic.statuses) > 100
    assert away == [503, 503, 503]
    assert unknown_away == 503
    assert not readiness["snapshot"]["isInSync"]
    assert readiness["status"] == "ok"


async def test_redis_that_answers_nothing_costs_no_request(
    client: Client, server: FaultyRedis, alice: Tenant, ask_on: Callable[..., Traffic]
):
    known, unseen = alice.token(), alice.writer.tenant().token()
    assert await client.status(known) == 200
    traffic = ask_on(known, known)

    server.pause()
    try:
        await asyncio.sleep(1)
        began = time.monotonic()
        answer = await client.chat(unseen)
        took = time.monotonic() - began
        await asyncio.sleep(2)
    finally:
        server.resume()

    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert took < stretched(8)
    assert set(await traffic.end()) == {200}

    async def serves_again() -> bool:
        return await client.status(unseen, model="nobody:x") == 404

    await eventually(serves_again)


async def test_redis_flushed_under_traffic_serves_what_was_known_and_takes_in_the_rebuilt_state(
    client: Client, server: FaultyRedis, writer: SnapshotWriter, alice: Tenant, ask_on: Callable[..., Traffic]
):
    kept, deleted = alice.token(), alice.token()
    unseen = alice.token(publish=False)
    assert await client.status(kept) == await client.status(deleted) == 200
    images = {key: writer.redis.dump(key) for key in writer.redis.scan_iter("*")}
    gone = writer.names.token(tokens.digest(deleted))
    number = int(writer.redis.hget(writer.names.epoch, "number") or 0)
    traffic = ask_on(kept, kept)

    server.flush()
    await asyncio.sleep(2.5)
    assert await client.status(unseen) == 503
    assert await client.status(deleted) == 200
    # A rebuild: a new epoch, incomplete until everything is there but what PostgreSQL has deleted meanwhile.
    writer.begin_epoch(number=number, is_complete=False)
    for key, image in images.items():
        if key.decode() not in {gone, writer.names.epoch, writer.names.changes} and b":workers" not in key:
            writer.redis.restore(key, 0, image, replace=True)
    await asyncio.sleep(0.5)
    assert await client.status(unseen) == 503
    writer.complete_epoch()

    async def is_deleted() -> bool:
        return await client.status(deleted) == 401

    await eventually(is_deleted)
    assert await client.status(unseen) == 401
    assert set(await traffic.end()) == {200}


async def test_an_older_replica_promoted_brings_nothing_old_back(
    client: Client,
    server: FaultyRedis,
    writer: SnapshotWriter,
    alice: Tenant,
    upstream: StandIn,
    ask_on: Callable[..., Traffic],
):
    key = alice.keys("sk-leaked-0123456789abcdefgh")[0]
    rule = Rule(provider="openai", steps=(Step(type="user", keys=(key,)),))
    token, doomed = alice.token(configuration=alice.configuration(rule)), alice.token()
    assert await client.status(token) == await client.status(doomed) == 200
    older = {name: writer.redis.dump(name) for name in writer.redis.scan_iter("*") if b":workers" not in name}
    alice.rotate(key, GOOD)
    created = alice.token()
    await reaches(client, alice.delete_token(doomed))
    assert await client.status(created) == 200
    traffic = ask_on(token, created)

    server.flush()
    for name, image in older.items():
        writer.redis.restore(name, 0, image, replace=True)

    async def has_refused() -> bool:
        return bool((await client.readiness())["snapshot"]["refusals"])

    await eventually(has_refused)
    seen = len(upstream.keys)
    await asyncio.sleep(1)
    assert await client.status(doomed) == 401
    assert set(await traffic.end()) == {200}
    assert "sk-leaked-0123456789abcdefgh" not in upstream.keys[seen:]
    # What was never seen here cannot be judged by a Redis that has lost something.
    assert await client.status(alice.token(publish=False)) == 503


async def test_beyond_its_staleness_a_worker_serves_nobody_and_says_so(
    environ: dict[str, str], server: FaultyRedis, alice: Tenant, tmp_path: Path
):
    token = alice.token()
    with worker_process(environ | {"SNAPSHOT_STALENESS": "3"}, tmp_path) as process:
        async with aiohttp.ClientSession() as session:
            client = Client(session, process.url)
            assert await client.status(token) == 200
            server.kill()
            await asyncio.sleep(1)
            assert await client.status(token) == 200

            async def is_stale() -> bool:
                return (await client.chat(token)).status == 503

            await eventually(is_stale)
            answer = await client.chat(token)
            readiness = await client.get("/readyz")
            server.restart()

            async def serves_again() -> bool:
                return await client.status(token) == 200

            await eventually(serves_again)
    assert answer.code == "snapshot_stale"
    assert readiness.status == 503


async def test_a_fresh_worker_without_redis_is_alive_and_not_ready(
    environ: dict[str, str], server: FaultyRedis, alice: Tenant, tmp_path: Path
):
    token = alice.token()
    server.kill()
    with worker_process(environ, tmp_path, wait=False) as process:
        async with aiohttp.ClientSession() as session:
            client = Client(session, process.url)

            async def is_alive() -> bool:
                try:
                    return (await client.get("/healthz")).status == 200
                except aiohttp.ClientError:
                    return False

            await eventually(is_alive)
            assert (await client.get("/readyz")).status == 503
            assert await client.status(token) == 503
            server.restart()

            async def serves() -> bool:
                return await client.status(token) == 200

            await eventually(serves)
            assert (await client.get("/readyz")).status == 200


async def test_an_epoch_that_is_not_complete_makes_a_fresh_worker_wait(
    environ: dict[str, str], writer: SnapshotWriter, alice: Tenant, tmp_path: Path
):
    token = alice.token()
    writer.begin_epoch(is_complete=False)
    with worker_process(environ, tmp_path, wait=False) as process:
        async with aiohttp.ClientSession() as session:
            client = Client(session, process.url)

            async def answers() -> bool:
                with contextlib.suppress(aiohttp.ClientError):
                    return await client.status(token) == 503
                return False

            await eventually(answers)
            assert (await client.get("/readyz")).status == 503
            writer.complete_epoch()

            async def serves() -> bool:
                return await client.status(token) == 200

            await eventually(serves)


async def test_a_worker_that_was_paused_catches_up_when_it_wakes(process: WorkerProcess, client: Client, alice: Tenant):
    token, doomed = alice.token(), alice.token()
    assert await client.status(token) == await client.status(doomed) == 200

    process.process.send_signal(signal.SIGSTOP)
    number = alice.delete_token(doomed)
    for _ in range(50):
        number = alice.settings(total_timeout="77s")
    await asyncio.sleep(3)
    process.process.send_signal(signal.SIGCONT)

    await reaches(client, number)
    assert await client.status(doomed) == 401
    assert await client.status(token) == 200


async def test_sigterm_lets_what_is_in_flight_end_and_takes_leave_of_redis(
    process: WorkerProcess, client: Client, writer: SnapshotWriter, alice: Tenant, upstream: StandIn
):
    token = alice.token()
    upstream.pause = 0.3
    streaming = asyncio.create_task(client.chat(token, stream=True))
    await eventually(lambda: upstream.calls)
    assert writer.redis.hlen(writer.names.workers) == 1

    process.process.send_signal(signal.SIGTERM)
    answer = await streaming

    assert answer.body.endswith(b"data: [DONE]\n\n")
    await eventually(lambda: process.process.poll() is not None)
    assert process.process.returncode == 0
    assert not writer.redis.exists(writer.names.workers)


async def test_a_drain_that_runs_out_ends_streams_in_an_error_event(
    environ: dict[str, str], alice: Tenant, upstream: StandIn, tmp_path: Path
):
    token = alice.token()
    upstream.pause, upstream.events = 0.2, 1000
    with worker_process(environ | {"DRAIN_TIMEOUT": "1"}, tmp_path) as process:
        async with aiohttp.ClientSession() as session:
            client = Client(session, process.url)
            streaming = asyncio.create_task(client.chat(token, stream=True))
            await eventually(lambda: upstream.calls)
            await asyncio.sleep(0.5)
            process.process.send_signal(signal.SIGTERM)
            answer = await streaming
        await eventually(lambda: process.process.poll() is not None)

    assert b'"code":"shutting_down"' in answer.body
    assert b"[DONE]" not in answer.body
    await eventually(lambda: upstream.cut_off == 1)


def test_what_is_logged_is_json_without_secrets_in_production(
    environ: dict[str, str], alice: Tenant, writer: SnapshotWriter, tmp_path: Path
):
    token = alice.token()
    writer.redis.set(writer.names.token(tokens.digest(token)), f"{GOOD} {token}")
    with worker_process(environ | {"GATEWAY_MODE": "production"}, tmp_path) as process:

        async def ask() -> None:
            async with aiohttp.ClientSession() as session:
                await Client(session, process.url).chat(token)

        asyncio.run(ask())
        process.stop()
        lines = process.log.read_text().splitlines()

    told: list[Any] = [msgspec.json.decode(line) for line in lines]
    assert any(one["event"] == "a document was refused" for one in told)
    for secret in (GOOD, token, environ["SEALING_PRIVATE_KEYS"], environ["REDIS_URL"]):
        assert secret not in "\n".join(lines)
