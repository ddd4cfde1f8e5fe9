"""Holds: snapshots.waiting, snapshots.workers

A write that waits for the workers: what it says is so at each of them, and a silent one is told apart. All real.
"""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from redis import Redis

from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from snapshots import rebuild
from snapshots.redis_client import patient_store
from snapshots.workers import forget_worker, read_workers
from tests.faults.test_usage_end_to_end import upstream
from tests.fixtures import Api, open_account
from tests.patience import stretched, wait_until
from tests.workers import WorkerProcess, worker_process

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

__all__ = ["upstream"]

APPLIED = "Gateway-Snapshot-Applied"


@pytest.fixture
def api() -> Api:
    """A client of an account with a provider key, published."""
    account, principal, api = open_account("Alice's")
    create_provider_key(
        account=account, by=principal, provider_id="openai", name="own", value=PlainValue("sk-demo-good-0123456789")
    )
    rebuild.rebuild(patient_store())
    return api


@pytest.fixture
def start_workers(
    api: Api, sealing_private_key: str, upstream: str, tmp_path: Path
) -> Iterator[Callable[..., list[WorkerProcess]]]:
    """Start worker processes, ready and in the count."""
    with ExitStack() as workers:

        def start(count: int, **environment: str) -> list[WorkerProcess]:
            environ = {
                "GATEWAY_MODE": "evaluation",
                "REDIS_URL": settings.REDIS_URL,
                "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
                "SEALING_PRIVATE_KEYS": sealing_private_key,
                "UPSTREAM_BASE_URLS": f"openai={upstream}",
                **environment,
            }
            made = [workers.enter_context(worker_process(environ, tmp_path, wait=False)) for _ in range(count)]
            wait_until(lambda: len(read_workers().reports) == count, what="all are in the count")
            wait_until(lambda: all(is_ready(one) for one in made), what="all are ready")
            return made

        yield start


def is_ready(worker: WorkerProcess) -> bool:
    try:
        with urllib.request.urlopen(f"{worker.url}/readyz", timeout=5):
            return True
    except OSError:
        return False


def ask(worker: WorkerProcess, token: str) -> int:
    """The status of a request."""
    request = urllib.request.Request(
        f"{worker.url}/v1/chat/completions",
        data=json.dumps({"model": "openai:gpt-4o", "messages": []}).encode(),
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returned, and how long it took."""
    began = time.monotonic()
    return call(), time.monotonic() - began


def test_a_silent_worker_stays_in_the_count_and_one_that_leaves_does_not(
    api: Api, start_workers: Callable[..., list[WorkerProcess]], redis: "Redis"
) -> None:
    stopped, killed, ended = start_workers(3)
    by_port = {report.process: report.id for report in read_workers().reports}

    def write(wait: int) -> tuple[str, str]:
        made = api.post("/access-keys", {}, prefer=f"wait={wait}")
        return made[APPLIED], made["Preference-Applied"]

    assert write(10) == ("3/3", "wait=10")

    stopped.process.send_signal(signal.SIGSTOP)
    told, seconds = timed(lambda: write(2))
    assert told == ("2/3", "wait=2")
    assert 1.9 < seconds < stretched(8)
    stopped.process.send_signal(signal.SIGCONT)
    assert write(10)[0] == "3/3"

    killed.stop(signal.SIGKILL)
    assert write(1)[0] == "2/3"
    assert forget_worker(by_port[killed.process.pid])
    assert write(10)[0] == "2/2"

    ended.stop(signal.SIGTERM)
    assert write(10)[0] == "1/1"

    redis.flushall()
    rebuild.rebuild(patient_store())
    wait_until(lambda: write(1)[0] == "1/1", what="it has come back by itself")


def test_a_worker_that_was_killed_leaves_the_count_when_it_would_have_refused_everything(
    api: Api, start_workers: Callable[..., list[WorkerProcess]]
) -> None:
    (worker,) = start_workers(1, SNAPSHOT_STALENESS="1")
    worker.stop(signal.SIGKILL)

    made = api.post("/access-keys", {}, prefer="wait=1")
    assert made[APPLIED] == "0/1"

    wait_until(lambda: not read_workers().reports, what="it has left the count")


def test_no_deleted_key_gets_through_once_its_deletion_has_answered(
    api: Api, start_workers: Callable[..., list[WorkerProcess]]
) -> None:
    workers = start_workers(2)
    kept = api.post("/access-keys", {}).json()["token"]
    doomed = [api.post("/access-keys", {}, prefer="wait=0").json() for _ in range(30)]
    for key in doomed:
        assert [ask(worker, key["token"]) for worker in workers] == [200, 200]
    statuses: list[int] = []
    is_over = threading.Event()

    def ask_on(worker: WorkerProcess) -> None:
        while not is_over.is_set():
            statuses.append(ask(worker, kept))

    callers = [threading.Thread(target=ask_on, args=(worker,)) for worker in workers for _ in range(2)]
    for caller in callers:
        caller.start()
    try:
        for key in doomed:
            deleted = api.delete(f"/access-keys/{key['id']}")
            after = [ask(worker, key["token"]) for worker in workers]
            assert (deleted.status_code, deleted[APPLIED], after) == (204, "2/2", [401, 401])
    finally:
        is_over.set()
        for caller in callers:
            caller.join()

    assert set(statuses) == {200}
