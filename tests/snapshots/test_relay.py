"""Holds: snapshots.upkeep, gateway_admin.relay

The relay's looks, one by one: what each notices, and what it does about it.
"""

import threading
from collections.abc import Callable

import pytest
from django.conf import LazySettings
from django.db import transaction
from redis import Redis

from accounts.models import Account
from audit import chain
from audit.actions import Action
from audit.models import PendingEvent
from audit.recording import record
from gateway_admin.relay import Relay
from gateway_core.envelopes import DocumentKeys, Purpose, generate_document_key
from snapshots import document_kinds, rebuild
from snapshots.models import WHOLE_ACCOUNT, Change, Epoch, Publication
from snapshots.publisher import pause, version_envelope
from snapshots.redis_client import keys, patient_store
from snapshots.upkeep import Upkeep
from tests.patience import PATIENCE, stretched, wait_until
from tests.snapshots.rows import (
    commit_unpublished,
    delete,
    differences,
    held_token,
    in_thread,
    make_access_key,
    make_account,
    make_configuration,
    stream,
)

pytestmark = pytest.mark.usefixtures("_live")


@pytest.fixture
def upkeep() -> Upkeep:
    return Upkeep(patient_store(), threading.Event())


def save_redis(redis: Redis) -> Callable[[], None]:
    """Remember everything in Redis; the answer puts it back, as a promoted replica that was behind would."""
    held = {key: redis.dump(key) for key in redis.scan_iter()}

    def restore() -> None:
        redis.flushall()
        for key, value in held.items():
            assert value is not None
            redis.restore(key, 0, value)

    return restore


def test_the_sweep_publishes_what_nobody_did(account: Account, redis: Redis, upkeep: Upkeep) -> None:
    commit_unpublished(lambda: make_access_key(account))

    upkeep.sweep()

    assert differences() == []
    assert len(stream(redis)) == 1


