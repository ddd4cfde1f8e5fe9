"""Write everything again into a Redis that has lost data, in a new epoch.

During a rebuild Redis refuses publications, and workers load nothing and use the documents that they hold. Everything
is removed and then written from PostgreSQL, one group of accounts at a time. The rows of a group are locked meanwhile,
and each group is read in one database snapshot. If a rebuild dies, its epoch stays unfinished, and the relay begins
another one. If the first process was only suspended, Redis refuses its next step.

Source: docs/decisions/0009-snapshots.md.
"""

import itertools
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final

import msgspec
import structlog
from django.db import Error as DatabaseFault
from django.db import models, transaction
from django.utils import timezone

from accounts.models import Account
from gateway_core import ids, snapshot
from gateway_core.envelopes import Purpose
from gateway_core.redis_rights import literal
from snapshots import document_kinds
from snapshots.comparison import is_catalog_document
from snapshots.compilation import Compiled, log_fault, put
from snapshots.lease import leased
from snapshots.locking import ClockMicroseconds, at_one_moment, bound_waiting
from snapshots.models import Change, Epoch, Publication
from snapshots.publisher import (
    PublicationRefused,
    pause,
    publish,
    stored_version,
    version_envelope,
)
from snapshots.redis_client import SnapshotRedis, document_keys, keys

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

CHUNK: Final = 500
ACCOUNTS_AT_ONCE: Final = 200
LEASE: Final = "rebuild"

Progress = Callable[[int, int], None]


class RebuildRunning(Exception):
    """Another process is rebuilding this Redis."""


class RebuildOvertaken(Exception):
    """Another rebuild began while this one was under way."""


def rebuild(store: SnapshotRedis, *, report: Progress | None = None) -> tuple[int, int]:
    """Write everything in Redis again, in a new epoch.

    Args:
        store: the Redis to rebuild.
        report: called repeatedly with (accounts, documents) written so far.

    Returns:
        The numbers of (accounts, documents) that were written.

    Raises:
        RebuildRunning: another process is rebuilding.
        RebuildOvertaken: another rebuild began in the meantime.
        RedisError: Redis did not answer; the epoch stays unfinished.
    """
    with leased(LEASE) as is_ours:
        if not is_ours:
            raise RebuildRunning(RebuildRunning.__doc__)
        began = time.monotonic()
        epoch = _begin(store)
        work = _Rebuild(store, str(epoch), report)
        work.remove_everything()
        work.write_catalog()
        work.write_accounts()
        _expect(store.complete_epoch(keys=[keys().epoch], args=[str(epoch)]), b"completed")
        Epoch.objects.filter(id=epoch).update(completed_at=timezone.now())
        # What this process could not publish before, Redis takes now.
        pause.end()
        log.info(
            "Redis was rebuilt",
            accounts=work.accounts,
            documents=work.documents,
            seconds=round(time.monotonic() - began, 1),
        )
        return work.accounts, work.documents


def highest_number() -> int:
    """The highest number in the change stream that PostgreSQL knows."""
    published = Publication.objects.aggregate(highest=models.Max("number"))["highest"] or 0
    epoch = Epoch.objects.values_list("number", flat=True).first() or 0
    return max(published, epoch)


def _begin(store: SnapshotRedis) -> uuid.UUID:
    found = store.epoch().id
    with transaction.atomic():
        highest = highest_number()
        Epoch.objects.all().delete()
        epoch = Epoch.objects.create(id=ids.new_id(), number=highest)
    answer = store.begin_epoch(keys=[keys().epoch, keys().changes], args=[str(epoch.id), found, highest])
    _expect(answer, b"begun")
    Epoch.objects.filter(id=epoch.id).update(number=int(answer[1]))
    return epoch.id


def _expect(answer: Any, wanted: bytes) -> None:
    if answer[0] != wanted:
        raise RebuildOvertaken(RebuildOvertaken.__doc__)


