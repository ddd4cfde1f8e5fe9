"""The full comparison of Redis with PostgreSQL: is every document in Redis correct?

It reads everything on both sides and trusts no version. `manage.py rebuild_snapshots --compare` runs it on demand. The
relay runs it once a day and publishes the documents that differ again.
"""

import itertools
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Any, Final

import msgspec
from django.db import transaction
from redis.exceptions import ResponseError

from accounts.models import Account
from gateway_core import ids, snapshot
from gateway_core.envelopes import NotAuthentic, Purpose
from gateway_core.redis_errors import Trouble, trouble_of
from gateway_core.redis_rights import literal
from gateway_core.snapshot import DocumentRefused, TokenDocument
from snapshots import document_kinds
from snapshots.compilation import compile_documents
from snapshots.locking import bound_waiting, lock_publication
from snapshots.models import Change, Epoch, Publication
from snapshots.publisher import publish_account
from snapshots.redis_client import SnapshotRedis, document_keys, keys

CHUNK: Final = 500
ACCOUNTS_AT_ONCE: Final = 100


class Fault(StrEnum):
    """How a document in Redis is wrong."""

    MISSING = "missing"
    OUTDATED = "outdated"
    UNKNOWN = "unknown to PostgreSQL"
    REFUSED = "not authentic, or malformed"


@dataclass(frozen=True)
class Difference:
    """One document that differs between Redis and PostgreSQL."""

    # None: no account in PostgreSQL owns the Redis key.
    account: Account | None
    # The document's name, or the Redis key if there is no account.
    document: str
    fault: Fault

    def __str__(self) -> str:
        return f"{self.account.text_id if self.account else '-'} {self.document}: {self.fault}"


def compare(store: SnapshotRedis, accounts: list[Account] | None = None) -> Iterator[Difference]:
    """Yield every difference when it is found. Documents whose change is still pending count as equal.

    Args:
        store: the Redis to compare.
        accounts: compare only these accounts; then keys that belong to no account are not searched.
    """
    if accounts is not None:
        yield from _compare_accounts(store, accounts)
        return
    after = uuid.UUID(int=0)
    while group := list(Account.objects.filter(id__gt=after).order_by("id")[:ACCOUNTS_AT_ONCE]):
        yield from _compare_accounts(store, group)
        after = group[-1].id
    yield from _compare_catalog(store)
    yield from _unknown_accounts(store)
    yield from _unknown_tokens(store)


def repair(store: SnapshotRedis, accounts: list[Account]) -> int:
    """Publish every document of these accounts again, and delete their documents that should not be in Redis.

    Each batch is an ordinary publication, so writers and workers are not disturbed. One scan over all tokens in Redis
    finds those that PostgreSQL does not know.

    Returns:
        The number of published documents.
    """
    count = 0
    for account in accounts:
        fields = _answer_or_none(partial(store.redis.hkeys, keys().account(account.text_id)))
        known = (name for name, _ in document_kinds.all_documents(account))
        stale = (name.decode("utf-8", "replace") for name in fields or () if name != snapshot.VERSION_DOCUMENT.encode())
        with transaction.atomic():
            # Streaming a million rows needs a transaction, and publications need their own. So list the names first.
            names = list(dict.fromkeys(itertools.chain(stale, known)))
        count += len(names)
        if fields is None:
            # The hash comes back whole or not at all: nobody loads an account of which a part is missing.
            hashed = [name for name in names if not name.startswith("token:")]
            publish_account(account.id, store=store, names=hashed, replaces=True)
            names = [name for name in names if name.startswith("token:")]
        for start in range(0, len(names), CHUNK):
            publish_account(account.id, store=store, names=names[start : start + CHUNK])
    repaired = set(accounts)
    for difference in _unknown_tokens(store):
        if difference.account in repaired:
            publish_account(difference.account.id, store=store, names=[difference.document])
            count += 1
    return count


def remove_unknown(store: SnapshotRedis, difference: Difference) -> bool:
    """Remove a key that belongs to no account in PostgreSQL, unless it has changed meanwhile.

    Returns:
        Whether the key was removed.
    """
    key = difference.document
    is_hash = key.startswith(keys().account(""))
    seen = _answer_or_none(
        lambda: store.redis.hget(key, snapshot.VERSION_DOCUMENT) if is_hash else store.redis.get(key)
    )
    epoch = Epoch.objects.values_list("id", flat=True).first()
    answer: Any = store.remove(keys=[keys().epoch, key], args=[str(epoch), seen or b""])
    return bool(answer[0] == b"removed" and answer[1])


