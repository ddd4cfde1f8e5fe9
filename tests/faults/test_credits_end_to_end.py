"""Holds: usage.ledger, account_settings.snapshot_documents

Credits that run out and come back, as a caller of the data plane sees them: all processes are real.
"""

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from django.conf import settings
from redis import Redis

from accounts.models import Account
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from providers.managed import set_managed_key
from snapshots import rebuild
from snapshots.redis_client import patient_store
from tests.events import an_event, send
from tests.faults.conftest import Program
from tests.faults.test_usage_end_to_end import upstream
from tests.fixtures import open_account
from tests.patience import wait_until
from tests.workers import WorkerProcess, worker_process
from usage import ledger

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

__all__ = ["upstream"]

MANAGED, OWN = "gpt-4o", "anthropic:claude-sonnet-4-5"


def ask(worker: WorkerProcess, token: str, model: str) -> tuple[int, str]:
    """A status, and for a refusal its code."""
    request = urllib.request.Request(
        f"{worker.url}/v1/chat/completions",
        data=json.dumps({"model": model, "messages": []}).encode(),
        headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            answer.read()
            return answer.status, ""
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.loads(refusal.read())["error"]["code"]


def spend(redis: "Redis", account: Account, dollars: int) -> None:
    """Usage of an earlier request: gpt-4o takes 2.50 dollars for a million tokens."""
    send(redis, [an_event(account, input_tokens=dollars * 400_000, output_tokens=0)])


def test_managed_inference_ends_with_the_credits_and_begins_with_a_grant_and_own_keys_are_served_throughout(
    child: Program, redis: "Redis", sealing_private_key: str, upstream: str, tmp_path: Path
) -> None:
    account, principal, api = open_account("Alice's")
    token = api.post("/access-keys", {}).json()["token"]
    create_provider_key(
        account=account,
        by=principal,
        provider_id="anthropic",
        name="own",
        value=PlainValue("sk-ant-demo-good-0123456789"),
    )
    set_managed_key(provider="openai", value="sk-demo-operators-0123456789")
    ledger.grant(account=account, cents=500, category="purchase")
    rebuild.rebuild(patient_store())
    child("manage.py", "ingest_usage", "--loop")
    environ = {
        "GATEWAY_MODE": "evaluation",
        "REDIS_URL": settings.REDIS_URL,
        "DOCUMENT_KEYS": os.environ["DOCUMENT_KEYS"],
        "SEALING_PRIVATE_KEYS": sealing_private_key,
        "UPSTREAM_BASE_URLS": f"openai={upstream},anthropic={upstream}",
    }
    with worker_process(environ, tmp_path) as worker:
        assert ask(worker, token, MANAGED) == (200, "")
        assert ask(worker, token, OWN) == (200, "")
        # The loop is at work: what follows is not its start.
        wait_until(lambda: ledger.balance_of(account) < 500, what="the request is charged")

        for _ in range(3):
            spend(redis, account, 20)
            wait_until(lambda: ask(worker, token, MANAGED) == (403, "no_credits"), within=5, what="refused")
            assert ask(worker, token, OWN) == (200, "")

            ledger.grant(account=account, cents=2000, category="promotional")
            wait_until(lambda: ask(worker, token, MANAGED) == (200, ""), within=5, what="served again")
            assert ask(worker, token, OWN) == (200, "")

    assert api.get("/credits/balance").json()["balanceCents"] > 0
