"""Holds: snapshots.rebuild

The rebuild: a new epoch, everything written from PostgreSQL, nothing older over something newer.
"""

import threading
from collections.abc import Collection
from functools import partial
from io import StringIO

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from redis import Redis

from accounts.models import Account
from snapshots import comparison, document_kinds, rebuild
from snapshots.models import Change, Epoch, Publication
from snapshots.publisher import PublicationRefused, publish_account
from snapshots.redis_client import keys, patient_store
from tests.patience import PATIENCE, stretched
from tests.snapshots.rows import (
    commit_unpublished,
    delete,
    differences,
    held_token,
    in_thread,
    make_access_key,
    make_access_keys,
    make_account,
    make_configuration,
    make_provider_key,
    write_some,
)


def test_an_empty_redis_holds_everything_after_a_rebuild(account: Account, redis: Redis) -> None:
    commit_unpublished(lambda: make_access_keys(account, 1100))
    commit_unpublished(lambda: make_configuration(account, keys_of_openai=(make_provider_key(account),)))

    accounts, documents = rebuild.rebuild(patient_store())

    assert (accounts, documents) == (1, 1102)
    assert differences() == []


def test_a_rebuild_removes_what_postgresql_does_not_know(account: Account, redis: Redis) -> None:
    redis.set(keys().token("f" * 64), b"left over")
    redis.hset(keys().account("ac_" + "0" * 26), "settings", b"left over")
    redis.set("another application's", b"stays")

    rebuild.rebuild(patient_store())

    assert {key.decode() for key in redis.scan_iter()} == {keys().epoch, keys().catalog, "another application's"}


def test_a_namespace_that_looks_like_a_pattern_removes_nothing_of_others(
    account: Account, redis: Redis, settings: LazySettings
) -> None:
    settings.REDIS_NAMESPACE = "g*"
    keys.cache_clear()
    redis.set("{gw}:token:x", b"another cell's")

    rebuild.rebuild(patient_store())

    assert redis.exists("{gw}:token:x")


def test_publications_are_refused_during_a_rebuild_and_published_after_it(account: Account, redis: Redis) -> None:
    written = []

    def write_meanwhile(accounts: int, documents: int) -> None:
        def write() -> None:
            with transaction.atomic():
                written.append(make_access_key(account))

        thread = threading.Thread(target=in_thread, args=[write])
        thread.start()
        thread.join(stretched(PATIENCE))

    commit_unpublished(lambda: make_access_key(account))
    rebuild.rebuild(patient_store(), report=write_meanwhile)

    assert written
    assert all(held_token(redis, key) is None for key in written)
    assert Change.objects.count() == len(written)
    publish_account(account.id, store=patient_store())
    assert differences() == []


def test_two_rebuilds_at_once_are_one(account: Account) -> None:
    refused = []

    def rebuild_too() -> None:
        try:
            rebuild.rebuild(patient_store())
        except rebuild.RebuildRunning as fault:
            refused.append(fault)

    def report(accounts: int, documents: int) -> None:
        thread = threading.Thread(target=in_thread, args=[rebuild_too])
        thread.start()
        thread.join(stretched(PATIENCE))

    commit_unpublished(lambda: make_access_key(account))
    rebuild.rebuild(patient_store(), report=report)

    assert refused
    assert differences() == []


def test_a_rebuild_that_was_overtaken_writes_nothing_more(account: Account, redis: Redis) -> None:
    def overtake(accounts: int, documents: int) -> None:
        redis.hset(keys().epoch, "id", "a newer one")

    commit_unpublished(lambda: make_access_keys(account, 501))
    with pytest.raises(rebuild.RebuildOvertaken):
        rebuild.rebuild(patient_store(), report=overtake)

    assert redis.hget(keys().epoch, "complete") == b"0"
    assert len(redis.keys(keys().token("*"))) == 500
    # What it had read is still pending.
    assert Change.objects.count() == 501


def test_a_rebuild_that_was_overtaken_does_not_complete_its_successors_epoch(account: Account, redis: Redis) -> None:
    def overtake(accounts: int, documents: int) -> None:
        redis.hset(keys().epoch, "id", "a newer one")

    commit_unpublished(lambda: make_access_key(account))
    with pytest.raises(rebuild.RebuildOvertaken):
        rebuild.rebuild(patient_store(), report=overtake)

    assert redis.hget(keys().epoch, "complete") == b"0"
    assert Epoch.objects.get().completed_at is None


def test_a_rebuild_that_ended_early_leaves_an_epoch_that_takes_nothing(account: Account, redis: Redis) -> None:
    class Ended(Exception):
        pass

    def end(accounts: int, documents: int) -> None:
        raise Ended

    commit_unpublished(lambda: make_access_key(account))
    with pytest.raises(Ended):
        rebuild.rebuild(patient_store(), report=end)

    assert Epoch.objects.get().completed_at is None
    with pytest.raises(PublicationRefused, match="epoch"):
        commit_and_publish(account)
    rebuild.rebuild(patient_store())
    assert differences() == []


