"""Holds: snapshots.upkeep, snapshots.refused_documents, gateway_core.redis_errors, data_plane.state

The corpus of hostile states of Redis, each made under traffic, with a relay and a worker as processes of their own.
Each heals within 60 s without a rebuild, writes are taken meanwhile, and no request of a held access key fails.
"""

import asyncio
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from redis import Redis
from redis.exceptions import RedisError

from accounts.models import Account
from gateway_core import tokens
from snapshots import comparison, workers
from snapshots.models import Change, Epoch
from snapshots.publisher import pause
from snapshots.redis_client import inline_store, keys, patient_store
from tests import tiers
from tests.faults.conftest import Program, child
from tests.fixtures import Api
from tests.gateway_run import stand_in
from tests.patience import wait_until
from tests.servers import DebianRedis, FaultyRedis
from tests.steady import SteadyTraffic
from tests.workers import WorkerProcess, worker_process

__all__ = ["child"]

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

RATE = tiers.number(50, full=200)
HUGE = bytes(tiers.number(20, full=100) * 1024 * 1024)
VALUE = "sk-demo-0123456789abcdefghij"
TYPES: dict[str, Callable[[Any, str], object]] = {
    "string": lambda redis, key: redis.set(key, "x"),
    "list": lambda redis, key: redis.rpush(key, "x"),
    "set": lambda redis, key: redis.sadd(key, "x"),
    "sorted set": lambda redis, key: redis.zadd(key, {"x": 1}),
    "hash": lambda redis, key: redis.hset(key, "x", "x"),
    "stream": lambda redis, key: redis.xadd(key, {"x": "x"}),
}
OWN = {"epoch": "hash", "changes": "stream", "catalog": "hash", "workers": "hash", "acknowledged": "stream"} | {
    "usage": "stream", "account": "hash", "held token": "string", "new token": "string"
}  # fmt: skip


class Traffic(threading.Thread):
    """Steady requests of held access keys, in a thread beside the test."""

    def __init__(self, url: str, shown: list[str]) -> None:
        super().__init__()
        self._url, self._shown = url, shown
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()
        self.statuses: dict[int, int] = {}

    def run(self) -> None:
        """Ask until ended."""
        self._loop.run_until_complete(self._ask())
        self._loop.close()

    async def _ask(self) -> None:
        async with SteadyTraffic(self._url, self._shown, rate=RATE) as traffic:
            await self._is_over.wait()
            self.statuses = await traffic.end()

    def end(self) -> dict[int, int]:
        """How often each status came."""
        self._loop.call_soon_threadsafe(self._is_over.set)
        self.join()
        return self.statuses


