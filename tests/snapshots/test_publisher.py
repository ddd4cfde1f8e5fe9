"""Holds: snapshots.publisher

The publisher: nothing uncommitted is published, nothing committed is lost, and Redis never goes back.
"""

import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from django.conf import LazySettings
from django.db import transaction
from django.utils import timezone
from redis import Redis

from access_keys.models import AccessKey
from accounts.models import Account
from gateway_core import snapshot
from gateway_core.envelopes import DocumentKeys, Purpose, generate_document_key
from gateway_core.snapshot import TokenDocument
from snapshots import document_kinds, outbox
from snapshots.models import WHOLE_ACCOUNT, Change, Epoch, Publication
from snapshots.publisher import PublicationRefused, pause, publish_account, publish_inline, version_envelope
from snapshots.redis_client import document_keys, inline_store, keys, patient_store
from tests.patience import PATIENCE, stretched
from tests.snapshots.rows import (
    assert_stream_is_sound,
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
    router_of,
    stream,
    touch,
    write_some,
)

pytestmark = pytest.mark.usefixtures("_live")


@pytest.fixture
def replace_kind() -> Iterator[Callable[[document_kinds.Kind], None]]:
    """Read documents of a kind in another way for the length of a test."""
    kinds = document_kinds.kinds()

    def replace(kind: document_kinds.Kind) -> None:
        document_kinds.port_of(kind.name).provide(kind)

    yield replace
    for kind in kinds:
        replace(kind)