def outdated_accounts(store: SnapshotRedis) -> Iterator[tuple[Account, int | None, int]]:
    """Yield (account, version in Redis, version in PostgreSQL) where these differ. Only versions are read.

    The version in Redis is None where the account's key is of another type.
    """
    after = uuid.UUID(int=0)
    while group := list(
        Publication.objects.filter(account_id__gt=after, version__gt=0)
        .select_related("account")
        .order_by("account_id")[:CHUNK]
    ):
        after = group[-1].account_id
        pipeline = store.redis.pipeline(transaction=False)
        for publication in group:
            pipeline.hget(keys().account(publication.account.text_id), snapshot.VERSION_DOCUMENT)
        for publication, envelope in zip(group, pipeline.execute(raise_on_error=False), strict=True):
            if _is_of_another_type(envelope):
                yield publication.account, None, publication.version
            elif _version_of(publication.account, envelope or b"") != publication.version:
                yield from _settled_versions(store, publication.account)


def _settled_versions(store: SnapshotRedis, account: Account) -> Iterator[tuple[Account, int, int]]:
    """Compare again with the account's row locked: a publication between the two reads is not a difference."""
    with transaction.atomic(durable=True):
        bound_waiting(lock="5s", idle="30s")
        publication = lock_publication(account.id)
        envelope = _read(store, account, snapshot.VERSION_DOCUMENT)
    version = _version_of(account, envelope or b"")
    if publication is not None and version != publication.version:
        yield account, version, publication.version


def _compare_accounts(store: SnapshotRedis, accounts: list[Account]) -> Iterator[Difference]:
    # First without a lock, so that publishers do not wait for us. Apparent differences are checked under the lock.
    suspects: dict[Account, dict[str, None]] = defaultdict(dict)
    with transaction.atomic():
        for account, name in _suspects(store, accounts):
            suspects[account][name] = None
    for account, found in suspects.items():
        names = list(found)
        for start in range(0, len(names), CHUNK):
            yield from confirm(store, account, names[start : start + CHUNK])


def _suspects(store: SnapshotRedis, accounts: list[Account]) -> Iterator[tuple[Account, str]]:
    pipeline = store.redis.pipeline(transaction=False)
    for account in accounts:
        pipeline.hgetall(keys().account(account.text_id))
    stored = {
        account: {name.decode("utf-8", "replace"): envelope for name, envelope in fields.items()}
        for account, fields in zip(accounts, pipeline.execute(raise_on_error=False), strict=True)
        # `outdated_accounts` finds it.
        if not _is_of_another_type(fields)
    }
    accounts = list(stored)
    versions = dict(Publication.objects.filter(account__in=accounts).values_list("account_id", "version"))
    for account, fields in stored.items():
        if _version_of(account, fields.pop(snapshot.VERSION_DOCUMENT, b"")) != versions.get(account.id, 0):
            yield account, snapshot.VERSION_DOCUMENT
    documents = itertools.chain.from_iterable(kind.all_documents(accounts) for kind in document_kinds.kinds())
    while chunk := list(itertools.islice(documents, CHUNK)):
        tokens = [name for _, name, _ in chunk if name.startswith("token:")]
        values: Any = store.redis.mget([keys().prefix + name for name in tokens]) if tokens else []
        held = dict(zip(tokens, values, strict=True))
        for account, name, document in chunk:
            if _judge(account, name, document, held[name] if name in held else stored[account].pop(name, None)):
                yield account, name
    for account, fields in stored.items():
        yield from ((account, name) for name in fields)


def confirm(store: SnapshotRedis, account: Account, names: list[str]) -> list[Difference]:
    """How some documents of an account differ, read under the lock of its publications."""
    with transaction.atomic(durable=True):
        bound_waiting(lock="5s", idle="30s")
        publication = lock_publication(account.id)
        pending = set(Change.objects.filter(account=account).values_list("document", flat=True))
        found = []
        if snapshot.VERSION_DOCUMENT in names:
            envelope = _read(store, account, snapshot.VERSION_DOCUMENT)
            if _version_of(account, envelope or b"") != (publication.version if publication else 0):
                fault = Fault.OUTDATED if envelope else Fault.MISSING
                found.append(Difference(account, snapshot.VERSION_DOCUMENT, fault))
        others = [name for name in names if name != snapshot.VERSION_DOCUMENT and name not in pending]
        compiled = compile_documents(account, others)
        found += (Difference(account, name, Fault.UNKNOWN) for name in compiled.faults)
        for name, document in compiled.documents.items():
            if fault_now := _judge(account, name, document, _read(store, account, name)):
                found.append(Difference(account, name, fault_now))
    return found