def test_a_relay_chains_the_audit_by_itself_even_without_redis(
    account: Account, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway_admin.relay.CHAIN_SECONDS", 0.05)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    patient_store.cache_clear()
    with transaction.atomic():
        record(None, Action.ACCOUNT_CREATED, account)
    stop = threading.Event()
    relay = threading.Thread(target=in_thread, args=[Relay(patient_store(), stop).run])

    relay.start()

    try:
        wait_until(lambda: not PendingEvent.objects.exists(), what="the relay chains")
    finally:
        stop.set()
        relay.join()
    assert chain.head().number == 1


def test_the_sweep_passes_over_an_account_that_is_being_published(account: Account, upkeep: Upkeep) -> None:
    bobs = make_account("Bob's")
    commit_unpublished(lambda: make_access_key(account))
    commit_unpublished(lambda: make_access_key(bobs))
    Publication.objects.get_or_create(account=account)

    with transaction.atomic():
        Publication.objects.select_for_update(no_key=True).get(account=account)
        swept = threading.Thread(target=in_thread, args=[upkeep.sweep])
        swept.start()
        swept.join(stretched(PATIENCE))
        assert not swept.is_alive()

    assert [change.account for change in Change.objects.all()] == [account]


def test_an_account_that_cannot_be_published_holds_no_other_up(upkeep: Upkeep) -> None:
    first, second = sorted((make_account(), make_account("Bob's")), key=lambda account: account.id)
    commit_unpublished(lambda: make_access_key(first))
    commit_unpublished(lambda: make_access_key(second))
    # A version that no envelope can hold.
    Publication.objects.create(account=first, version=10**16)

    upkeep.sweep()

    assert [change.account for change in Change.objects.all()] == [first]


@pytest.mark.parametrize("harm", ["flushed", "another", "unfinished"])
def test_a_redis_that_is_not_the_one_we_know_is_rebuilt(
    account: Account, redis: Redis, upkeep: Upkeep, harm: str
) -> None:
    with transaction.atomic():
        key = make_access_key(account, configuration=make_configuration(account))
    match harm:
        case "flushed":
            redis.flushall()
        case "another":
            redis.hset(keys().epoch, "id", "somebody else's")
        case "unfinished":
            redis.hset(keys().epoch, "complete", 0)

    upkeep.reconcile()

    assert held_token(redis, key)
    assert differences() == []
    assert is_content(upkeep)


def is_content(upkeep: Upkeep) -> bool:
    """Whether another look finds nothing to do."""
    before = Epoch.objects.get().id
    upkeep.reconcile()
    return Epoch.objects.get().id == before


def test_an_older_redis_is_noticed_by_its_number_and_rebuilt(account: Account, redis: Redis, upkeep: Upkeep) -> None:
    with transaction.atomic():
        gone = make_access_key(account)
    restore_older = save_redis(redis)
    with transaction.atomic():
        gone.delete()
        newer = make_access_key(account)
        Change.objects.create(account=account, document=gone.snapshot_document)
    restore_older()
    assert held_token(redis, gone)

    upkeep.reconcile()

    assert held_token(redis, gone) is None
    assert held_token(redis, newer)
    assert differences() == []


def test_numbers_go_on_after_redis_was_emptied(account: Account, redis: Redis, upkeep: Upkeep) -> None:
    for _ in range(3):
        with transaction.atomic():
            make_access_key(account)
    last = stream(redis)[-1][0]
    redis.flushall()
    upkeep.reconcile()
    pause.end()

    with transaction.atomic():
        make_access_key(account)

    assert [number for number, *_ in stream(redis)] == [last + 1]


def test_pending_changes_of_an_outage_are_covered_by_the_rebuild(
    account: Account, redis: Redis, upkeep: Upkeep
) -> None:
    redis.flushall()
    with transaction.atomic():
        make_access_key(account)
    assert Change.objects.count() == 1

    upkeep.reconcile()
    upkeep.sweep()

    assert differences() == []


def test_versions_that_differ_lead_to_a_rebuild(account: Account, redis: Redis, upkeep: Upkeep) -> None:
    with transaction.atomic():
        key = make_access_key(account)
    redis.hset(keys().account(account.text_id), "version", version_envelope(account.text_id, 1))
    redis.delete(keys().token(key.digest))

    upkeep.compare_versions()
    upkeep.reconcile()

    assert held_token(redis, key)
    assert differences() == []
    assert is_content(upkeep)


def test_a_deleted_access_key_does_not_stay_in_a_redis_that_went_back_and_was_written_to(
    account: Account, redis: Redis, upkeep: Upkeep
) -> None:
    bobs = make_account("Bob's")
    with transaction.atomic():
        gone = make_access_key(account)
    restore_older = save_redis(redis)
    with transaction.atomic():
        delete(gone)
    restore_older()
    assert held_token(redis, gone)
    # The number is again what it was: nobody sees by it that Redis went back.
    with transaction.atomic():
        make_access_key(bobs)
    upkeep.reconcile()
    assert held_token(redis, gone)

    upkeep.compare_versions()
    upkeep.reconcile()

    assert held_token(redis, gone) is None
    assert differences() == []


def test_a_write_to_an_account_that_went_back_leads_to_a_rebuild(
    account: Account, redis: Redis, upkeep: Upkeep
) -> None:
    with transaction.atomic():
        gone = make_access_key(account)
    restore_older = save_redis(redis)
    with transaction.atomic():
        delete(gone)
    restore_older()
    with transaction.atomic():
        kept = make_access_key(account)
    assert held_token(redis, kept)

    upkeep.reconcile()

    assert held_token(redis, gone) is None
    assert differences() == []


def test_a_postgresql_that_was_restored_leads_to_a_rebuild(account: Account, redis: Redis, upkeep: Upkeep) -> None:
    bobs = make_account("Bob's")
    with transaction.atomic():
        forgotten = make_access_key(bobs)
    with transaction.atomic():
        make_access_key(account)
    # The backup knows neither Bob's account nor Alice's latest publication.
    bobs.accesskey_set.all().delete()
    bobs.delete()
    Publication.objects.filter(account=account).update(version=1)

    upkeep.compare_versions()
    upkeep.reconcile()

    assert held_token(redis, forgotten) is None
    assert differences() == []


def test_an_account_marked_whole_is_published_anew_and_loses_what_postgresql_does_not_know(
    account: Account, redis: Redis, upkeep: Upkeep
) -> None:
    with transaction.atomic():
        key = make_access_key(account)
        unknown = make_access_key(account)
        configuration = make_configuration(account)
    redis.delete(keys().token(key.digest))
    redis.hdel(keys().account(account.text_id), configuration.snapshot_document)
    stale = "configuration:aigac_" + "0" * 26
    redis.hset(keys().account(account.text_id), stale, b"left over")
    unknown.delete()
    Change.objects.create(account=account, document=WHOLE_ACCOUNT)

    upkeep.repair_accounts()

    assert held_token(redis, unknown) is None
    assert not redis.hexists(keys().account(account.text_id), stale)
    assert differences() == []


def test_a_forged_version_leads_to_a_rebuild(account: Account, redis: Redis, upkeep: Upkeep) -> None:
    with transaction.atomic():
        make_access_key(account)
    stranger = DocumentKeys.parse(generate_document_key())
    location = keys().location(account.text_id, "version")
    forged = stranger.sign(Purpose.DOCUMENT, location, 10**16 - 1, b"{}")
    redis.hset(keys().account(account.text_id), "version", forged)
    commit_unpublished(lambda: make_access_key(account))

    upkeep.sweep()
    upkeep.reconcile()

    assert differences() == []


def test_a_stream_that_somebody_else_wrote_to_leads_to_a_rebuild(
    account: Account, redis: Redis, upkeep: Upkeep
) -> None:
    redis.xadd(keys().changes, {"of": "another"}, id="99999999-0")
    commit_unpublished(lambda: make_access_key(account))

    upkeep.sweep()
    upkeep.reconcile()
    pause.end()
    with transaction.atomic():
        make_access_key(account)

    assert differences() == []
    assert len(stream(redis)) == 1


def test_the_deep_comparison_is_made_good(account: Account, redis: Redis, upkeep: Upkeep) -> None:
    with transaction.atomic():
        kept = make_access_key(account)
        moved = make_access_key(account)
    value = redis.get(keys().token(kept.digest))
    assert value is not None
    redis.set(keys().token(moved.digest), value)
    redis.set(keys().token("f" * 64), value)
    strange = keys().account("ac_" + "0" * 26)
    redis.hset(strange, "settings", b"left over")

    upkeep.compare_documents()

    assert not redis.exists(keys().token("f" * 64), strange)
    assert differences() == []


def test_a_key_that_was_written_after_the_look_is_not_removed(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        key = make_access_key(account)
    epoch = str(Epoch.objects.get().id)
    name = keys().token(key.digest)

    removed = patient_store().remove(keys=[keys().epoch, name], args=[epoch, b"what stood there before"])

    assert removed == [b"removed", 0]
    assert held_token(redis, key)


def test_the_catalog_is_published_by_the_rebuild_and_again_only_when_it_differs(redis: Redis, upkeep: Upkeep) -> None:
    assert document_kinds.build_catalog() is not None
    assert differences() == []

    upkeep.compare_versions()
    assert stream(redis) == []

    redis.hdel(keys().catalog, "models")
    upkeep.compare_versions()
    [(_, of, _, _)] = stream(redis)
    assert of == "catalog"
    assert differences() == []
    assert is_content(upkeep)


def test_the_highest_number_counts_the_catalogs(redis: Redis, upkeep: Upkeep) -> None:
    redis.hdel(keys().catalog, "models")
    upkeep.compare_versions()

    assert rebuild.highest_number() == 1


def test_a_stopped_relay_ends_at_once_and_says_nothing_wrong(redis: Redis) -> None:
    stop = threading.Event()
    relay = Relay(patient_store(), stop)
    thread = threading.Thread(target=in_thread, args=[relay.run])
    thread.start()

    stop.set()
    thread.join(stretched(PATIENCE))

    assert not thread.is_alive()
