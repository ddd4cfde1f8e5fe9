"""Holds: snapshots.publisher, gateway_admin.relay, snapshots.rebuild

Publication on bad days: processes stopped and killed, Redis gone, emptied, or older than it was.

The last word is always the deep comparison: every document in Redis decoded, against those compiled from PostgreSQL.
"""

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import psutil
import pytest
from django.conf import LazySettings
from django.db import OperationalError, transaction
from redis import Redis

from accounts.models import Account
from snapshots import rebuild
from snapshots.models import Change, Epoch, Publication
from snapshots.publisher import publish_account
from snapshots.redis_client import keys, patient_store
from snapshots.upkeep import Upkeep
from tests import tiers
from tests.faults.conftest import Program
from tests.patience import stretched, wait_until
from tests.servers import FaultyPostgres, FaultyRedis
from tests.snapshots.conftest import _fresh_process, _live, account  # noqa: F401 -- fixtures
from tests.snapshots.rows import (
    assert_stream_is_sound,
    commit_unpublished,
    delete,
    differences,
    held_token,
    make_access_key,
    make_access_keys,
    make_account,
    touch,
)

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("publication")]

PROGRAM = ("-m", "tests.faults.publishing")
ROUNDS, AT_ONCE = 4, 10


@pytest.mark.usefixtures("_live")
def test_a_publisher_that_was_stopped_and_woken_never_takes_redis_back(child: Program, redis: Redis) -> None:
    accounts = [make_account(f"{number}") for number in range(AT_ONCE)]
    rows = {}
    for each in accounts:
        with transaction.atomic():
            rows[each.id] = make_access_key(each)
    publisher = child(*PROGRAM, "stand_still", str(AT_ONCE))

    outcomes: list[str] = []
    for _ in range(ROUNDS):
        for each in accounts:
            commit_unpublished(partial(touch, rows[each.id], disabled=False, name="older"))
        publisher.tell(" ".join(each.text_id for each in accounts))
        assert publisher.hear() == "read"
        publisher.process.send_signal(signal.SIGSTOP)
        versions = {}
        for each in accounts:
            commit_unpublished(partial(touch, rows[each.id], disabled=True))
            wait_until(partial(is_published, each), what="the stopped session to be ended")
            versions[each.id] = Publication.objects.get(account=each).version

        publisher.process.send_signal(signal.SIGCONT)
        publisher.tell("go on")
        outcomes += publisher.hear().split()

        for each in accounts:
            document = held_token(redis, rows[each.id])
            assert document is not None
            assert document.disabled
            assert Publication.objects.get(account=each).version == versions[each.id]
        assert differences() == []

    assert len(outcomes) == ROUNDS * AT_ONCE == 40
    assert "published" not in outcomes
    assert_stream_is_sound(redis)


def versions() -> dict[uuid.UUID, int]:
    """The version of each account's latest publication."""
    return dict(Publication.objects.values_list("account_id", "version"))


def is_published(account: Account) -> bool:  # noqa: F811
    """Publish, where nobody else has the account locked."""
    with suppress(OperationalError):
        return publish_account(account.id, store=patient_store()) is not None
    return False


@pytest.mark.usefixtures("_live")
def test_relays_killed_again_and_again_under_ten_writers_lose_nothing(child: Program, redis: Redis) -> None:
    accounts = [make_account(f"{number}").text_id for number in range(4)]
    nursery = child(*PROGRAM, "relays")
    # Half of the writers publish by themselves too, the others leave everything to the relay.
    writers = [
        child(*PROGRAM, "write", "5", *accounts),
        child(*PROGRAM, "write", "5", *accounts, REDIS_URL="redis://127.0.0.1:1/0"),
    ]
    for each in writers:
        assert each.hear() == "writing"

    for number in range(tiers.number(6, full=20)):
        nursery.tell()
        relay = int(nursery.hear())
        # At work, and at another place of it each time.
        before = versions()
        wait_until(lambda before=before: versions() != before, what="publications go on")  # type: ignore[misc]
        time.sleep(0.037 * (number % 7))
        os.kill(relay, signal.SIGKILL)
    written = 0
    for each in writers:
        each.tell("enough")
        written += int(each.hear())
    nursery.tell()
    nursery.hear()

    wait_until(lambda: not Change.objects.exists(), what="the last relay to publish the rest")
    assert written > 0
    assert differences() == []
    assert_stream_is_sound(redis)