def test_racing_publishers_lose_nothing_and_never_go_back(redis: Redis) -> None:
    accounts = [make_account(f"{number}") for number in range(2)]

    with ThreadPoolExecutor(6) as threads:
        for number in range(150):
            threads.submit(in_thread, write_some, accounts[number % 2].id, number // 2)
    for account in accounts:
        publish_account(account.id, store=patient_store())

    assert differences() == []
    assert_stream_is_sound(redis)


def test_a_change_that_commits_late_is_not_lost(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        early = make_access_key(account)
    is_recorded, may_commit = threading.Event(), threading.Event()

    def is_disabled(key: AccessKey) -> bool | None:
        held = held_token(redis, key)
        return None if held is None else held.disabled

    def write_slowly() -> None:
        with transaction.atomic():
            touch(early, disabled=True)
            is_recorded.set()
            assert may_commit.wait(20)

    slow = threading.Thread(target=in_thread, args=[write_slowly])
    slow.start()
    assert is_recorded.wait(20)
    with transaction.atomic():
        late = make_access_key(account)
    assert held_token(redis, late)
    assert is_disabled(early) is False

    may_commit.set()
    slow.join(stretched(PATIENCE))

    assert is_disabled(early) is True
    assert differences() == []


def test_a_writer_whose_change_was_published_by_another_gets_that_receipt(account: Account) -> None:
    commit_unpublished(lambda: make_access_key(account))
    first = publish_inline(account.id)

    assert first is not None
    assert publish_inline(account.id) == first


def test_only_the_account_that_has_something_pending_is_written(account: Account, redis: Redis) -> None:
    bobs = make_account("Bob's")
    commit_unpublished(lambda: make_access_key(bobs))

    with transaction.atomic():
        make_access_key(account)

    assert {of for _, of, _, _ in stream(redis)} == {account.text_id}
    assert Change.objects.get().account == bobs


def test_a_document_that_refers_to_a_newer_one_is_published_with_it(
    account: Account, redis: Redis, replace_kind: Callable[[document_kinds.Kind], None]
) -> None:
    with transaction.atomic():
        key = make_access_key(account)
    tokens = document_kinds.kind_of("token")
    calls: list[int] = []

    def documents(of: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
        if not calls:
            # Between reading the changes and reading the token, another writer makes a configuration and links it.
            commit_unpublished(lambda: touch(key, configuration=make_configuration(account)))
        calls.append(1)
        return dict(tokens.documents(of, names))

    replace_kind(document_kinds.Kind("token", documents, tokens.all_documents))
    commit_unpublished(lambda: touch(key, disabled=True))
    publish_account(account.id, store=patient_store())

    assert len(calls) == 2
    [_, (_, _, _, change)] = stream(redis)
    document = held_token(redis, key)
    assert document is not None
    assert document.configuration is not None
    assert snapshot.configuration_document(document.configuration) in change.documents


def test_a_deletion_is_published_with_what_let_go_of_the_object(
    account: Account, redis: Redis, replace_kind: Callable[[document_kinds.Kind], None]
) -> None:
    with transaction.atomic():
        provider_key = make_provider_key(account)
        configuration = make_configuration(account, keys_of_openai=(provider_key,))
    provider_keys = document_kinds.kind_of("providerKey")
    calls: list[int] = []

    def let_go() -> None:
        touch(configuration, router=None)
        delete(provider_key)

    def documents(of: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
        if not calls:
            commit_unpublished(let_go)
        calls.append(1)
        return dict(provider_keys.documents(of, names))

    replace_kind(document_kinds.Kind("providerKey", documents, provider_keys.all_documents))
    commit_unpublished(lambda: touch(provider_key, name="renamed"))
    publish_account(account.id, store=patient_store())

    [_, (_, _, _, change)] = stream(redis)
    assert change.documents[configuration.snapshot_document] is not None
    [(name, envelope)] = [item for item in change.documents.items() if item[0].startswith("providerKey:")]
    assert name.startswith("providerKey:aigpk_")
    assert envelope is None


def test_a_router_is_never_in_redis_without_its_keys(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        old = make_provider_key(account)
        configuration = make_configuration(account, keys_of_openai=(old,))
    with transaction.atomic():
        new = make_provider_key(account)
        touch(configuration, router=router_of((new,)))
        delete(old)

    [_, (_, _, _, change)] = stream(redis)
    assert len(change.documents) == 3


def test_a_change_that_cannot_be_compiled_is_set_aside_and_holds_nothing_up(
    account: Account,
    redis: Redis,
    replace_kind: Callable[[document_kinds.Kind], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    configurations = document_kinds.kind_of("configuration")
    with transaction.atomic():
        broken = make_configuration(account)

    def documents(of: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
        if broken.snapshot_document in names:
            raise KeyError("a secret that must not be told")
        return dict(configurations.documents(of, names))

    replace_kind(document_kinds.Kind("configuration", documents, configurations.all_documents))
    with transaction.atomic():
        outbox.record(broken)
        good = make_configuration(account)

    parked = Change.objects.get()
    assert (parked.document, parked.reason) == (broken.snapshot_document, "KeyError")
    assert "set aside" in caplog.text
    assert "a secret that must not be told" not in caplog.text
    assert parked.parked_at is not None
    assert redis.hexists(keys().account(account.text_id), good.snapshot_document)
    assert outbox.last_receipt() is None


def test_a_change_set_aside_is_made_good_by_a_later_one(account: Account) -> None:
    with transaction.atomic():
        configuration = make_configuration(account)
    name = configuration.snapshot_document
    Change.objects.create(account=account, document=name, reason="once", parked_at=timezone.now())

    with transaction.atomic():
        outbox.record(configuration)

    assert differences() == []


def test_a_document_that_no_worker_would_take_is_set_aside(
    account: Account, replace_kind: Callable[[document_kinds.Kind], None]
) -> None:
    tokens = document_kinds.kind_of("token")

    def documents(of: Account, names: Collection[str]) -> dict[str, msgspec.Struct | None]:
        too_large = TokenDocument(account="x" * (snapshot.MAX_DOCUMENT_BYTES + 1), access_key="y")
        return dict.fromkeys(names, too_large)

    replace_kind(document_kinds.Kind("token", documents, tokens.all_documents))
    with transaction.atomic():
        make_access_key(account)

    assert "over the limit" in (Change.objects.get().reason or "")


def test_a_publication_too_large_for_the_stream_is_announced_without_its_documents(
    account: Account, redis: Redis
) -> None:
    with transaction.atomic():
        provider_keys = tuple(make_provider_key(account) for _ in range(80))
        for _ in range(100):
            make_configuration(account, keys_of_openai=provider_keys)

    [(_, _, _, change)] = stream(redis)
    assert change.is_partial
    assert change.documents == {}
    assert differences() == []


def test_more_than_a_batch_is_left_to_the_relay(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        make_access_keys(account, 600)

    assert outbox.last_receipt() is None
    assert Change.objects.count() == 100
    publish_account(account.id, store=patient_store())
    assert differences() == []


def test_redis_refuses_a_publication_of_another_epoch(account: Account) -> None:
    commit_unpublished(lambda: make_access_key(account))
    Epoch.objects.update(id="00000000-0000-7000-8000-000000000000")

    with pytest.raises(PublicationRefused, match="epoch"):
        publish_account(account.id, store=patient_store())

    assert Change.objects.count() == 1


def test_redis_refuses_a_publication_while_a_rebuild_is_on(account: Account, redis: Redis) -> None:
    redis.hset(keys().epoch, "complete", 0)

    with transaction.atomic():
        make_access_key(account)

    assert Change.objects.count() == 1
    assert pause.is_on


def test_a_postgresql_that_was_restored_catches_up_with_redis(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        make_access_key(account)
    ahead = Publication.objects.get().version + 10**12
    redis.hset(keys().account(account.text_id), "version", version_envelope(account.text_id, ahead))

    with transaction.atomic():
        key = make_access_key(account)

    assert held_token(redis, key)
    assert Publication.objects.get().version == ahead + 1
    # The relay has to look at everything of this account.
    assert Change.objects.get().document == WHOLE_ACCOUNT


def test_a_version_that_nobody_of_ours_wrote_is_not_believed(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        make_access_key(account)
    stranger = DocumentKeys.parse(generate_document_key())
    location = keys().location(account.text_id, "version")
    redis.hset(keys().account(account.text_id), "version", stranger.sign(Purpose.DOCUMENT, location, 10**16 - 1, b"{}"))
    commit_unpublished(lambda: make_access_key(account))

    with pytest.raises(PublicationRefused) as refusal:
        publish_account(account.id, store=patient_store())

    assert refusal.value.needs_rebuild


def test_a_redis_that_is_behind_an_account_is_not_believed_any_more(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        make_configuration(account)
    redis.delete(keys().account(account.text_id))

    with transaction.atomic():
        make_configuration(account)

    assert Epoch.objects.get().completed_at is None


def test_nothing_is_written_when_the_stream_refuses(account: Account, redis: Redis) -> None:
    redis.xadd(keys().changes, {"of": "another"}, id="99999999-0")

    with transaction.atomic():
        key = make_access_key(account)

    assert held_token(redis, key) is None
    assert not redis.exists(keys().account(account.text_id))
    assert redis.hget(keys().epoch, "number") == b"0"


def test_a_failure_pauses_inline_publishing_for_a_moment(account: Account, settings: LazySettings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    inline_store.cache_clear()
    with transaction.atomic():
        make_access_key(account)

    assert pause.is_on
    assert publish_inline(account.id) is None


def test_versions_have_sixteen_digits_where_the_scripts_look_for_them(account: Account, redis: Redis) -> None:
    with transaction.atomic():
        key = make_access_key(account)

    version = Publication.objects.get().version
    envelope: Any = redis.hget(keys().account(account.text_id), "version")
    assert envelope[11:27] == b"%016d" % version
    token: Any = redis.get(keys().token(key.digest))
    assert (
        document_keys().verify(Purpose.DOCUMENT, keys().location("", key.snapshot_document), token).version == version
    )


def test_a_publication_without_an_account_is_nothing() -> None:
    assert publish_account(Account(name="gone").id, store=patient_store()) is None
