"""Publish an account's pending changes to Redis: one publication at a time for an account, each in one Lua call.

Why nothing is lost and nothing goes back. The account's publication row is locked before the changes are read, so
whoever holds it sees every change that was committed by then; exactly those are deleted, in the transaction that
notes the publication. A change that commits later stays for the next one, whatever its ID. A publisher that is stopped
between reading and writing loses its session, and with it the lock, after two seconds; when it wakes, Redis holds
another version than the one it read under its lock, and refuses.

Source: docs/decisions/0009-snapshots.md.
"""

import time
import uuid
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from django.db import OperationalError, connection, models, transaction
from django.utils import timezone
from redis.exceptions import RedisError

from accounts.models import Account
from gateway_core import snapshot
from gateway_core.envelopes import VERSION_DIGITS, VERSION_OFFSET, NotAuthentic, Purpose
from gateway_core.redis_errors import trouble_of
from gateway_core.snapshot import ChangeDocument, VersionDocument
from snapshots.compilation import Compiled, compile_documents
from snapshots.locking import bound_waiting, commit_durably, lock_publication
from snapshots.models import WHOLE_ACCOUNT, Change, Epoch, Publication
from snapshots.redis_client import SnapshotRedis, document_keys, inline_store, keys

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)


# At most this many changes in one publication, because Redis does nothing else while it writes.
BATCH: Final = 500
# At most this many changes are added to a batch to make it consistent in itself.
SETTLING_LIMIT: Final = 5000
SETTLING_ROUNDS: Final = 5
CHANGES_KEPT: Final = 10_000
PAUSE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Receipt:
    """The publication that contains a write: the account's version, and its number in the change stream."""

    version: int
    number: int


class PublicationRefused(Exception):
    """Redis refused a publication; its changes are still pending."""

    # The reasons: answers of the Lua scripts, and FORGED, which we detect ourselves.
    EPOCH = "epoch"
    STREAM = "stream"
    TYPE = "type"
    FORGED = "version not authentic"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Redis refused a publication: {reason}")
        self.reason = reason

    @property
    def needs_rebuild(self) -> bool:
        """Whether only a rebuild can repair it."""
        return self.reason == self.FORGED

    @property
    def is_of_one_account(self) -> bool:
        """Whether the account's own key in Redis is at fault. If so, other accounts can still be published."""
        return self.reason == self.TYPE


class _Pause:
    """After a failure, this process leaves publishing to the relay for a moment, so that writers do not all wait."""

    def __init__(self) -> None:
        self._until = 0.0

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._until = time.monotonic() + PAUSE_SECONDS

    def end(self) -> None:
        self._until = 0.0


pause: Final = _Pause()


def publish_inline(account_id: uuid.UUID) -> Receipt | None:
    """Publish right after a commit; if that fails, leave it to the relay.

    Returns:
        The publication that contains everything committed before the call; None if it is left to the relay.
    """
    if pause.is_on:
        return None
    try:
        return publish_account(account_id, store=inline_store())
    except RedisError as fault:
        trouble = trouble_of(fault)
        if trouble.is_of_the_server:
            pause.begin()
        log.warning("publishing is left to the relay", trouble=f"Redis {trouble}", fault=type(fault).__name__)
    except PublicationRefused as refusal:
        # A rebuild is running or about to run. Until it ends, each attempt would fail in the same way.
        if not refusal.is_of_one_account:
            pause.begin()
        log.info("publishing is left to the relay", reason=refusal.reason)
    except OperationalError as fault:
        # Another publisher holds the account for longer than a request waits, or our session was ended.
        log.info("publishing is left to the relay", reason=type(fault.__cause__ or fault).__name__)
        connection.close_if_unusable_or_obsolete()
    return None


def publish_account(
    account_id: uuid.UUID,
    *,
    store: SnapshotRedis,
    names: Collection[str] = (),
    skip_locked: bool = False,
    replaces: bool = False,
) -> Receipt | None:
    """Publish the account's pending changes, in a new transaction.

    Args:
        account_id: the UUID of the account.
        store: the Redis to publish to.
        names: documents to publish again although no change of them is pending.
        skip_locked: skip an account that another publisher works on, instead of waiting 250 ms for it.
        replaces: the account's key in Redis is of another type, and `names` are all documents of its hash: replace it.

    Returns:
        The account's newest publication, ours or another process's. None if a change that was committed before the call
        is still pending (more than one batch, or set aside), or if the account is deleted or was skipped.

    Raises:
        PublicationRefused: Redis is in another epoch or an unfinished one, or is ahead so that only a rebuild helps, or
            holds a key of another type in the place of the account.
        RedisError: Redis did not answer.
        OperationalError: another publisher holds the account.
    """
    with transaction.atomic(durable=True):
        bound_waiting(lock="250ms", idle="2s")
        publication = _lock(account_id, skip_locked=skip_locked)
        if publication is None:
            return None
        return _Publishing(publication, store, replaces=replaces).run(names)