def commit_and_publish(account: Account) -> None:
    commit_unpublished(lambda: make_access_key(account))
    publish_account(account.id, store=patient_store())


def test_a_rebuild_under_writers_ends_in_what_postgresql_says(redis: Redis) -> None:
    accounts = [make_account(f"{number}") for number in range(4)]
    is_enough = threading.Event()

    def write(account: Account) -> None:
        number = 0
        while not is_enough.is_set():
            write_some(account.id, number)
            number += 1
        connection.close()

    writers = [threading.Thread(target=write, args=[account]) for account in accounts]
    for writer in writers:
        writer.start()
    for _ in range(5):
        rebuild.rebuild(patient_store())
    is_enough.set()
    for writer in writers:
        writer.join(stretched(PATIENCE))
    for account in accounts:
        publish_account(account.id, store=patient_store())

    assert differences() == []


def test_versions_grow_over_a_rebuild(account: Account) -> None:
    rebuild.rebuild(patient_store())
    with transaction.atomic():
        make_access_key(account)
    before = Publication.objects.get().version

    rebuild.rebuild(patient_store())

    assert Publication.objects.get().version > before


def test_one_row_that_cannot_be_read_keeps_no_other_account_out(account: Account) -> None:
    bobs = make_account("Bob's")
    tokens = document_kinds.kind_of("token")

    def all_documents(of: Collection[Account]) -> object:
        if account in of:
            raise KeyError("broken")
        return tokens.all_documents(of)

    commit_unpublished(lambda: make_access_key(account))
    commit_unpublished(lambda: make_access_key(bobs))
    broken = document_kinds.Kind("token", tokens.documents, all_documents)  # type: ignore[arg-type]
    with document_kinds.port_of("token").replaced(broken):
        _, documents = rebuild.rebuild(patient_store())

    assert documents == 1


def test_the_command_rebuilds_and_says_how_much(account: Account) -> None:
    commit_unpublished(lambda: make_access_key(account))
    said = StringIO()

    call_command("rebuild_snapshots", stdout=said)

    assert "1 accounts, 1 documents" in said.getvalue()


def test_the_command_tells_differences_and_changes_nothing(account: Account, redis: Redis) -> None:
    rebuild.rebuild(patient_store())
    with transaction.atomic():
        key = make_access_key(account)
    said = StringIO()
    call_command("rebuild_snapshots", "--compare", stdout=said)
    assert "Redis and PostgreSQL agree." in said.getvalue()
    redis.delete(keys().token(key.digest))

    with pytest.raises(CommandError, match="1 documents differ"):
        call_command("rebuild_snapshots", "--compare", account=account.text_id, stdout=said)

    assert f"{account.text_id} token:{key.digest}: missing" in said.getvalue()
    assert not redis.exists(keys().token(key.digest))


def test_many_accounts_cost_the_comparison_no_more_queries_than_a_few() -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert list(comparison.compare(patient_store())) == []
        return len(captured)

    def make(count: int) -> None:
        for account in (make_account() for _ in range(count)):
            make_access_key(account)

    commit_unpublished(lambda: make(3))
    rebuild.rebuild(patient_store())
    few = queries()
    commit_unpublished(lambda: make(30))
    rebuild.rebuild(patient_store())

    assert queries() == few


def test_the_command_repairs_one_account_without_a_new_epoch(account: Account, redis: Redis) -> None:
    rebuild.rebuild(patient_store())
    with transaction.atomic():
        key = make_access_key(account)
    redis.delete(keys().token(key.digest))
    epoch = redis.hget(keys().epoch, "id")

    call_command("rebuild_snapshots", account=account.text_id, stdout=StringIO())

    assert differences() == []
    assert redis.hget(keys().epoch, "id") == epoch


def test_the_command_knows_no_account_by_a_wrong_id() -> None:
    with pytest.raises(CommandError, match="no account"):
        call_command("rebuild_snapshots", account="ac_wrong")


def test_an_account_that_has_lost_its_last_document_keeps_its_version_over_a_rebuild(account: Account) -> None:
    rebuild.rebuild(patient_store())
    with transaction.atomic():
        key = make_access_key(account)
    with transaction.atomic():
        delete(key)

    rebuild.rebuild(patient_store())

    assert differences() == []


def test_many_small_accounts_are_rebuilt_together(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "ACCOUNTS_AT_ONCE", 3)
    monkeypatch.setattr(rebuild, "CHUNK", 2)
    accounts = [make_account(f"{number}") for number in range(7)]
    for account in accounts[:5]:
        commit_unpublished(partial(make_access_keys, account, 2))
        commit_unpublished(partial(make_configuration, account))

    assert rebuild.rebuild(patient_store()) == (7, 15)

    assert differences() == []
    # Who never had anything has no version.
    assert not redis.exists(keys().account(accounts[-1].text_id))
