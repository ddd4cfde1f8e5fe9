"""Holds: usage.ingest

Usage on bad days: killed at each step, Redis gone and emptied; each event still counts exactly once.
"""

import random
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from redis import Redis

from accounts.models import Account
from gateway_core.usage_events import UsageEvent
from snapshots.redis_client import keys
from tests import tiers
from tests.events import an_event, send
from tests.faults.conftest import Program
from tests.patience import stretched, wait_until
from tests.servers import FaultyRedis
from usage import ledger
from usage.ingest import GROUP, Ingest
from usage.models import Event, Rollup
from usage.tasks import ingest as ingest_task

pytestmark = [pytest.mark.faults, pytest.mark.django_db(transaction=True)]

COST_CENTS = Decimal("0.35")


@pytest.fixture
def account(transactional_db: None) -> Account:
    return Account.objects.create(name="Alice's")


def some_events(account: Account, count: int) -> list[UsageEvent]:
    return [an_event(account) for _ in range(count)]


def send_all(redis: "Redis", events: list[UsageEvent], size: int = 50) -> None:
    for start in range(0, len(events), size):
        send(redis, events[start : start + size])


def check_each_counts_once(account: Account, events: list[UsageEvent]) -> None:
    assert sorted(row.text_id for row in Event.objects.only("id")) == sorted(event.id for event in events)
    for dimension in "pk":
        for span in "dh":
            rows = Rollup.objects.filter(dimension=dimension, span=span)
            assert sum(row.requests for row in rows) == len(events)
            assert sum(row.cost for row in rows) * 100 == COST_CENTS * len(events)
    assert ledger.balance_of(account) == -COST_CENTS * len(events)


@pytest.mark.parametrize("where", ["before the write", "in the write", "after the write"])
def test_an_ingest_killed_at_any_step_counts_nothing_twice_and_loses_nothing(
    child: Program, redis: "Redis", account: Account, where: str
) -> None:
    events = some_events(account, 300)
    send_all(redis, events)
    killed = child("-m", "tests.faults.ingesting", where)
    assert killed.process.wait(60) == -9
    assert Event.objects.count() == (300 if where == "after the write" else 0)
    assert redis.xlen(keys().usage) == 6

    successor = Ingest(redis)
    # Within the 10 seconds in which an event has to be visible.
    took = wait_until(lambda: successor.run(seconds=1) >= 0 and redis.xlen(keys().usage) == 0, what="all ingested")

    assert took < stretched(8)
    check_each_counts_once(account, events)


def test_an_ingest_that_stands_still_holds_nobody_up_and_counts_nothing_twice_when_it_wakes(
    child: Program, redis: "Redis", account: Account
) -> None:
    events = some_events(account, 300)
    send_all(redis, events)
    stopped = child("-m", "tests.faults.ingesting", "stands still in the write")
    assert stopped.hear() == "standing still"

    successor = Ingest(redis)
    wait_until(lambda: successor.run(seconds=1) >= 0 and redis.xlen(keys().usage) == 0, what="all ingested")
    check_each_counts_once(account, events)
    stopped.process.send_signal(signal.SIGCONT)

    assert stopped.process.wait(30) != 0
    check_each_counts_once(account, events)


def consumers_of(redis: "Redis") -> set[bytes]:
    """The consumers that have read the stream."""
    found: Any = redis.xinfo_consumers(keys().usage, GROUP)
    return {one["name"] for one in found}


def test_ingests_killed_again_and_again_count_each_event_once(child: Program, redis: "Redis", account: Account) -> None:
    chance = random.Random(11)
    events = some_events(account, tiers.number(4_000, full=20_000))
    send_all(redis, events, size=20)

    for _ in range(tiers.number(3, full=6)):
        loop = child("manage.py", "ingest_usage", "--loop")
        before = redis.xlen(keys().usage)
        wait_until(lambda before=before: redis.xlen(keys().usage) < before, what="it works")  # type: ignore[misc]
        time.sleep(chance.uniform(0, 0.2))
        loop.process.kill()
        loop.process.wait()

    begun = consumers_of(redis)
    survivors = [child("manage.py", "ingest_usage", "--loop") for _ in range(2)]
    wait_until(lambda: len(consumers_of(redis) - begun) == 2, what="both read")
    wait_until(lambda: redis.xlen(keys().usage) == 0, what="all ingested")
    for survivor in survivors:
        survivor.process.terminate()
        assert survivor.process.wait(20) == 0

    check_each_counts_once(account, events)


def test_a_loop_outlives_a_redis_that_goes_away(
    child: Program, redis_server: Callable[..., FaultyRedis], account: Account
) -> None:
    server = redis_server()
    loop = child("manage.py", "ingest_usage", "--loop", REDIS_URL=server.url)
    events = some_events(account, 20)
    with Redis.from_url(server.url) as client:
        send_all(client, events[:10])
        wait_until(lambda: Event.objects.count() == 10, what="the first half")
    server.kill()
    time.sleep(1.5)
    server.restart()
    with Redis.from_url(server.url) as client:
        client.flushall()
        send_all(client, events[10:])
        wait_until(lambda: Event.objects.count() == 20, what="the second half")

    assert loop.process.poll() is None
    check_each_counts_once(account, events)


def test_a_task_without_redis_fails_nobody(
    redis_server: Callable[..., FaultyRedis], account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    from snapshots.redis_client import SnapshotRedis
    from usage import tasks

    server = redis_server(throwaway=True)
    gone = Ingest(SnapshotRedis(server.url, timeout=0.5).redis)
    server.kill()
    monkeypatch.setattr(tasks, "_ingest", lambda: gone)

    ingest_task()
