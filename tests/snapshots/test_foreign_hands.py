"""Holds: snapshots.upkeep, snapshots.publisher, snapshots.comparison

Whatever somebody else makes of a key in Redis, the relay puts this key right, and a rebuild is not needed for it.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, transaction
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from accounts.models import Account
from gateway_core import snapshot
from gateway_core.redis_errors import Trouble, trouble_of
from gateway_core.worker_reports import Refusal, WorkerReport, seal_report
from snapshots import publisher
from snapshots.locking import lock_publication
from snapshots.models import WHOLE_ACCOUNT, Change, Epoch
from snapshots.publisher import pause
from snapshots.redis_client import document_keys, keys, patient_store
from snapshots.upkeep import Upkeep
from tests.rivals import uncommitted
from tests.servers import FaultyRedis
from tests.snapshots.rows import (
    commit_unpublished,
    differences,
    held_token,
    make_access_key,
    make_account,
    make_configuration,
    make_provider_key,
    stream,
)

pytestmark = pytest.mark.usefixtures("_live")

# Each makes a key of another type.
TYPES: dict[str, Callable[[Any, str], object]] = {
    "a string": lambda redis, key: redis.set(key, "x"),
    "a list": lambda redis, key: redis.rpush(key, "x"),
    "a set": lambda redis, key: redis.sadd(key, "x"),
    "a sorted set": lambda redis, key: redis.zadd(key, {"x": 1}),
    "a hash": lambda redis, key: redis.hset(key, "x", "x"),
    "a stream": lambda redis, key: redis.xadd(key, {"x": "x"}),
}
FIXED = {"epoch": "a hash", "changes": "a stream", "catalog": "a hash", "workers": "a hash"} | {
    "acknowledged": "a stream", "usage": "a stream"
}  # fmt: skip


@pytest.fixture
def upkeep() -> Upkeep:
    """A relay's tasks, after a first look."""
    found = Upkeep(patient_store(), threading.Event())
    found.reconcile()
    return found


def look(upkeep: Upkeep) -> None:
    """What a relay does within 30 s, once."""
    for task in (upkeep.sweep, upkeep.reconcile, upkeep.repair_accounts, upkeep.compare_versions):
        task()


def make_of_another_type(redis: Redis, key: str, kind: str) -> None:
    """Replace a key."""
    redis.delete(key)
    TYPES[kind](redis, key)


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, own in FIXED.items() for kind in TYPES if kind != own]
)
def test_a_key_of_another_type_is_put_right_by_itself(
    account: Account, redis: Redis, upkeep: Upkeep, name: str, kind: str
) -> None:
    with transaction.atomic():
        first = make_access_key(account)
    epoch = Epoch.objects.get()

    make_of_another_type(redis, getattr(keys(), name), kind)
    look(upkeep)
    pause.end()
    with transaction.atomic():
        second = make_access_key(account)

    assert Change.objects.count() == 0
    assert held_token(redis, first)
    assert held_token(redis, second)
    assert differences() == []
    assert Epoch.objects.get() == epoch
    assert redis.type(keys().epoch) == b"hash"
    assert patient_store().epoch().number == (3 if name == "catalog" else 2)


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "a hash"])
def test_an_account_of_another_type_is_published_again_and_holds_no_other_up(
    redis: Redis, upkeep: Upkeep, kind: str
) -> None:
    first, second = sorted((make_account(), make_account("Bob's")), key=lambda account: account.id)
    with transaction.atomic():
        make_configuration(first, keys_of_openai=(make_provider_key(first),))
    epoch = Epoch.objects.get()
    make_of_another_type(redis, keys().account(first.text_id), kind)
    commit_unpublished(lambda: make_access_key(first))
    commit_unpublished(lambda: make_access_key(second))

    upkeep.sweep()
    assert {change.account for change in Change.objects.all()} == {first}
    upkeep.repair_accounts()
    upkeep.sweep()

    assert differences() == []
    assert Epoch.objects.get() == epoch


