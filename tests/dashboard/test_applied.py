"""Holds: dashboard.wording.apply_status

After a write that takes trust away, the page says where it is in force, and makes nothing up where nobody knows.
"""

import time

import pytest
from django.test import Client

from access_keys.services import create_access_key
from accounts.services import create_user
from gateway_core import ids
from gateway_core.worker_reports import WorkerReport, seal_report
from snapshots import publisher, rebuild
from snapshots.redis_client import document_keys, inline_store, keys, patient_store
from tests.fixtures import open_account

LIST = "/dashboard/access-keys"


@pytest.fixture
def live(transactional_db):
    """A Redis that takes publications, and a publisher that no earlier test has paused."""
    publisher.pause.end()
    rebuild.rebuild(patient_store())


@pytest.fixture
def report(redis):
    """`report(ahead=9)`: a worker that has passed so many publications more than there are; less than 0 for behind."""

    def write(ahead):
        epoch, now = inline_store().epoch(), time.time_ns() // 1000
        worker = ids.to_text(ids.Prefix.WORKER, ids.new_id())
        told = WorkerReport(
            id=worker,
            host="h",
            process=1,
            started_at=now,
            heartbeat_at=now,
            epoch=epoch.id,
            position=epoch.number + ahead,
        )
        redis.hset(keys().workers, worker, seal_report(keys(), document_keys(), told))

    return write


@pytest.fixture
def said(live):
    """`said("on")`: what the page says after a key was disabled, or enabled."""
    account, principal, _ = open_account("Alice's")
    key = create_access_key(account=account, by=principal, name="shop").access_key
    client = Client()
    client.force_login(create_user(username="alice", email="", password="x", account=account, role="owner"))

    def change(path, sent):
        answer = client.post(f"{LIST}/{path}", sent | {"id": key.text_id}, follow=True)
        return [str(message) for message in answer.context["messages"]]

    return lambda path="state", **sent: change(path.replace("state", f"{key.text_id}/state"), sent)


def test_a_page_says_at_how_many_workers_a_write_is_in_force(said, report):
    assert said(disabled="on") == ["The access key is disabled."], "no worker runs"
    report(ahead=99)
    assert said() == ["The access key is enabled. The worker has applied it."]
    report(ahead=99)
    assert said("at-once", action="disable") == ["1 access key is disabled. All 2 workers have applied it."]
    report(ahead=0)
    behind = "2 of 3 workers have applied it so far; Data plane shows when all have."
    assert said() == [f"The access key is enabled. {behind}"]


def test_a_change_that_was_none_waits_for_what_its_own_account_wrote_before(said, report):
    said(disabled="on")
    report(ahead=0)
    other_account, other_principal, _ = open_account("Charlie's")
    create_access_key(account=other_account, by=other_principal)

    assert said("at-once", action="disable") == ["1 access key is disabled. The worker has applied it."]
