"""Holds: dashboard.pages.data_plane

The data-plane page: who has applied what, and what is known when Redis is gone.
"""

import time

import pytest
from django.test import Client

from accounts import services
from accounts.models import Membership
from gateway_core.worker_reports import Behind, Refusal, WorkerReport, seal_report
from snapshots.models import Change, Publication
from snapshots.redis_client import document_keys, inline_store, keys

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/data-plane"


def signed_in(account, username="alice", *, operator=False):
    user = services.create_user(
        username=username, email="", password="x" * 20, account=account, role=Membership.Role.VIEWER
    )
    user.is_superuser = operator
    user.save()
    client = Client()
    client.force_login(user)
    return client


def enter(redis, worker, **fields):
    now = time.time_ns() // 1000
    report = WorkerReport(
        id=worker,
        **{
            "host": "node-7", "process": 4711, "started_at": now, "heartbeat_at": now, "is_in_sync": True,
            "epoch": inline_store().epoch().id, "position": 10, **fields,
        },
    )  # fmt: skip
    redis.hset(keys().workers, worker, seal_report(keys(), document_keys(), report))


@pytest.fixture
def published(account, redis):
    redis.hset(keys().epoch, mapping={"id": "019a0000-0000-7000-8000-000000000000", "complete": 1, "number": 10})
    return Publication.objects.update_or_create(account=account, defaults={"version": 7, "number": 9})[0]


def test_who_has_not_put_the_newest_change_in_force_is_told_apart(account, redis, published):
    enter(redis, "w_ahead")
    enter(redis, "w_refusing", behind=(Behind(account.text_id, 9, 9),))
    enter(redis, "w_slow", position=8)

    shown = signed_in(account).get(PAGE).content.decode()

    assert "1 of 3" in shown
    assert "Not everywhere in force" in shown
    assert shown.count(">Behind<") == 2


def test_a_silent_worker_stays_in_the_count(account, redis, published):
    enter(redis, "w_silent", heartbeat_at=time.time_ns() // 1000 - 60_000_000)

    shown = signed_in(account).get(PAGE).content.decode()

    assert ">Silent<" in shown
    assert "1 of 1" in shown


def test_hosts_and_other_accounts_refusals_are_for_the_operator(account, other_account, redis, published):
    refused_at = time.time_ns() // 1000
    enter(
        redis,
        "w_one",
        refusals=2,
        last_refusals=(
            Refusal(location=f"{{gw}}:account:{account.text_id} settings", reason="ours", refused_at=refused_at),
            Refusal(
                location=f"{{gw}}:account:{other_account.text_id} settings", reason="theirs", refused_at=refused_at
            ),
        ),
    )

    member = signed_in(account).get(PAGE).content.decode()
    operator = signed_in(account, "olivia", operator=True).get(PAGE).content.decode()

    assert "ours" in member
    assert "theirs" not in member
    assert "node-7" not in member
    assert "theirs" in operator
    assert "node-7" in operator


def test_a_parked_change_is_told_with_its_reason(account, redis, published):
    Change.objects.create(
        account=account, document="settings", parked_at=published.published_at or "2026-01-01T00:00Z", reason="too long"
    )

    shown = signed_in(account).get(PAGE).content.decode()

    assert "could not be published" in shown
    assert "too long" in shown


def test_without_redis_the_page_says_so(account, settings):
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    inline_store.cache_clear()
    try:
        answer = signed_in(account).get(PAGE)
    finally:
        inline_store.cache_clear()

    assert answer.status_code == 200
    assert "Redis does not answer" in answer.content.decode()
