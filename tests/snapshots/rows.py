"""Rows of accounts, written as services write them: in one transaction with their changes."""

import hashlib
import secrets
import threading
import uuid
from collections.abc import Callable
from typing import Any

from django.db import close_old_connections, connection, transaction
from redis import Redis

from access_keys.models import AccessKey
from accounts.models import Account
from configurations.models import Configuration
from gateway_core import snapshot
from gateway_core.envelopes import Purpose
from gateway_core.snapshot import ChangeDocument
from provider_keys.models import ProviderKey
from snapshots import comparison, outbox
from snapshots.models import Change, Publication
from snapshots.redis_client import document_keys, keys, patient_store
from tests.patience import PATIENCE, stretched

BY = {"created_by": "aigapi_test", "last_updated_by": "aigapi_test"}


def make_account(name: str = "Alice's") -> Account:
    """An account with nothing in it."""
    return Account.objects.create(name=name)


def make_access_key(account: Account, **fields: Any) -> AccessKey:
    """An access key; a change is recorded, so a transaction has to be open."""
    digest = hashlib.sha256(secrets.token_bytes(16)).hexdigest()
    key = AccessKey.objects.create(account=account, digest=digest, key_redacted="gwk_***", **BY, **fields)
    outbox.record(key)
    return key


def make_access_keys(account: Account, count: int) -> list[AccessKey]:
    """Many access keys at once, each with its change."""
    made = [
        AccessKey(account=account, digest=hashlib.sha256(secrets.token_bytes(16)).hexdigest(), key_redacted="***", **BY)
        for _ in range(count)
    ]
    outbox.record(made[0])
    AccessKey.objects.bulk_create(made, batch_size=2000)
    Change.objects.bulk_create([Change(account=account, document=key.snapshot_document) for key in made[1:]])
    return made


def make_configuration(account: Account, *, keys_of_openai: tuple[ProviderKey, ...] = ()) -> Configuration:
    """A configuration, with a rule for OpenAI where it has keys."""
    configuration = Configuration.objects.create(
        account=account, name="a", router=router_of(keys_of_openai) if keys_of_openai else None, **BY
    )
    outbox.record(configuration)
    return configuration


def router_of(provider_keys: tuple[ProviderKey, ...]) -> dict[str, Any]:
    """A router that sends OpenAI's models to these keys."""
    step = {"type": "user", "keys": [{"id": key.text_id} for key in provider_keys]}
    return {"rules": [{"provider": "openai", "steps": [step]}]}


def make_provider_key(account: Account, provider: str = "openai") -> ProviderKey:
    """A provider key with bytes that nobody can open."""
    key = ProviderKey.objects.create(
        account=account,
        name="upstream",
        provider=provider,
        sealed=secrets.token_bytes(64),
        key_redacted="***",
        fingerprint=secrets.token_hex(32),
        **BY,
    )
    outbox.record(key)
    return key


def delete(row: Any) -> None:
    """Delete a row and record that."""
    outbox.record(row)
    row.delete()


def touch(row: Any, **fields: Any) -> None:
    """Change a row and record that."""
    for name, value in fields.items():
        setattr(row, name, value)
    row.save(update_fields=list(fields))
    outbox.record(row)


def write_some(account_id: uuid.UUID, choice: int) -> None:
    """One write of one of several sorts, as a service would do it."""
    with transaction.atomic():
        account = Account.objects.get(id=account_id)
        match choice % 4:
            case 0:
                make_access_key(account, configuration=make_configuration(account))
            case 1:
                make_provider_key(account)
            case 2:
                key = AccessKey.objects.filter(account=account).order_by("?").first()
                if key is not None and AccessKey.objects.filter(id=key.id).select_for_update().exists():
                    delete(key)
            case _:
                make_access_key(account)


def differences() -> list[str]:
    """What the deep comparison finds; nothing counts as equal because its change is still pending."""
    assert list(Change.objects.values_list("document", flat=True)) == []
    return [str(difference) for difference in comparison.compare(patient_store())]


def held_token(redis: Redis, key: AccessKey) -> snapshot.TokenDocument | None:
    """What Redis holds of an access key, authenticated."""
    envelope: Any = redis.get(keys().token(key.digest))
    if envelope is None:
        return None
    found = document_keys().verify(Purpose.DOCUMENT, keys().location("", f"token:{key.digest}"), envelope)
    return snapshot.decode(snapshot.TokenDocument, found.body)


def stream(redis: Redis) -> list[tuple[int, str, int, ChangeDocument]]:
    """The change stream, authenticated: number, account, version, change."""
    entries = []
    held: Any = redis.xrange(keys().changes)
    for identity, fields in held:
        number, _, rest = identity.decode().partition("-")
        assert rest == "0"
        account = fields[b"account"].decode()
        found = document_keys().verify(Purpose.CHANGE, keys().change(account), fields[b"change"])
        entries.append((int(number), account, found.version, snapshot.decode(ChangeDocument, found.body)))
    return entries


def assert_stream_is_sound(redis: Redis) -> None:
    """Numbers without gaps, each account's versions growing, the end where PostgreSQL says it is."""
    entries = stream(redis)
    numbers = [number for number, *_ in entries]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    newest: dict[str, int] = {}
    for _, account, version, _ in entries:
        assert version > newest.get(account, 0)
        newest[account] = version
    for publication in Publication.objects.select_related("account"):
        if publication.account.text_id in newest:
            assert newest[publication.account.text_id] == publication.version


def other_session(work: Callable[[], None]) -> None:
    """Commit something as another process would, while this one is in the middle of its transaction."""
    thread = threading.Thread(target=in_thread, args=[work])
    thread.start()
    thread.join(stretched(PATIENCE))
    assert not thread.is_alive()


def commit_unpublished(work: Callable[[], object]) -> None:
    """Commit with nobody to publish it: as a process that is killed right after its commit."""

    def commit() -> None:
        with transaction.atomic():
            work()
            connection.run_on_commit.clear()

    other_session(commit)


def in_thread(work: Any, *arguments: Any) -> None:
    """Run in a thread and give its database connection back, as a request does."""
    close_old_connections()
    try:
        work(*arguments)
    finally:
        connection.close()
