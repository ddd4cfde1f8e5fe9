"""Holds: snapshots.signing

Signing anew: another signature, and nothing else in Redis that anybody could notice.
"""

from io import StringIO
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.management import CommandError, call_command
from django.db import transaction
from redis import Redis

from accounts.models import Account
from gateway_core import envelopes
from gateway_core.envelopes import DocumentKeys, Purpose
from gateway_core.usage_events import BATCH_FIELD, UsageBatch
from snapshots import signing
from snapshots.publisher import publish_account
from snapshots.redis_client import SnapshotRedis, document_keys, keys, patient_store
from tests.events import seal_batch
from tests.snapshots.rows import (
    commit_unpublished,
    differences,
    make_access_key,
    make_access_keys,
    make_configuration,
    make_provider_key,
    touch,
)

OLD, NEW = envelopes.generate_document_key(), envelopes.generate_document_key()
pytestmark = pytest.mark.usefixtures("_old_key", "_live")


@pytest.fixture
def _old_key(settings: LazySettings) -> None:
    """The deployment has one key."""
    settings.DOCUMENT_KEYS = DocumentKeys.parse(OLD)


def rotate(settings: LazySettings, text: str = f"{NEW},{OLD}") -> None:
    """The deployment signs with the new one, and takes the old one still."""
    settings.DOCUMENT_KEYS = DocumentKeys.parse(text)


def fill(account: Account) -> None:
    """Documents of several kinds."""
    commit_unpublished(lambda: make_access_keys(account, 3))
    commit_unpublished(lambda: make_configuration(account, keys_of_openai=(make_provider_key(account),)))
    publish_account(account.id, store=patient_store())


def body_of(redis: Redis, key: bytes) -> bytes:
    """What stands behind the signature."""
    envelope: Any = redis.get(key)
    return bytes(envelope[envelopes.BODY_OFFSET :])


def test_without_the_old_key_everything_verifies_and_nobody_was_told(
    account: Account, redis: Redis, settings: LazySettings
) -> None:
    fill(account)
    before = {key: redis.dump(key) for key in (keys().epoch, keys().changes)}
    bodies = {key: body_of(redis, key) for key in redis.scan_iter("*token:*")}
    rotate(settings)

    # Three tokens, a configuration, a provider key, the account's version; the catalog's models, managed keys, version.
    assert signing.sign_anew(patient_store()) == (9, 0)

    rotate(settings, NEW)
    assert differences() == []
    assert {key: redis.dump(key) for key in before} == before
    assert {key: body_of(redis, key) for key in bodies} == bodies
    assert signing.sign_anew(patient_store()) == (0, 0)
    with transaction.atomic():
        make_access_key(account)
    assert differences() == []


def test_what_is_published_meanwhile_is_not_undone(
    account: Account, redis: Redis, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with transaction.atomic():
        key = make_access_key(account)
    rotate(settings)
    store = patient_store()
    write = store.sign

    def publish_first(**arguments: Any) -> Any:
        with transaction.atomic():
            touch(key, disabled=True)
        return write(**arguments)

    monkeypatch.setattr(store, "sign", publish_first)
    assert signing.sign_anew(store).signed == 3

    assert differences() == []


def test_what_no_key_of_ours_has_signed_stays_and_the_status_says_so(
    account: Account, redis: Redis, settings: LazySettings
) -> None:
    fill(account)
    strangers = DocumentKeys.parse(envelopes.generate_document_key())
    forged = strangers.sign(Purpose.DOCUMENT, keys().location("", f"token:{'f' * 64}"), 1, b"{}")
    # Authentic, and not at its place.
    moved: Any = redis.get(next(redis.scan_iter("*token:*")))
    redis.set(keys().token("f" * 64), forged)
    redis.set(keys().token("e" * 64), moved)
    redis.hset(keys().account(account.text_id), "settings", b"garbage")
    rotate(settings)

    with pytest.raises(CommandError, match="signed with none"):
        call_command("sign_documents", stdout=StringIO())

    assert redis.get(keys().token("f" * 64)) == forged
    assert redis.get(keys().token("e" * 64)) == moved
    assert redis.hget(keys().account(account.text_id), "settings") == b"garbage"


def test_the_check_counts_documents_workers_and_usage_by_key(
    account: Account, redis: Redis, settings: LazySettings
) -> None:
    fill(account)
    old = document_keys()
    redis.hset(keys().workers, "w_1", old.sign(Purpose.WORKER, "anywhere", 1, b"{}"))
    for _ in range(signing.CHUNK + 1):
        redis.xadd(keys().usage, {BATCH_FIELD: seal_batch(keys(), old, UsageBatch("w_1", ()), version=1)})
    rotate(settings)
    said = StringIO()

    with pytest.raises(CommandError, match=f"signed with {NEW[:8]} yet"):
        call_command("sign_documents", "--check", stdout=said)
    for line in ("9 documents are", "1 workers sign", f"{signing.CHUNK + 1} batches of usage wait that are"):
        assert f"{line} {'' if 'workers' in line else 'signed '}with {OLD[:8]}." in said.getvalue()

    redis.delete(keys().workers, keys().usage)
    call_command("sign_documents", stdout=said)
    call_command("sign_documents", "--check", stdout=said)
    assert f"Everything is signed with {NEW[:8]}." in said.getvalue()
    assert NEW not in said.getvalue()


def test_without_redis_the_command_says_so(settings: LazySettings, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = SnapshotRedis("redis://127.0.0.1:1/0", timeout=0.1)
    monkeypatch.setattr("snapshots.management.commands.sign_documents.patient_store", lambda: nowhere)

    with pytest.raises(CommandError, match="does not answer"):
        call_command("sign_documents")
    with pytest.raises(CommandError, match="does not answer"):
        call_command("sign_documents", "--check")