def stored_version(location: str, envelope: bytes) -> int:
    """The version of an envelope in Redis; 0 for an empty one.

    Raises:
        PublicationRefused: it is not authentic. Something else writes to this Redis; only a rebuild can repair that.
    """
    if not envelope:
        return 0
    with suppress(NotAuthentic):
        return document_keys().verify(Purpose.DOCUMENT, location, envelope).version
    log.error("Redis holds a version that is not signed with a document key", location=location)
    raise PublicationRefused(PublicationRefused.FORGED)


def _lock(account_id: uuid.UUID, *, skip_locked: bool) -> Any:
    """Lock the account's publication row, and create it if needed. None: it was skipped, or the account is deleted."""
    found = lock_publication(account_id, skip_locked=skip_locked)
    if found is None and Account.objects.filter(id=account_id).exists():
        Publication.objects.bulk_create([Publication(account_id=account_id)], ignore_conflicts=True)
        found = lock_publication(account_id, skip_locked=skip_locked)
    return found


@dataclass
class _Batch:
    """The changes of a publication, and the documents that they name."""

    changes: list[int] = field(default_factory=list)
    names: dict[str, None] = field(default_factory=dict)

    def add(self, changes: Sequence[tuple[int, str]]) -> None:
        self.changes += (change for change, _ in changes)
        self.names |= dict.fromkeys(name for _, name in changes)


class _Publishing:
    """One publication; it holds the lock of its account's row."""

    def __init__(self, publication: Any, store: SnapshotRedis, *, replaces: bool) -> None:
        self._publication = publication
        self._replaces = replaces
        self._account: Account = publication.account
        self._store = store

    def run(self, names: Collection[str]) -> Receipt | None:
        batch = _Batch(names=dict.fromkeys(names))
        pending = list(self._pending().order_by("id").values_list("id", "document")[: BATCH + 1])
        batch.add(pending[:BATCH])
        if not batch.names:
            return Receipt(self._publication.version, self._publication.number)
        compiled = self._settle(batch)
        if compiled.faults:
            self._park(batch, compiled.faults)
        if not compiled.bodies:
            return None
        receipt = self._write(compiled.bodies)
        self._conclude(batch, compiled, receipt)
        is_all = len(pending) <= BATCH and not compiled.faults
        return receipt if is_all else None

    def _pending(self) -> models.QuerySet[Change]:
        return Change.objects.filter(account=self._account, parked_at=None).exclude(document=WHOLE_ACCOUNT)

    def _settle(self, batch: _Batch) -> Compiled:
        """Read the batch's documents until they are consistent: no published document refers to an unpublished one.

        Writers commit while we read. A document is read before the documents that it refers to. So these exist, or a
        later change deletes them. In two cases more changes are added and all is read again. In the first, a document
        refers to one whose change is not in the batch. In the second, a document of the batch is deleted, and one that
        referred to it has changed too.
        """
        for _ in range(SETTLING_ROUNDS):
            compiled = compile_documents(self._account, batch.names)
            more = self._missing_changes(batch, compiled)
            if not more and not compiled.references & compiled.deleted:
                return compiled
            if len(batch.changes) + len(more) > SETTLING_LIMIT:
                break
            batch.add(more)
        # Workers answer 503 for a dangling reference until the next publication, which follows at once.
        log.warning("an account changes faster than it can be read", account=self._account.text_id)
        return compiled

    def _missing_changes(self, batch: _Batch, compiled: Compiled) -> list[tuple[int, str]]:
        if not compiled.references and not compiled.deleted:
            return []
        pending = self._pending().exclude(id__in=batch.changes)
        if not compiled.deleted:
            pending = pending.filter(document__in=compiled.references)
        return list(pending.order_by("id").values_list("id", "document")[: SETTLING_LIMIT + 1])

    def _park(self, batch: _Batch, faults: dict[str, str]) -> None:
        for name, reason in faults.items():
            changes = self._pending().filter(id__in=batch.changes, document=name)
            changes.update(parked_at=timezone.now(), reason=reason)
            log.error(
                "a change cannot be published and is set aside",
                account=self._account.text_id,
                document=name,
                reason=reason,
            )

    def _write(self, bodies: dict[str, bytes | None]) -> Receipt:
        """Make one Lua call; make a second one if Redis is at another version than PostgreSQL expects."""
        known = 0 if self._replaces else self._publication.version
        version = max(self._publication.version + 1, self._publication.clock)
        answer = self._call(bodies, known, version)
        if answer[0] == b"version":
            known = stored_version(keys().location(self._account.text_id, snapshot.VERSION_DOCUMENT), answer[1])
            log.warning(
                "Redis and PostgreSQL hold different versions of an account",
                account=self._account.text_id,
                redis=known,
                postgresql=self._publication.version,
            )
            # This write to the database fails if we have lost the lock. A process that was stopped and lost its lock,
            # while others published, must not try again with a higher version.
            self._publication.save(update_fields=["number"])
            self._mistrust(known)
            version = max(known + 1, version)
            answer = self._call(bodies, known, version)
        if answer[0] != b"published":
            raise PublicationRefused(answer[0].decode("ascii"))
        return Receipt(version, int(answer[1]))

    def _mistrust(self, known: int) -> None:
        """Ask the relay for the repairs that this publication cannot make."""
        if known < self._publication.version:
            # Redis has lost a publication that it had acknowledged, and perhaps more: deleted keys may be valid again.
            commit_durably()
            Epoch.objects.update(completed_at=None)
        else:
            # Either a publisher ended between its write to Redis and its commit here; that is repaired soon. Or
            # PostgreSQL was restored from a backup, and Redis holds documents of this account that it does not know.
            Change.objects.create(account=self._account, document=WHOLE_ACCOUNT)

    def _call(self, bodies: dict[str, bytes | None], known: int, version: int) -> Any:
        account = self._account.text_id
        epoch = str(self._publication.epoch)
        return publish(self._store, account, bodies, epoch=epoch, known=known, version=version)

    def _conclude(self, batch: _Batch, compiled: Compiled, receipt: Receipt) -> None:
        self._publication.version = receipt.version
        self._publication.number = receipt.number
        self._publication.published_at = timezone.now()
        self._publication.save(update_fields=["version", "number", "published_at"])
        Change.objects.filter(id__in=batch.changes, parked_at=None).delete()
        # A later change that could be published replaces an earlier one that was set aside.
        Change.objects.filter(
            account=self._account, parked_at__isnull=False, document__in=list(compiled.bodies)
        ).delete()


