"""Holds: gateway_core.redis_rights, snapshots.management.commands.redis_acl

Every process runs under its own rights in Redis, and Redis refuses none of them anything: publish, follow, report,
usage, ingest, rebuild, rotation, comparison. And Redis refuses each what it has no need of.
"""

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import call_command
from django.test import Client
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from accounts.models import Account
from gateway_core import snapshot
from gateway_core.redis_rights import RIGHTS, acl_rules
from snapshots import rebuild, workers
from snapshots.models import WHOLE_ACCOUNT, Change, Epoch
from snapshots.publisher import pause
from snapshots.redis_client import PATIENT_SECONDS, SnapshotRedis, inline_store, keys, patient_store
from snapshots.upkeep import Upkeep
from tests.faults.conftest import Program
from tests.fixtures import Api
from tests.gateway_run import stand_in
from tests.patience import wait_until
from tests.servers import FaultyRedis
from tests.snapshots.rows import differences
from tests.workers import WorkerProcess, worker_process
from usage import limit_rounds
from usage.ingest import Ingest, forget_consumers

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

VALUE = "sk-demo-0123456789abcdefghij"


class Users:
    """The users of one Redis, made as an operator makes them."""

    def __init__(self, server: FaultyRedis) -> None:
        self.server = server
        self.admin: Any = Redis.from_url(server.url)
        for line in self._printed():
            # As redis-cli splits it.
            self.admin.execute_command(*line.split(" "))
        for process in RIGHTS:
            self.admin.execute_command("ACL", "SETUSER", f"gw-{process}", f">password-of-{process}")
        self.admin.execute_command("ACL", "LOG", "RESET")

    def _printed(self) -> list[str]:
        is_old = int(self.admin.info("server")["redis_version"].split(".")[0]) < 7
        output = StringIO()
        call_command("redis_acl", *(["--redis-6"] if is_old else []), stdout=output)
        return output.getvalue().splitlines()

    def url(self, process: str) -> str:
        """A process's REDIS_URL."""
        return f"redis://gw-{process}:password-of-{process}@127.0.0.1:{self.server.port}/0"

    def refused(self) -> list[tuple[str, str]]:
        """What Redis has refused since the beginning: (user, command or key)."""
        return [(entry["username"], entry["object"]) for entry in self.admin.acl_log(count=100)]


@pytest.fixture
def users(redis_server: Callable[..., FaultyRedis], settings: LazySettings) -> Iterator[Users]:
    """A Redis with the users of every process; this process is the control plane."""
    found = Users(redis_server(throwaway=True))
    settings.REDIS_URL = found.url("control-plane")
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()
    pause.end()
    yield found
    found.admin.close()
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()