def _read(store: SnapshotRedis, account: Account, name: str) -> bytes | None:
    """A document as it stands in Redis. One whose key is of another type is empty, and so is not authentic."""
    answer: Any
    try:
        if name.startswith("token:"):
            answer = store.redis.get(keys().prefix + name)
        else:
            answer = store.redis.hget(keys().account(account.text_id), name)
    except ResponseError as fault:
        if not _is_of_another_type(fault):
            raise
        answer = b""
    found: bytes | None = answer
    return found


def _answer_or_none(ask: Callable[[], Any]) -> Any:
    """Redis's answer; None where the key is of another type."""
    try:
        return ask()
    except ResponseError as fault:
        if not _is_of_another_type(fault):
            raise
        return None


def _is_of_another_type(answer: Any) -> bool:
    """Whether an answer is the error of a key of another type.

    Raises:
        ResponseError: it is another error.
    """
    if not isinstance(answer, Exception):
        return False
    if trouble_of(answer) is not Trouble.WRONG_TYPE:
        raise answer
    return True


def _version_of(account: Account, envelope: bytes) -> int:
    location = keys().location(account.text_id, snapshot.VERSION_DOCUMENT)
    with suppress(NotAuthentic):
        return document_keys().verify(Purpose.DOCUMENT, location, envelope).version
    return 0


def _judge(account: Account, name: str, document: msgspec.Struct | None, envelope: bytes | None) -> Fault | None:
    if document is None:
        return None if envelope is None else Fault.UNKNOWN
    if envelope is None:
        return Fault.MISSING
    try:
        found = document_keys().verify(Purpose.DOCUMENT, keys().location(account.text_id, name), envelope)
        snapshot.read(name, found.body)
    except (NotAuthentic, DocumentRefused):
        return Fault.REFUSED
    return None if found.body == snapshot.encode(document) else Fault.OUTDATED


def _compare_catalog(store: SnapshotRedis) -> Iterator[Difference]:
    for name, document in document_kinds.build_catalog().items():
        envelope: Any = store.redis.hget(keys().catalog, name)
        if not is_catalog_document(name, snapshot.encode(document), envelope or b""):
            yield Difference(None, keys().catalog, Fault.OUTDATED if envelope else Fault.MISSING)


def is_catalog_document(name: str, body: bytes | None, envelope: bytes) -> bool:
    """Whether an envelope in Redis is the catalog's document of this name, with this body."""
    location = keys().location(snapshot.CATALOG, name)
    with suppress(NotAuthentic):
        return document_keys().verify(Purpose.DOCUMENT, location, envelope).body == body
    return False


def _scan(store: SnapshotRedis, kind: str) -> Iterator[list[str]]:
    found = store.redis.scan_iter(match=literal(keys().prefix) + kind + ":*", count=CHUNK)
    while chunk := list(itertools.islice(found, CHUNK)):
        yield [key.decode("utf-8", "replace") for key in chunk]


def _unknown_accounts(store: SnapshotRedis) -> Iterator[Difference]:
    for chunk in _scan(store, "account"):
        by_text = {key.rpartition(":")[2]: key for key in chunk}
        known = accounts_of(set(by_text))
        for text, key in by_text.items():
            if text not in known:
                yield Difference(None, key, Fault.UNKNOWN)


def _unknown_tokens(store: SnapshotRedis) -> Iterator[Difference]:
    for chunk in _scan(store, "token"):
        values: Any = store.redis.mget(chunk)
        names = defaultdict(list)
        for key, envelope in zip(chunk, values, strict=True):
            name = key[len(keys().prefix) :]
            if envelope is None and store.redis.type(key) in {b"none", b"string"}:
                continue  # deleted since, or written
            try:
                found = document_keys().verify(Purpose.DOCUMENT, keys().location("", name), envelope or b"")
                names[snapshot.decode(TokenDocument, found.body).account].append(name)
            except (NotAuthentic, DocumentRefused):
                yield Difference(None, key, Fault.REFUSED)
        found_names = [name for tokens in names.values() for name in tokens]
        known = accounts_of(set(names))
        owned = document_kinds.owners_of(found_names)
        pending = set(Change.objects.filter(document__in=found_names).values_list("document", flat=True))
        for text, tokens in names.items():
            for name in tokens:
                if text not in known:
                    yield Difference(None, keys().prefix + name, Fault.UNKNOWN)
                elif name not in pending and owned.get(name) != known[text]:
                    yield Difference(known[text], name, Fault.UNKNOWN)


def accounts_of(texts: set[str]) -> dict[str, Account]:
    """The accounts with these `ac_…` IDs, of those that exist."""
    identities = []
    for text in texts:
        with suppress(ids.InvalidId):
            identities.append(ids.from_text(ids.Prefix.ACCOUNT, text))
    return {account.text_id: account for account in Account.objects.filter(id__in=identities)}