def test_an_account_that_redis_refuses_holds_no_other_up(upkeep: Upkeep, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sorted((make_account(), make_account("Bob's")), key=lambda account: account.id)
    commit_unpublished(lambda: make_access_key(first))
    commit_unpublished(lambda: make_access_key(second))
    publish = publisher.publish_account

    def refuse_first(account_id: Any, **options: Any) -> Any:
        if account_id == first.id:
            raise ResponseError("an error that says nothing of other accounts")
        return publish(account_id, **options)

    monkeypatch.setattr("snapshots.upkeep.publish_account", refuse_first)

    upkeep.sweep()

    assert {change.account for change in Change.objects.all()} == {first}


def test_huge_reports_are_removed_and_others_stay(redis: Redis, upkeep: Upkeep) -> None:
    report_of()
    redis.hset(keys().workers, "huge", bytes(65537))

    upkeep.reconcile()
    assert redis.hkeys(keys().workers) == [b"aigw_" + b"0" * 26]
    redis.hset(keys().workers, mapping={str(number): b"x" for number in range(10_001)})
    upkeep.reconcile()

    assert redis.hkeys(keys().workers) == [b"aigw_" + b"0" * 26]


def test_an_account_of_another_type_is_found_without_a_write_to_it(
    account: Account, redis: Redis, upkeep: Upkeep
) -> None:
    with transaction.atomic():
        make_configuration(account)
    epoch = Epoch.objects.get()
    make_of_another_type(redis, keys().account(account.text_id), "a list")

    upkeep.compare_versions()
    assert list(Change.objects.values_list("document", flat=True)) == [WHOLE_ACCOUNT]
    upkeep.repair_accounts()

    assert differences() == []
    assert Epoch.objects.get() == epoch


def test_a_write_to_an_account_of_another_type_leaves_other_accounts_their_inline_publication(
    account: Account, redis: Redis
) -> None:
    bobs = make_account("Bob's")
    with transaction.atomic():
        make_access_key(account)
    make_of_another_type(redis, keys().account(account.text_id), "a string")

    with transaction.atomic():
        make_access_key(account)
    with transaction.atomic():
        key = make_access_key(bobs)

    assert held_token(redis, key)


def test_a_token_of_another_type_is_put_right_by_the_deep_comparison(
    account: Account, redis: Redis, upkeep: Upkeep
) -> None:
    with transaction.atomic():
        key = make_access_key(account)
    strange = (keys().token("f" * 64), keys().account("ac_" + "0" * 26))
    for name in (keys().token(key.digest), *strange):
        make_of_another_type(redis, name, "a list")

    upkeep.compare_documents()

    assert held_token(redis, key)
    assert not redis.exists(*strange)
    assert differences() == []


@pytest.mark.parametrize(
    "identity", ["{next}-0", "{next}-7", "99999999-0", "18446744073709551615-18446744073709551615"]
)
def test_entries_that_no_publication_wrote_cost_the_stream_and_no_rebuild(
    account: Account, redis: Redis, upkeep: Upkeep, identity: str
) -> None:
    with transaction.atomic():
        make_access_key(account)
    epoch = Epoch.objects.get()
    redis.xadd(keys().changes, {"of": "another"}, id=identity.format(next=2))

    look(upkeep)
    pause.end()
    with transaction.atomic():
        make_access_key(account)

    assert Change.objects.count() == 0
    assert differences() == []
    assert Epoch.objects.get() == epoch


@pytest.mark.parametrize("number", ["", "x", "-1", "9" * 16, "9" * 30, "1e3"])
def test_a_number_that_is_none_of_ours_leads_to_a_rebuild(
    account: Account, redis: Redis, upkeep: Upkeep, number: str
) -> None:
    redis.hset(keys().epoch, "number", number)

    look(upkeep)
    with transaction.atomic():
        key = make_access_key(account)

    assert held_token(redis, key)
    assert differences() == []


def no_memory(redis: Any, server: FaultyRedis) -> Callable[[], object]:
    """Redis is full."""
    redis.config_set("maxmemory", "1")
    return lambda: redis.config_set("maxmemory", "0")


def a_replica(redis: Any, server: FaultyRedis) -> Callable[[], object]:
    """Redis is a replica of nobody that answers; it holds what it held."""
    redis.config_set("replica-serve-stale-data", "yes")
    redis.replicaof("127.0.0.1", 1)
    return lambda: redis.replicaof("NO", "ONE")


def a_full_disk(redis: Any, server: FaultyRedis) -> Callable[[], object]:
    """Redis cannot save what it holds, and so takes no writes."""
    redis.config_set("min-replicas-to-write", "1")
    return lambda: redis.config_set("min-replicas-to-write", "0")


def no_rights(redis: Any, server: FaultyRedis) -> Callable[[], object]:
    """The control plane's user may not write the stream."""
    redis.execute_command("ACL", "SETUSER", "default", "-xadd")
    return lambda: redis.execute_command("ACL", "SETUSER", "default", "+xadd")


@pytest.mark.parametrize("harm", [no_memory, a_replica, a_full_disk, no_rights], ids=lambda harm: harm.__name__)
def test_a_redis_that_takes_no_writes_costs_no_rebuild_when_it_does_again(
    account: Account, redis: Redis, upkeep: Upkeep, harm: Callable[..., Callable[[], object]]
) -> None:
    with transaction.atomic():
        make_access_key(account)
    epoch = Epoch.objects.get()

    mend = harm(redis, None)
    try:
        with transaction.atomic():
            key = make_access_key(account)
        with pytest.raises(RedisError) as raised:
            upkeep.sweep()
        assert trouble_of(raised.value) in {Trouble.TAKES_NO_WRITES, Trouble.NO_RIGHTS}
        upkeep.reconcile()
        assert held_token(redis, key) is None
    finally:
        mend()
    look(upkeep)

    assert held_token(redis, key)
    assert differences() == []
    assert Epoch.objects.get() == epoch


def test_the_number_of_an_epoch_has_bounds() -> None:
    numbers = [b"7", b"", None, b"x", b"-1", b"9" * 15, b"9" * 16]

    found = [snapshot.EpochInRedis.of([b"id", b"1", number]).number for number in numbers]

    assert found == [7, -1, -1, -1, -1, 10**15 - 1, -1]


def report_of(*refusals: Refusal) -> None:
    """A worker's report that names refusals, in Redis."""
    now = time.time_ns() // 1000
    report = WorkerReport(
        id="aigw_" + "0" * 26, host="h", process=1, started_at=1, heartbeat_at=now, last_refusals=refusals
    )
    patient_store().redis.hset(keys().workers, report.id, seal_report(keys(), document_keys(), report))


@pytest.mark.parametrize("harm", ["another type", "forged", "empty", "another's"])
def test_a_token_that_a_worker_refuses_is_published_again(
    account: Account, redis: Redis, upkeep: Upkeep, harm: str
) -> None:
    with transaction.atomic():
        key = make_access_key(account)
        other = make_access_key(account)
    name = keys().token(key.digest)
    if harm == "another type":
        make_of_another_type(redis, name, "a set")
    else:
        copied: Any = redis.get(keys().token(other.digest))
        redis.set(name, {"forged": b"x", "empty": b"", "another's": copied}[harm])
    report_of(Refusal(location=name, reason="…", refused_at=1))

    upkeep.look_at_refusals()

    assert held_token(redis, key)
    assert len(stream(redis)) == 2


def test_a_field_that_a_worker_refuses_is_published_again_and_an_unknown_token_is_removed(
    account: Account, redis: Redis, upkeep: Upkeep
) -> None:
    with transaction.atomic():
        configuration = make_configuration(account)
    hashed = keys().account(account.text_id)
    redis.hset(hashed, configuration.snapshot_document, b"x")
    unknown = keys().token("f" * 64)
    redis.set(unknown, b"x")
    places = (f"{hashed} {configuration.snapshot_document}", unknown, f"{keys().changes} x", "", "x y", f"{hashed} odd")
    report_of(*(Refusal(location=place, reason="…", refused_at=1) for place in places))

    upkeep.look_at_refusals()

    assert not redis.exists(unknown)
    assert differences() == []


def test_a_token_of_another_type_that_nobody_reads_is_found_by_the_walk(
    account: Account, redis: Redis, upkeep: Upkeep
) -> None:
    with transaction.atomic():
        key = make_access_key(account)
    make_of_another_type(redis, keys().token(key.digest), "a list")

    upkeep.walk_over_tokens()

    assert held_token(redis, key)
    assert differences() == []


def test_a_repair_that_another_publisher_holds_up_is_made_later(account: Account, redis: Redis, upkeep: Upkeep) -> None:
    with transaction.atomic():
        one, other = make_access_key(account), make_access_key(account)
    names = [keys().token(key.digest) for key in (one, other)]
    for name in names:
        redis.set(name, b"x")
    report_of(*(Refusal(location=name, reason="…", refused_at=1) for name in names))

    with uncommitted(lambda: lock_publication(account.id)), pytest.raises(OperationalError):
        upkeep.look_at_refusals()
    assert [redis.get(name) for name in names] == [b"x", b"x"]
    upkeep.look_at_refusals()

    assert held_token(redis, one)
    assert held_token(redis, other)


def test_a_refusal_is_looked_at_once(account: Account, redis: Redis, upkeep: Upkeep) -> None:
    with transaction.atomic():
        key = make_access_key(account)
    report_of(Refusal(location=keys().token(key.digest), reason="…", refused_at=1))
    upkeep.look_at_refusals()
    redis.set(keys().token(key.digest), b"x")

    upkeep.look_at_refusals()
    assert redis.get(keys().token(key.digest)) == b"x"
    report_of(Refusal(location=keys().token(key.digest), reason="…", refused_at=2))
    upkeep.look_at_refusals()

    assert held_token(redis, key)