def ask(worker: WorkerProcess, token: str) -> int:
    """A chat completion's status."""
    request = urllib.request.Request(
        f"{worker.url}/v1/chat/completions",
        json.dumps({"model": "openai:gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}).encode(),
        {"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code


def ask_beside(relay: SnapshotRedis, worker: WorkerProcess, token: str) -> int:
    """A chat completion's status, while the relay begins the counts of limits that the worker misses."""
    with ThreadPoolExecutor(1) as caller:
        asked = caller.submit(ask, worker, token)
        wait_until(lambda: limit_rounds.open_wanted(relay.redis) >= 0 and asked.done(), what="an answer")
        return asked.result()


def test_every_process_does_its_work_and_is_refused_nothing(
    users: Users,
    account: Account,
    api: Api,
    sealing_private_key: str,
    child: Program,
    tmp_path: Path,
    settings: LazySettings,
) -> None:
    relay = SnapshotRedis(users.url("relay"), timeout=PATIENT_SECONDS)
    upkeep = Upkeep(relay, threading.Event())
    upkeep.reconcile()
    assert Epoch.objects.get().completed_at
    key = api.post("/provider-keys", {"providerId": "openai", "name": "team", "value": VALUE}).json()
    limits = [{"measure": "cost", "amount": "5", "window": "day"}]
    limited = api.post("/access-keys", {"name": "app", "limits": limits}).json()
    token = limited["token"]
    assert not Change.objects.exists()
    environ = {
        "GATEWAY_MODE": "evaluation",
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
        "REDIS_URL": users.url("data-plane"),
        "LOADING_SPREAD": "0",
    }
    child("-m", "celery", "-A", "gateway_admin", "worker", "--concurrency", "1", "--without-gossip", "--without-mingle",
          REDIS_URL=users.url("celery"), CATALOG_REFRESH="false")  # fmt: skip
    child("-m", "celery", "-A", "gateway_admin", "beat", "--schedule", str(tmp_path / "schedule"),
          REDIS_URL=users.url("beat"))  # fmt: skip
    with (
        stand_in() as upstream,
        worker_process(environ | {"UPSTREAM_BASE_URLS": f"openai={upstream}/v1"}, tmp_path) as worker,
    ):
        assert ask_beside(relay, worker, token) == 200

        # Rotation, with the count of workers that have applied it; usage as Celery has ingested it.
        rotated = api.post(
            f"/provider-keys/{key['id']}/rotate", {"name": "team", "value": VALUE + "k"}, prefer="wait=10"
        )
        assert rotated.headers["gateway-snapshot-applied"] == "1/1"
        assert ask(worker, token) == 200
        start = "2020-01-01T00:00:00Z"
        wait_until(
            lambda: len(api.get(f"/usage?startTime={start}").json()["aiGatewayUsage"]) == 2, what="Celery ingests"
        )
        wait_until(
            lambda: float(api.get(f"/access-keys/{limited['id']}").json()["limits"][0]["used"]) > 0,
            what="what was used is counted",
        )
        limit_rounds.send(relay.redis)
        # Whatever else the control plane and the relay do.
        assert Client().get("/readyz").status_code == 200
        assert b"gateway_redis_takes_writes 1.0" in Client().get("/metrics").content
        assert len(workers.read_workers().reports) == 1
        Change.objects.create(account=account, document=WHOLE_ACCOUNT)
        users.admin.delete(keys().catalog)
        users.admin.set(keys().acknowledged, "x")
        for look in (
            upkeep.sweep, upkeep.reconcile, upkeep.repair_accounts, upkeep.compare_versions, upkeep.compare_documents,
            upkeep.forget_silent_workers,
        ):  # fmt: skip
            look()
        rebuild.rebuild(relay)
        Ingest(relay.redis).run(seconds=1)
        celery = SnapshotRedis(users.url("celery"), timeout=PATIENT_SECONDS)
        forget_consumers(celery.redis)
        assert ask_beside(relay, worker, token) == 200
        wait_until(lambda: workers.read_workers().reports[0].epoch == str(Epoch.objects.get().id), what="it follows")
        # Reports are signed: somebody else's field in them is thrown out.
        users.admin.hset(keys().workers, "somebody", "x")
        upkeep.forget_silent_workers()
    assert workers.read_workers().reports == ()
    settings.REDIS_URL = users.url("relay")
    patient_store.cache_clear()
    assert differences() == []

    assert users.refused() == []


FORBIDDEN: Any = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("KEYS", "*"),
    ("ACL", "LIST"),
    ("SHUTDOWN",),
    ("SLOWLOG", "GET"),
    ("REPLICAOF", "NO", "ONE"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("MONITOR",),
    ("SAVE",),
    ("EVAL", "return 1", "0"),
    ("FUNCTION", "LIST"),
    ("MODULE", "LIST"),
    ("RENAME", "a", "b"),
    ("MIGRATE", "h", "1", "k", "0", "1"),
    ("SUBSCRIBE", "x"),
    ("PUBLISH", "x", "y"),
    ("GET", "another"),
    ("SET", "another", "x"),
    ("GET", "{other}:token:x"),
    ("HSET", "{other}:account:x", "settings", "x"),
]
OF_WORKERS: list[tuple[str, ...]] = [
    ("SET", "{gw}:token:x", "x"),
    ("DEL", "{gw}:token:x"),
    ("HSET", "{gw}:account:x", "settings", "x"),
    ("HDEL", "{gw}:account:x", "settings"),
    ("HSET", "{gw}:epoch", "number", "1"),
    ("HSET", "{gw}:catalog", "models", "x"),
    ("XADD", "{gw}:changes", "*", "account", "x"),
    ("DEL", "{gw}:workers"),
    ("UNLINK", "{gw}:usage"),
    ("DEL", "{gw}:limits"),
    ("LPUSH", "{gw}:celery:tasks", "x"),
    ("XREAD", "STREAMS", "{gw}:celery:tasks", "0"),
    ("XGROUP", "CREATE", "{gw}:usage", "g", "0"),
]
OF_OTHERS: Any = {
    "data-plane": OF_WORKERS,
    "beat": [
        ("GET", "{gw}:token:x"),
        ("HGET", "{gw}:account:x", "version"),
        ("HSET", "{gw}:account:x", "settings", "x"),
    ],
    "control-plane": [("LPUSH", "{gw}:celery:tasks", "x"), ("XADD", "{gw}:usage", "*", "a", "b"), ("SCAN", "0")],
    "celery": [("HSET", "{gw}:workers", "x", "x"), ("SCAN", "0")],
    "relay": [("LPUSH", "{gw}:celery:tasks", "x"), ("BRPOP", "{gw}:celery:tasks", "1")],
}


@pytest.mark.parametrize("process", RIGHTS)
def test_a_process_may_do_nothing_else(users: Users, process: str) -> None:
    allowed = []
    with Redis.from_url(users.url(process)) as client:
        for command in (*FORBIDDEN, *OF_OTHERS[process]):
            try:
                client.execute_command(*command)
            except NoPermissionError:
                continue
            except ResponseError as fault:
                # A server of another age does not know the command.
                if "unknown" in str(fault).lower():
                    continue
                raise
            allowed.append(command)

    assert allowed == []


def test_the_printed_rules_keep_passwords_and_take_back_what_was_given_by_hand(users: Users) -> None:
    users.admin.execute_command("ACL", "SETUSER", "gw-data-plane", "+@all", "~*")

    for line in users._printed():
        users.admin.execute_command(*line.split(" "))

    with Redis.from_url(users.url("data-plane")) as client:
        assert client.ping()
        with pytest.raises(NoPermissionError):
            client.set("{gw}:token:x", "x")


def test_a_namespace_is_taken_literally(users: Users) -> None:
    users.admin.execute_command("ACL", "SETUSER", "odd", *tuple(acl_rules("g*", "data-plane")), ">odd")
    with Redis.from_url(f"redis://odd:odd@127.0.0.1:{users.server.port}/0") as client:
        client.execute_command("HSET", "{g*}:workers", "x", "x")
        with pytest.raises(NoPermissionError):
            client.execute_command("HSET", "{gw}:workers", "x", "x")


def test_every_key_of_the_snapshot_has_a_process_that_writes_it() -> None:
    names = vars(snapshot.Keys("gw"))
    fixed = {name.removeprefix("{gw}:") for field, name in names.items() if field != "prefix"}

    written = {name for rights in RIGHTS.values() for name in rights.writes}

    assert fixed <= written
