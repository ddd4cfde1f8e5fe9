"""Holds: snapshots.outbox

The outbox: a change and its write are one, and publishing begins after the commit.
"""

import pytest
from django.conf import LazySettings
from django.db import transaction
from redis import Redis

from accounts.models import Account
from snapshots import outbox
from snapshots.models import Change, Publication
from snapshots.redis_client import inline_store
from tests.snapshots.rows import delete, differences, held_token, make_access_key, make_configuration, stream

pytestmark = pytest.mark.usefixtures("_live")


def test_a_change_is_refused_outside_a_transaction(account: Account) -> None:
    with transaction.atomic():
        key = make_access_key(account)

    with pytest.raises(outbox.NotInTransaction):
        outbox.record(key)


def test_a_committed_write_is_in_redis_when_the_commit_returns(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        key = make_access_key(account)
        assert held_token(redis, key) is None

    document = held_token(redis, key)
    assert document is not None
    assert (document.account, document.access_key) == (account.text_id, key.text_id)
    assert differences() == []


def test_a_write_that_was_rolled_back_leaves_no_change_and_publishes_nothing(account: Account, redis: Redis) -> None:
    def write_and_fail() -> None:
        with transaction.atomic():
            make_access_key(account)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()

    assert not Change.objects.exists()
    assert stream(redis) == []


def test_one_transaction_is_one_publication(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        configuration = make_configuration(account)
        key = make_access_key(account, configuration=configuration)

    [(_, of, version, change)] = stream(redis)
    assert of == account.text_id
    assert set(change.documents) == {key.snapshot_document, configuration.snapshot_document}
    assert Publication.objects.get().version == version


def test_a_savepoint_that_was_rolled_back_takes_no_publication_with_it(account: Account, redis: Redis) -> None:
    def write_and_fail() -> None:
        with transaction.atomic():
            make_access_key(account)
            raise ZeroDivisionError

    with transaction.atomic():
        with pytest.raises(ZeroDivisionError):
            write_and_fail()
        kept = make_access_key(account)

    assert held_token(redis, kept) is not None
    assert differences() == []


def test_a_change_after_a_released_savepoint_shares_its_publication(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        with transaction.atomic():
            first = make_access_key(account)
        second = make_access_key(account)

    assert held_token(redis, first)
    assert held_token(redis, second)
    assert len(stream(redis)) == 1


def test_writes_to_two_accounts_publish_both(account: Account, redis: Redis) -> None:
    bobs = Account.objects.create(name="Bob's")

    with transaction.atomic():
        make_access_key(account)
        make_access_key(bobs)

    assert {of for _, of, _, _ in stream(redis)} == {account.text_id, bobs.text_id}


def test_a_deleted_access_key_is_out_of_redis_when_the_commit_returns(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        key = make_access_key(account)

    with transaction.atomic():
        delete(key)

    assert held_token(redis, key) is None
    assert differences() == []


def test_the_receipt_names_the_publication_that_carried_the_write(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        make_access_key(account)

    receipt = outbox.last_receipt()

    [(number, _, version, _)] = stream(redis)
    assert receipt is not None
    assert (receipt.version, receipt.number) == (version, number)


def test_a_dead_redis_does_not_make_a_committed_write_look_failed(
    account: Account, settings: LazySettings, redis: Redis
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    inline_store.cache_clear()

    with transaction.atomic():
        make_access_key(account)

    assert Change.objects.count() == 1
    assert outbox.last_receipt() is None


def test_a_publisher_that_fails_in_an_unforeseen_way_does_not_make_a_committed_write_look_failed(
    account: Account,
) -> None:
    # A version that no envelope can hold.
    Publication.objects.create(account=account, version=10**16)

    with transaction.atomic():
        make_access_key(account)

    assert Change.objects.count() == 1
