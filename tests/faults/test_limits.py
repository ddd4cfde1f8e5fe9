"""Holds: usage.limit_rounds, account_settings.limit_counts, data_plane.limits

Limits through all processes: set by the API, held by workers, corrected by ingest, begun again after a loss of Redis.
"""

import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection

from snapshots.publisher import pause
from snapshots.redis_client import PATIENT_SECONDS, SnapshotRedis, inline_store, keys, patient_store
from snapshots.upkeep import Upkeep
from tests.fixtures import Api
from tests.gateway_run import stand_in
from tests.patience import wait_until
from tests.servers import FaultyRedis
from tests.workers import WorkerProcess, worker_process
from usage import limit_rounds
from usage.ingest import Ingest
from usage.models import Event

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

BODY = {"model": "openai:gpt-4o", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}


class Deployment:
    """A control plane in this process, its relay's and Celery's looks by hand, and a Redis to lose."""

    def __init__(self, server: FaultyRedis) -> None:
        self.server = server
        self.store = SnapshotRedis(server.url, timeout=PATIENT_SECONDS)
        self.upkeep = Upkeep(self.store, threading.Event())
        self.upkeep.reconcile()

    def look(self) -> None:
        """What the relay and Celery do again and again."""
        self.upkeep.reconcile()
        limit_rounds.open_wanted(self.store.redis)
        Ingest(self.store.redis).run(seconds=5)
        limit_rounds.send(self.store.redis)


@pytest.fixture
def deployment(redis_server: Callable[..., FaultyRedis], settings: LazySettings) -> Iterator[Deployment]:
    server = redis_server(throwaway=True)
    settings.REDIS_URL = server.url
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()
    pause.end()
    yield Deployment(server)
    for cached in (inline_store, patient_store, keys):
        cached.cache_clear()


@pytest.fixture
def looking(deployment: Deployment) -> Iterator[None]:
    """The relay and Celery, in a thread."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            deployment.look()
            stop.wait(0.1)
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    yield
    stop.set()
    thread.join()


@pytest.fixture
def worker(deployment: Deployment, sealing_private_key: str, tmp_path: Path) -> Iterator[WorkerProcess]:
    environ = {
        "GATEWAY_MODE": "evaluation",
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
        "REDIS_URL": deployment.server.url,
        "LOADING_SPREAD": "0",
    }
    with (
        stand_in() as upstream,
        worker_process(environ | {"UPSTREAM_BASE_URLS": f"openai={upstream}/v1"}, tmp_path) as found,
    ):
        yield found


def ask(worker: WorkerProcess, token: str) -> tuple[int, str]:
    """A chat completion's status, and the error's code."""
    request = urllib.request.Request(
        f"{worker.url}/v1/chat/completions",
        json.dumps(BODY).encode(),
        {"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status), ""
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.loads(refusal.read())["error"]["code"]


def made(api: Api, *limits: Any) -> Any:
    api.post("/provider-keys", {"providerId": "openai", "name": "team", "value": "sk-demo-0123456789abcdefghij"})
    return api.post("/access-keys", {"name": "app", "limits": limits}).json()


def used(api: Api, key: Any) -> Any:
    return api.get(f"/access-keys/{key['id']}").json()["limits"][0].get("used")


def test_what_is_used_is_the_sum_of_the_usage(api: Api, worker: WorkerProcess, looking: None) -> None:
    key = made(api, {"measure": "cost", "amount": "1", "window": "month"})

    assert [ask(worker, key["token"])[0] for _ in range(5)] == [200] * 5

    wait_until(lambda: Event.objects.count() == 5, what="the usage is written")
    spent = sum(Event.objects.values_list("cost", flat=True), Decimal(0))
    wait_until(lambda: used(api, key) == f"{spent:.5f}", what="the count is the sum")


def test_after_redis_has_lost_all_a_limit_goes_on_where_it_was(
    api: Api, worker: WorkerProcess, deployment: Deployment, looking: None
) -> None:
    key = made(api, {"measure": "requests", "amount": 8, "window": "day"})
    assert [ask(worker, key["token"])[0] for _ in range(5)] == [200] * 5
    wait_until(lambda: Event.objects.count() == 5, what="the usage is written")

    flushall: Any = deployment.store.redis.flushall
    flushall()

    answers: list[tuple[int, str]] = []

    def is_served() -> bool:
        answers.append(ask(worker, key["token"]))
        return answers.count((200, "")) == 3

    wait_until(is_served, what="it goes on")
    assert {answer for answer in answers if answer[0] != 200} <= {
        (503, "limits_unknown"),
        (503, "snapshot_unavailable"),
    }
    assert ask(worker, key["token"]) == (429, "limit_exceeded")
    wait_until(lambda: Event.objects.count() == 8, what="the usage is written")
    wait_until(lambda: used(api, key) == 8, what="the count is right again")


def test_a_limit_that_is_set_in_a_window_counts_what_was_used_in_it(
    api: Api, worker: WorkerProcess, looking: None
) -> None:
    key = made(api)
    assert [ask(worker, key["token"])[0] for _ in range(3)] == [200] * 3
    wait_until(lambda: Event.objects.count() == 3, what="the usage is written")

    limits = [{"measure": "requests", "amount": 4, "window": "day"}]
    api.patch(f"/access-keys/{key['id']}", {"limits": limits}, prefer="wait=10")

    assert [ask(worker, key["token"])[0] for _ in range(2)] == [200, 429]