class Deployment:
    """A control plane (this process), a relay, a worker and a Redis."""

    def __init__(self, api: Api, account: Account, server: FaultyRedis, worker: WorkerProcess) -> None:
        self.api, self.account, self.server, self.worker = api, account, server, worker
        self.redis: Any = Redis.from_url(server.url)
        self.held = [self.issue() for _ in range(3)]

    def issue(self) -> str:
        """A new access key's token."""
        answer = self.api.post("/access-keys", {"name": "app"}, prefer="wait=0")
        assert answer.status_code == 201, answer.content
        return str(answer.json()["token"])

    def ask(self, token: str) -> int:
        """A request's status."""
        body = {"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.worker.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refusal:
            return refusal.code

    def key(self, name: str, new: str) -> str:
        """A key in Redis by its name in the corpus."""
        match name:
            case "account":
                return keys().account(self.account.text_id)
            case "held token":
                return keys().token(tokens.digest(self.held[0]))
            case "new token":
                return keys().token(tokens.digest(new))
        return str(getattr(keys(), name))

    def is_well(self) -> bool:
        """Whether Redis is what PostgreSQL says, and the worker has all of it."""
        try:
            found = workers.read_workers()
            return (
                not Change.objects.exists()
                and list(comparison.compare(patient_store())) == []
                and [(report.is_in_sync, found.lag_of(report), report.behind) for report in found.reports]
                == [(True, 0, ())]
            )
        except RedisError:
            return False

    def heals(self, what: str, *, new: str | None = None) -> None:
        """Wait until a write is in force and all is well again: within 60 s."""
        written = self.issue()
        shown = [written] if new is None else [written, new]
        wait_until(
            lambda: all(self.ask(token) == 200 for token in shown) and self.is_well(), what=f"{what} heals", within=60
        )


@pytest.fixture(params=[FaultyRedis, pytest.param(DebianRedis, marks=pytest.mark.full)], ids=["valkey", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[FaultyRedis]:
    """A Redis to do harm to."""
    with request.param(throwaway=True) as found:
        yield found


@pytest.fixture
def deployment(
    server: FaultyRedis,
    account: Account,
    api: Api,
    child: Program,
    settings: LazySettings,
    sealing_private_key: str,
    tmp_path: Path,
) -> Iterator[Deployment]:
    """All of it, in sync."""
    settings.REDIS_URL = server.url
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()
    pause.end()
    child("manage.py", "relay", REDIS_URL=server.url)
    wait_until(lambda: Epoch.objects.filter(completed_at__isnull=False).exists(), what="the relay begins the epoch")
    environ = {
        "GATEWAY_MODE": "evaluation",
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
        "REDIS_URL": server.url,
        "LOADING_SPREAD": "0",
    }
    with (
        stand_in() as upstream,
        worker_process(environ | {"UPSTREAM_BASE_URLS": f"openai={upstream}/v1"}, tmp_path) as worker,
    ):
        api.post("/provider-keys", {"providerId": "openai", "name": "team", "value": VALUE})
        found = Deployment(api, account, server, worker)
        wait_until(lambda: all(found.ask(token) == 200 for token in found.held), what="access keys are held")
        yield found
        found.redis.close()
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()


def no_memory(redis: Any) -> Callable[[], object]:
    """Redis is full."""
    redis.config_set("maxmemory", "1")
    return lambda: redis.config_set("maxmemory", "0")


def a_replica(redis: Any) -> Callable[[], object]:
    """Redis became a replica."""
    redis.replicaof("127.0.0.1", 1)
    return lambda: redis.replicaof("NO", "ONE")


def a_failed_save(redis: Any) -> Callable[[], object]:
    """Redis could not write its file, and so takes no writes."""
    redis.config_set("save", "3600 1")
    directory = Path(redis.config_get("dir")["dir"])
    away = directory.with_name("away")
    directory.rename(away)
    # Its own user may not write there any more.
    away.chmod(0o500)
    with suppress(RedisError):
        redis.bgsave()
    wait_until(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err", what="the save fails")

    def mend() -> None:
        away.chmod(0o700)
        away.rename(directory)
        redis.config_set("save", "")
        redis.bgsave()
        wait_until(lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "ok", what="the save succeeds")

    return mend


def no_rights(redis: Any) -> Callable[[], object]:
    """The user of all processes lost rights."""
    redis.execute_command("ACL", "SETUSER", "default", "-xadd", "-hset")
    return lambda: redis.execute_command("ACL", "SETUSER", "default", "+xadd", "+hset")


def test_every_hostile_state_heals_under_traffic(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    redis, epoch = deployment.redis, Epoch.objects.get().id
    traffic = Traffic(deployment.worker.url, deployment.held)
    traffic.start()
    count = 0
    try:
        # Another type, in the place of each key: all at once, or one by one.
        kinds = list(TYPES)
        rounds = [
            [(name, kind)] for name, own in OWN.items() for kind in kinds if kind != own
        ] if tiers.is_full() else [
            # Not the epoch together with the stream: what is left of both then is nothing.
            [(name, "list") for name in OWN if name != "epoch"], [("epoch", "set")],
        ]  # fmt: skip
        for harm in rounds:
            new = deployment.issue()
            wait_until(lambda: not Change.objects.exists(), what="it is published")
            for name, kind in harm:
                key = deployment.key(name, new)
                redis.delete(key)
                TYPES[kind](redis, key)
                count += 1
            deployment.heals(f"another type: {harm}", new=new)

        # Numbers that are not the next, and entries that no publication wrote.
        identities = ("{now}-1", "{next}-0", "{next}-7", "{far}-0", "18446744073709551615-1")
        for identity in identities if tiers.is_full() else identities[::4]:
            now = int(redis.hget(keys().epoch, "number"))
            with suppress(RedisError):
                redis.xadd(
                    keys().changes,
                    {"account": deployment.account.text_id, "change": "x"},
                    id=identity.format(now=now, next=now + 1, far=now + 10_000),
                )
            count += 1
            deployment.heals(f"entry {identity}")

        # Huge and forged values.
        for value in (HUGE, b"", b"forged") if tiers.is_full() else (HUGE,):
            new = deployment.issue()
            wait_until(lambda: not Change.objects.exists(), what="it is published")
            redis.set(deployment.key("new token", new), value)
            redis.hset(deployment.key("account", new), "settings", value)
            redis.xadd(keys().usage, {"batch": value})
            redis.hset(keys().workers, "aigw_forged", value)
            now = redis.hincrby(keys().epoch, "number", 1)
            redis.xadd(keys().changes, {"account": deployment.account.text_id, "change": value}, id=f"{now}-0")
            count += 5
            deployment.heals(f"values of {len(value)} bytes", new=new)

        # A Redis that takes no writes for a while.
        for refuse in (no_memory, a_replica, a_failed_save, no_rights):
            mend = refuse(redis)
            try:
                new = deployment.issue()
                assert Change.objects.exists()
            finally:
                mend()
            count += 1
            deployment.heals(refuse.__name__, new=new)
    finally:
        statuses = traffic.end()

    with capsys.disabled():
        print(f" ({count} states, {sum(statuses.values())} requests)", end="")
    assert set(statuses) == {200}, statuses
    assert Epoch.objects.get().id == epoch