class _Rebuild:
    """The steps of one rebuild."""

    def __init__(self, store: SnapshotRedis, epoch: str, report: Progress | None) -> None:
        self._store = store
        self._epoch = epoch
        self._report = report
        self.accounts = 0
        self.documents = 0

    def remove_everything(self) -> None:
        """Remove every document, so that none stays that PostgreSQL does not know."""
        for pattern in ("token:*", "account:*"):
            found = self._store.redis.scan_iter(match=literal(keys().prefix) + pattern, count=CHUNK)
            while chunk := list(itertools.islice(found, CHUNK)):
                self._write(removed=chunk)
        self._write(removed=[keys().catalog.encode()])

    def write_catalog(self) -> None:
        """Write the catalog: the built-in providers' models and the operator's keys."""
        documents = document_kinds.build_catalog()
        if not documents:
            return
        version = _database_clock()
        piece = _Piece(version)
        for name, document in documents.items():
            piece.add(snapshot.CATALOG, name, snapshot.encode(document))
        piece.end(snapshot.CATALOG)
        self._write(piece)

    def write_accounts(self) -> None:
        """Write every account, in groups, in the order of their IDs. One that is created meanwhile comes last."""
        after = uuid.UUID(int=0)
        while group := list(Account.objects.filter(id__gt=after).order_by("id")[:ACCOUNTS_AT_ONCE]):
            Publication.objects.bulk_create([Publication(account=account) for account in group], ignore_conflicts=True)
            self.documents += at_one_moment([account.id for account in group], self._write_group)
            self.accounts += len(group)
            after = group[-1].id
            self._report_progress(0)

    def _write_group(self, publications: list[Any]) -> int:
        """Write a group of accounts in pieces, and return the number of documents.

        No other process publishes them until the transaction ends. All accounts of the group get the same version. It
        is higher than each of their old versions, and a version has no other meaning.
        """
        if not publications:
            return 0  # deleted since
        accounts = [publication.account for publication in publications]
        version = max(max(one.version + 1, one.clock) for one in publications)
        changes = Change.objects.filter(account__in=accounts, parked_at=None)
        # An account that has never published anything gets no version.
        begun = {one.account_id for one in publications if one.version}
        begun |= set(changes.order_by().values_list("account_id", flat=True).distinct())
        written = 0
        piece = _Piece(version)
        for account, name, document in self._documents(accounts):
            if piece.documents == CHUNK:
                written += self._write(piece)
                self._report_progress(written)
                piece = _Piece(version)
            begun.add(account.id)
            piece.add_document(account, name, document)
        for account in accounts:
            if account.id in begun:
                piece.end(account.text_id)
        written += self._write(piece)
        Publication.objects.filter(account__in=begun).update(version=version, published_at=timezone.now())
        # These are deleted before the epoch is complete. If this rebuild fails later, the next one writes the same
        # documents again. A change that was recorded after this transaction began is not visible here, and stays.
        changes.delete()
        return written

    def _documents(self, accounts: list[Account]) -> Iterator[tuple[Account, str, msgspec.Struct]]:
        for kind in document_kinds.kinds():
            try:
                yield from kind.all_documents(accounts)
            except DatabaseFault:
                raise
            except Exception:  # noqa: BLE001 -- tried again account by account, and logged there
                for account in accounts:
                    yield from self._documents_of(kind, account)

    def _documents_of(
        self, kind: document_kinds.Kind, account: Account
    ) -> Iterator[tuple[Account, str, msgspec.Struct]]:
        """Yield one account's documents again after a fault in its group. Writing a document twice is harmless."""
        try:
            yield from kind.all_documents([account])
        except DatabaseFault:
            raise
        except Exception as fault:  # noqa: BLE001 -- one account's broken row must not keep all others out of Redis
            log_fault("a rebuild left documents out", fault, account=account.text_id, kind=kind.name)

    def _report_progress(self, more: int) -> None:
        if self._report:
            self._report(self.accounts, self.documents + more)

    def _write(self, piece: "_Piece | None" = None, *, removed: Collection[bytes] = ()) -> int:
        piece = _Piece(0) if piece is None else piece
        arguments: list[Any] = [self._epoch, len(piece.hashes)]
        for fields in piece.hashes.values():
            arguments.append(len(fields))
            arguments += (part for field in fields.items() for part in field)
        answer = self._store.write(
            keys=[keys().epoch, *piece.hashes, *piece.tokens, *removed],
            args=[*arguments, len(piece.tokens), *piece.tokens.values()],
        )
        _expect(answer, b"written")
        return piece.documents


