"""Holds: usage.ingest, data_plane.usage.emitter

From a caller to `/usage`, with real processes that are killed on the way: each attempt is there once.
"""

import json
import os
import signal
import urllib.request
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from redis import Redis

from accounts.models import Account
from gateway_core.envelopes import DocumentKeys
from gateway_core.sealing import SealingKey
from gateway_core.snapshot import Keys
from snapshots.redis_client import keys
from tests import nursery
from tests.faults.conftest import Program
from tests.fixtures import Api, open_account
from tests.patience import wait_until
from tests.servers import FaultyRedis
from tests.workers import SnapshotWriter, Tenant, WorkerProcess, free_port, worker_process
from usage import ledger
from usage.ingest import Ingest

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

# What they make of a request: the stand-in reads it out of its key.
KEYS = ("sk-demo-429-0123456789", "sk-demo-500-0123456789", "sk-demo-good-0123456789")
START = "2020-01-01T00:00:00Z"


@pytest.fixture
def upstream() -> Iterator[str]:
    """The stand-in, as a process."""
    port = free_port()
    process = nursery.Process("-m", "local.stand_in", "--port", str(port), env=os.environ)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"{url}/calls", timeout=2).close()
        except OSError:
            return False
        return True

    try:
        wait_until(answers, what="the stand-in answers")
        yield f"{url}/v1"
    finally:
        process.terminate()
        process.wait()


def tenant_of(account: Account, writer: SnapshotWriter) -> Tenant:
    tenant = Tenant(writer)
    tenant.id = account.text_id
    tenant.settings()
    return tenant


def ask(worker: WorkerProcess, token: str, *, stream: bool) -> tuple[str, int]:
    """One request, read to its end; its ID, and how many attempts it took: a key that failed is passed over a while."""
    request = urllib.request.Request(
        f"{worker.url}/v1/chat/completions",
        data=json.dumps({"model": "gpt-4o", "messages": [], "stream": stream}).encode(),
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
        return str(answer.headers["x-request-id"]), int(answer.headers["gateway-attempts"])


def listed(api: Api) -> list[dict[str, Any]]:
    query = urlencode({"startTime": START, "includeRetries": "true"})
    found: list[dict[str, Any]] = api.get(f"/usage?{query}").json()["aiGatewayUsage"]
    return found


def test_each_attempt_is_there_once_whatever_was_killed(
    child: Program,
    redis_server: Callable[..., FaultyRedis],
    sealing_private_key: str,
    upstream: str,
    tmp_path: Path,
) -> None:
    server = redis_server()
    account, _, api = open_account("Alice's")
    environ = {
        "GATEWAY_MODE": "evaluation",
        "REDIS_URL": server.url,
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
        "UPSTREAM_BASE_URLS": f"openai={upstream}",
        "USAGE_SPOOL": str(tmp_path / "usage"),
    }
    asked: list[tuple[str, int]] = []
    with Redis.from_url(server.url) as client:
        writer = SnapshotWriter(
            client,
            Keys("gw"),
            DocumentKeys.parse(os.environ["DOCUMENT_KEYS"]),
            SealingKey.parse(os.environ["SEALING_PUBLIC_KEY"]),
        )
        writer.begin_epoch()
        writer.catalog()
        token = tenant_of(account, writer).routed(*KEYS)

        # The worker, right after an answer; then ingest, at each of its steps; then Redis.
        for where in ("before the write", "in the write", "after the write"):
            with worker_process(environ, tmp_path) as worker:
                asked += [ask(worker, token, stream=number % 2 == 1) for number in range(4)]
                wait_until(lambda: client.xlen(keys().usage) > 0, what="the worker told of something")
                killed = child("-m", "tests.faults.ingesting", where, REDIS_URL=server.url)
                assert killed.process.wait(60) == -signal.SIGKILL
                asked.append(ask(worker, token, stream=True))
                worker.stop(signal.SIGKILL)
        server.restart()
        with worker_process(environ, tmp_path) as worker:
            asked.append(ask(worker, token, stream=False))
            ingest = Ingest(client)

            wait_until(
                lambda: ingest.run(seconds=1) >= 0 and len(listed(api)) >= sum(made for _, made in asked),
                what="all attempts are there",
            )
            # Nothing more comes.
            wait_until(
                lambda: ingest.run(seconds=1) >= 0 and client.xlen(keys().usage) == 0,
                what="the stream is empty",
            )

    attempts: dict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
    for event in listed(api):
        assert event["attemptNumber"] not in attempts[event["requestId"]], "twice"
        attempts[event["requestId"]][event["attemptNumber"]] = event
    assert {request: len(found) for request, found in attempts.items()} == dict(asked)
    assert asked[0][1] == 3
    failed = [(429, True, False, 0, "0.00000"), (500, True, False, 0, "0.00000")]
    for of_a_request in attempts.values():
        *before, last = [
            (event["statusCode"], event["isError"], event["isFinalAttempt"], event["outputTokens"], event["totalCost"])
            for _, event in sorted(of_a_request.items())
        ]
        assert before == [one for one in failed if one in before]
        # 11 tokens in at 2.50 dollars a million, 5 out at 10.
        assert last == (200, False, True, 5, "0.00008")
    totals = api.get(f"/usage/overview?startTime={START}").json()["totals"]
    assert (totals["requests"], totals["errors"]) == (len(asked), 0)
    assert ledger.balance_of(account) == 0