def publish(
    store: SnapshotRedis, account: str, bodies: dict[str, bytes | None], *, epoch: str, known: int, version: int
) -> Any:
    """Make the Lua call of one publication. Every document is signed for its location.

    Args:
        store: the Redis to publish to.
        account: an account's `ac_…` ID, or `catalog`.
        bodies: the documents' bodies by name; None deletes a document.
        epoch: the epoch that Redis must have.
        known: the version that the caller expects in Redis; 0 if none.
        version: the new version.

    Returns:
        The script's answer (scripts/publish.lua).
    """
    sign, names = document_keys().sign, keys()
    envelopes = {
        name: None if body is None else sign(Purpose.DOCUMENT, names.location(account, name), version, body)
        for name, body in bodies.items()
    }
    change = snapshot.encode(ChangeDocument(documents=envelopes))
    if len(change) > snapshot.MAX_CHANGE_BYTES:
        change = snapshot.encode(ChangeDocument(documents={}, is_partial=True))
    tokens = {name: envelope for name, envelope in envelopes.items() if name.startswith("token:")}
    fields = {name: envelope for name, envelope in envelopes.items() if name not in tokens}
    written = {name: envelope for name, envelope in tokens.items() if envelope is not None}
    set_fields = [part for name, envelope in fields.items() if envelope is not None for part in (name, envelope)]
    deleted_fields = [name for name, envelope in fields.items() if envelope is None]
    return store.publish(
        keys=[
            names.epoch,
            names.changes,
            names.catalog if account == snapshot.CATALOG else names.account(account),
            *(names.prefix + name for name in written),
            *(names.prefix + name for name in tokens if name not in written),
        ],
        args=[
            epoch,
            f"{known:0{VERSION_DIGITS}}" if known else "",
            version_envelope(account, version),
            account,
            sign(Purpose.CHANGE, names.change(account), version, change),
            CHANGES_KEPT,
            len(set_fields) // 2,
            *set_fields,
            len(deleted_fields),
            *deleted_fields,
            len(written),
            *written.values(),
        ],
    )


def version_envelope(account: str, version: int) -> bytes:
    """The signed document that contains only the account's version."""
    location = keys().location(account, snapshot.VERSION_DOCUMENT)
    return document_keys().sign(Purpose.DOCUMENT, location, version, snapshot.encode(VersionDocument()))


# The Lua scripts find the version at a fixed offset. If the envelope changes, this fails and the scripts must follow.
assert (VERSION_OFFSET, VERSION_DIGITS) == (11, 16)  # noqa: S101