def test_a_write_while_redis_is_down_succeeds_and_is_there_soon_after_its_return(
    child: Program,
    account: Account,  # noqa: F811
    redis_server: Callable[..., FaultyRedis],
    settings: LazySettings,
) -> None:
    server = redis_server()
    settings.REDIS_URL = server.url
    nursery = child(*PROGRAM, "relays")
    nursery.tell()
    nursery.hear()
    with Redis.from_url(server.url) as redis:
        wait_until(lambda: redis.hget(keys().epoch, "complete") == b"1", what="the first rebuild")
        server.stop()

        began = time.monotonic()
        with transaction.atomic():
            first = make_access_key(account)
        with transaction.atomic():
            make_access_key(account)
        assert time.monotonic() - began < stretched(5)
        assert Change.objects.count() == 2
        # Long enough for the relay's patience to have grown.
        time.sleep(3)

        server.start()
        wait_until(lambda: held_token(redis, first), what="the write in Redis")
        wait_until(lambda: not Change.objects.exists(), what="all writes in Redis")
        assert differences() == []


def test_a_silent_redis_delays_a_write_by_a_quarter_of_a_second_and_only_the_first(
    account: Account,  # noqa: F811
    redis_server: Callable[..., FaultyRedis],
    settings: LazySettings,
) -> None:
    server = redis_server()
    settings.REDIS_URL = server.url
    rebuild.rebuild(patient_store())
    with transaction.atomic():
        make_access_key(account)
    server.pause()

    durations = []
    for _ in range(4):
        began = time.monotonic()
        with transaction.atomic():
            make_access_key(account)
        durations.append(time.monotonic() - began)
    server.resume()

    assert durations[0] < stretched(2)
    assert sum(durations[1:]) < stretched(0.9)
    # What the sleeping server finds in its sockets when it wakes is refused or brought up to date.
    wait_until(lambda: is_published(account), what="the rest in Redis")
    upkeep = Upkeep(patient_store(), threading.Event())
    upkeep.sweep()
    upkeep.repair_accounts()
    assert differences() == []


@pytest.mark.usefixtures("_live")
def test_a_process_killed_between_its_commit_and_its_publication_loses_nothing(
    child: Program,
    account: Account,  # noqa: F811
    redis: Redis,
) -> None:
    killed = child(*PROGRAM, "die_before_publishing", account.text_id)
    assert killed.process.wait(30) == -signal.SIGKILL
    assert Change.objects.count() == 1

    nursery = child(*PROGRAM, "relays")
    nursery.tell()

    wait_until(lambda: not Change.objects.exists(), what="the relay to publish it")
    assert differences() == []


@pytest.mark.usefixtures("_live")
def test_a_redis_that_was_emptied_is_rebuilt_under_writers(child: Program, redis: Redis) -> None:
    accounts = [make_account(f"{number}").text_id for number in range(4)]
    writers = child(*PROGRAM, "write", "4", *accounts)
    nursery = child(*PROGRAM, "relays")
    nursery.tell()
    nursery.hear()
    assert writers.hear() == "writing"

    for _ in range(3):
        time.sleep(0.3)
        redis.flushall()
        wait_until(lambda: redis.hget(keys().epoch, "complete") == b"1", what="the rebuild")
    writers.tell("enough")
    assert int(writers.hear()) > 0

    wait_until(lambda: not Change.objects.exists(), what="the rest")
    assert differences() == []