class _Piece:
    """The signed documents of one call to Redis."""

    def __init__(self, version: int) -> None:
        self._version = version
        self.documents = 0
        # {Redis key: {field: envelope}}
        self.hashes: dict[str, dict[str, bytes]] = {}
        self.tokens: dict[str, bytes] = {}

    def add_document(self, account: Account, name: str, document: msgspec.Struct) -> None:
        """Add a document of an account, unless it is larger than workers accept."""
        compiled = Compiled()
        put(compiled, name, document)
        for reason in compiled.faults.values():
            log.error("a document was left out of a rebuild", account=account.text_id, document=name, reason=reason)
        for body in compiled.bodies.values():
            if body is not None:
                self.add(account.text_id, name, body)

    def add(self, account: str, name: str, body: bytes) -> None:
        """Sign and add a document; `account` is an `ac_…` ID or `catalog`."""
        envelope = document_keys().sign(Purpose.DOCUMENT, keys().location(account, name), self._version, body)
        self.documents += 1
        if name.startswith("token:"):
            self.tokens[keys().prefix + name] = envelope
        else:
            self._fields_of(account)[name] = envelope

    def end(self, account: str) -> None:
        """Add the version of an account or of the catalog."""
        self._fields_of(account)[snapshot.VERSION_DOCUMENT] = version_envelope(account, self._version)

    def _fields_of(self, account: str) -> dict[str, bytes]:
        key = keys().catalog if account == snapshot.CATALOG else keys().account(account)
        return self.hashes.setdefault(key, {})


def _database_clock() -> int:
    return Epoch.objects.annotate(clock=ClockMicroseconds()).values_list("clock", flat=True).get()


def publish_catalog_if_changed(store: SnapshotRedis) -> bool:
    """Publish the whole catalog in one version, if it differs from the one in Redis.

    Returns:
        Whether it was published.

    Raises:
        PublicationRefused: Redis is in another epoch, or holds a document that is not authentic.
    """
    bodies: dict[str, bytes | None] = {
        name: snapshot.encode(document) for name, document in document_kinds.build_catalog().items()
    }
    if not bodies:
        return False
    with transaction.atomic(durable=True):
        bound_waiting(lock="250ms", idle="30s")
        # This row's lock protects the catalog, as the lock of a publication protects an account.
        epoch = Epoch.objects.select_for_update(no_key=True).annotate(clock=ClockMicroseconds()).first()
        if epoch is None or epoch.completed_at is None:
            return False
        stored: Any = store.redis.hmget(keys().catalog, [snapshot.VERSION_DOCUMENT, *bodies])
        version, *envelopes = (envelope or b"" for envelope in stored)
        if all(
            is_catalog_document(name, body, envelope)
            for (name, body), envelope in zip(bodies.items(), envelopes, strict=True)
        ):
            return False
        known = stored_version(keys().location(snapshot.CATALOG, snapshot.VERSION_DOCUMENT), version)
        answer = publish(
            store,
            snapshot.CATALOG,
            bodies,
            epoch=str(epoch.id),
            known=known,
            version=max(known + 1, epoch.clock),
        )
        if answer[0] != b"published":
            raise PublicationRefused(answer[0].decode("ascii"))
        Epoch.objects.filter(id=epoch.id).update(number=int(answer[1]))
    log.info("the catalog was published")
    return True