def test_a_promoted_replica_that_was_behind_is_noticed_although_its_number_is_right(
    child: Program,
    account: Account,  # noqa: F811
    redis_server: Callable[..., FaultyRedis],
    settings: LazySettings,
) -> None:
    server = redis_server()
    settings.REDIS_URL = server.url
    nursery = child(*PROGRAM, "relays")
    nursery.tell()
    nursery.hear()
    with Redis.from_url(server.url) as redis:
        wait_until(lambda: redis.hget(keys().epoch, "complete") == b"1", what="the first rebuild")
        with transaction.atomic():
            gone = make_access_key(account)
        older = {key: redis.dump(key) for key in redis.scan_iter()}
        with transaction.atomic():
            delete(gone)
        number = redis.hget(keys().epoch, "number")
        replica = redis.pipeline()
        replica.flushall()
        for key, value in older.items():
            assert value is not None
            replica.restore(key, 0, value)
        replica.hset(keys().epoch, "number", number)
        # The relay has looked at the versions of the first Redis; now another process answers.
        time.sleep(2)
        replica.execute()
        server.restart()

        wait_until(lambda: not redis.exists(keys().token(gone.digest)), what="the rebuild")
        wait_until(lambda: redis.hget(keys().epoch, "complete") == b"1", what="the rebuild's end")
        assert differences() == []


@pytest.mark.usefixtures("_live")
def test_a_rebuild_killed_in_the_middle_is_taken_over_by_the_next_relay(
    child: Program,
    account: Account,  # noqa: F811
    redis: Redis,
) -> None:
    commit_unpublished(lambda: make_access_keys(account, 20000))
    nursery = child(*PROGRAM, "relays")

    def killed_in_the_middle() -> bool:
        """Whether it was: a test process that got no core for a while comes too late, and tries again."""
        redis.flushall()
        nursery.tell()
        relay = int(nursery.hear())
        wait_until(lambda: redis.exists(keys().epoch) and redis.dbsize() > 1, what="the rebuild to begin")
        os.kill(relay, signal.SIGKILL)
        return redis.hget(keys().epoch, "complete") == b"0"

    wait_until(killed_in_the_middle, what="a relay that is killed in the middle")
    abandoned = Epoch.objects.get().id

    nursery.tell()
    nursery.hear()

    wait_until(lambda: redis.hget(keys().epoch, "complete") == b"1", what="the rebuild")
    wait_until(lambda: not Change.objects.exists(), what="the rest")
    assert Epoch.objects.get().id != abandoned
    assert differences() == []


def test_two_relays_rebuild_once(
    child: Program,
    account: Account,  # noqa: F811
    redis: Redis,
) -> None:
    commit_unpublished(lambda: make_access_keys(account, 2000))
    nursery = child(*PROGRAM, "relays")
    nursery.tell()
    nursery.tell()
    nursery.hear()
    nursery.hear()

    wait_until(lambda: redis.hget(keys().epoch, "complete") == b"1", what="the rebuild")
    first = Epoch.objects.get().id
    time.sleep(2.5)
    assert Epoch.objects.get().id == first
    assert differences() == []


def test_the_relay_outlives_both_servers_and_ends_cleanly(
    child: Program,
    redis_server: Callable[..., FaultyRedis],
    postgres_server: Callable[..., FaultyPostgres],
) -> None:
    postgres, server = postgres_server(throwaway=False), redis_server()
    environment = {"DATABASE_URL": postgres.url, "REDIS_URL": server.url}
    assert child("manage.py", "migrate", "-v0", **environment).process.wait(120) == 0
    relay = child("manage.py", "relay", **environment)
    with Redis.from_url(server.url) as redis:
        wait_until(lambda: redis.hget(keys().epoch, "complete") == b"1", what="the first rebuild")

        postgres.stop()
        time.sleep(1.5)
        postgres.start()
        child(*PROGRAM, "make_account", "during", **environment | {"REDIS_URL": "redis://127.0.0.1:1/0"}).hear()
        wait_until(lambda: redis.keys(keys().token("*")), what="publishing after PostgreSQL's return")

        server.stop()
        time.sleep(1.5)
        server.start()
        child(*PROGRAM, "make_account", "after", **environment | {"REDIS_URL": "redis://127.0.0.1:1/0"}).hear()
        wait_until(lambda: len(redis.keys(keys().token("*"))) == 2, what="publishing after Redis's return")

    assert psutil.Process(relay.process.pid).is_running()
    relay.process.send_signal(signal.SIGTERM)
    try:
        assert relay.process.wait(10) == 0
    except subprocess.TimeoutExpired:
        pytest.fail("the relay does not end at SIGTERM")
