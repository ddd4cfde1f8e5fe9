"""Write everything anew into a Redis that lost something: a new epoch.

From the first step to the last, Redis refuses publications and workers load nothing; they go on with what they hold.
Everything is removed, then written from PostgreSQL, account by account. An account's row stays locked while it is
written, and each is read in one database snapshot. A rebuild that dies leaves its epoch unfinished, which the relay
takes for a reason to begin another one; should it only have slept, Redis refuses its next step.

Source: docs/decisions/0009-snapshots.md.
"""

import itertools
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
import structlog
from django.db import Error as DatabaseFault
from django.db import connection, models, transaction
from django.utils import timezone

from accounts.models import Account
from gateway_core import ids, snapshot
from gateway_core.authentication import Purpose
from snapshots import registry
from snapshots.client import Store, document_keys, keys
from snapshots.comparison import is_catalog_document, literal
from snapshots.compilation import Compiled, log_fault, put
from snapshots.locking import ClockMicroseconds, at_one_moment, bound_waiting
from snapshots.models import Change, Epoch, Publication
from snapshots.publisher import (
    PublicationRefused,
    publish,
    stored_version,
    version_envelope,
)

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

CHUNK: Final = 500
ACCOUNTS_AT_ONCE: Final = 50
# A sentence of ours in the space of PostgreSQL's advisory locks.
_LOCK: Final = int.from_bytes(b"gwrebld", "big")

Progress = Callable[[int, int], None]


class RebuildRunning(Exception):
    """Another process is rebuilding this Redis."""


class RebuildOvertaken(Exception):
    """Another rebuild began while this one was under way."""


def rebuild(store: Store, *, report: Progress | None = None) -> tuple[int, int]:
    """Write everything anew.

    Args:
        store: where to.
        report: called now and then with the accounts and documents written so far.

    Returns:
        How many accounts and how many documents were written.

    Raises:
        RebuildRunning: another process is at it.
        RebuildOvertaken: another one began in the meantime.
        RedisError: Redis did not answer; the epoch stays unfinished.
    """
    with _alone():
        began = time.monotonic()
        epoch = _begin(store)
        work = _Rebuild(store, str(epoch), report)
        work.remove_everything()
        work.write_catalog()
        work.write_accounts()
        _expect(store.complete_epoch(keys=[keys().epoch], args=[str(epoch)]), b"completed")
        Epoch.objects.filter(id=epoch).update(completed_at=timezone.now())
        log.info(
            "Redis was rebuilt",
            accounts=work.accounts,
            documents=work.documents,
            seconds=round(time.monotonic() - began, 1),
        )
        return work.accounts, work.documents


def highest_number() -> int:
    """The highest place in the change stream that PostgreSQL knows of."""
    published = Publication.objects.aggregate(highest=models.Max("number"))["highest"] or 0
    epoch = Epoch.objects.values_list("number", flat=True).first() or 0
    return max(published, epoch)


@contextmanager
def _alone() -> Iterator[None]:
    """One rebuild at a time. The lock is the session's: it goes when the process does."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            raise RebuildRunning(RebuildRunning.__doc__)
    try:
        with connection.cursor() as cursor:
            # A process that stands still for so long loses the lock; what it would write then, Redis refuses.
            cursor.execute("SET idle_session_timeout = '30s'")
        yield
    finally:
        _release()


def _release() -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("RESET idle_session_timeout")
            cursor.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
    except DatabaseFault:
        connection.close()  # the session is gone, and the lock with it


def _begin(store: Store) -> uuid.UUID:
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
    """The work of one epoch's beginning."""

    def __init__(self, store: Store, epoch: str, report: Progress | None) -> None:
        self._store = store
        self._epoch = epoch
        self._report = report
        self.accounts = 0
        self.documents = 0

    def remove_everything(self) -> None:
        """What PostgreSQL does not know must not stay; whatever it knows is written in a moment."""
        for pattern in ("token:*", "account:*"):
            found = self._store.redis.scan_iter(match=literal(keys().prefix) + pattern, count=CHUNK)
            while chunk := list(itertools.islice(found, CHUNK)):
                self._write(keys().account("-"), {}, {}, removed=chunk)
        self._write(keys().account("-"), {}, {}, removed=[keys().catalog.encode()])

    def write_catalog(self) -> None:
        """What belongs to no account: the built-in providers' models, the operator's keys."""
        documents = registry.build_catalog()
        if not documents:
            return
        version = _database_clock()
        fields = {
            name: document_keys().sign(
                Purpose.DOCUMENT, keys().location(snapshot.CATALOG, name), version, snapshot.encode(document)
            )
            for name, document in documents.items()
        }
        fields[snapshot.VERSION_DOCUMENT] = version_envelope(snapshot.CATALOG, version)
        self._write(keys().catalog, fields, {})

    def write_accounts(self) -> None:
        """Every account, in groups, in the order of their IDs: one that is made meanwhile comes last."""
        after = uuid.UUID(int=0)
        while group := list(Account.objects.filter(id__gt=after).order_by("id")[:ACCOUNTS_AT_ONCE]):
            Publication.objects.bulk_create([Publication(account=account) for account in group], ignore_conflicts=True)
            for account in group:
                self._write_account(account)
                self.accounts += 1
            after = group[-1].id
            if self._report:
                self._report(self.accounts, self.documents)

    def _write_account(self, account: Account) -> None:
        at_one_moment(account.id, lambda publication: self._write_snapshot(account, publication))

    def _write_snapshot(self, account: Account, publication: Any) -> None:
        """One account, in pieces; nobody else publishes it until the transaction ends."""
        if publication is None:
            return  # deleted since
        version = max(publication.version + 1, publication.clock)
        changes = list(Change.objects.filter(account=account, parked_at=None).values_list("id", flat=True))
        documents = self._documents(account)
        written = 0
        chunk = list(itertools.islice(documents, CHUNK))
        if not chunk and not publication.version and not changes:
            return  # it never had anything to publish
        while True:
            following = list(itertools.islice(documents, CHUNK))
            written += self._write_documents(account, version, chunk, is_last=not following)
            if self._report:
                self._report(self.accounts, self.documents + written)
            if not following:
                break
            chunk = following
        self.documents += written
        Publication.objects.filter(account=account).update(version=version, published_at=timezone.now())
        # Deleted before the epoch is complete: should we not come so far, the next rebuild writes the same again.
        Change.objects.filter(id__in=changes).delete()

    def _documents(self, account: Account) -> Iterator[tuple[str, msgspec.Struct]]:
        for kind in registry.kinds():
            try:
                yield from kind.all_documents(account)
            except DatabaseFault:
                raise
            except Exception as fault:  # noqa: BLE001 -- one account's broken row must not keep all others out of Redis
                log_fault("a rebuild left documents out", fault, account=account.text_id, kind=kind.name)

    def _write_documents(
        self, account: Account, version: int, chunk: list[tuple[str, msgspec.Struct]], *, is_last: bool
    ) -> int:
        compiled = Compiled()
        for name, document in chunk:
            put(compiled, name, document)
        for name, reason in compiled.faults.items():
            log.error("a document was left out of a rebuild", account=account.text_id, document=name, reason=reason)
        envelopes = {
            name: document_keys().sign(Purpose.DOCUMENT, keys().location(account.text_id, name), version, body)
            for name, body in compiled.bodies.items()
            if body is not None
        }
        tokens = {keys().prefix + name: value for name, value in envelopes.items() if name.startswith("token:")}
        fields = {name: value for name, value in envelopes.items() if not name.startswith("token:")}
        if is_last:
            fields[snapshot.VERSION_DOCUMENT] = version_envelope(account.text_id, version)
        self._write(keys().account(account.text_id), fields, tokens)
        return len(envelopes)

    def _write(
        self, key: str, fields: dict[str, bytes], tokens: dict[str, bytes], *, removed: list[bytes] | None = None
    ) -> None:
        pairs = [part for pair in fields.items() for part in pair]
        _expect(
            self._store.write(
                keys=[keys().epoch, key, *tokens, *(removed or ())],
                args=[self._epoch, len(fields), *pairs, len(tokens), *tokens.values()],
            ),
            b"written",
        )


def _database_clock() -> int:
    return Epoch.objects.annotate(clock=ClockMicroseconds()).values_list("clock", flat=True).get()


def publish_catalog_if_changed(store: Store) -> bool:
    """Publish the catalog, all of it in one version, where Redis holds another one.

    Raises:
        PublicationRefused: Redis is in another epoch, or holds what is not ours.
    """
    bodies: dict[str, bytes | None] = {
        name: snapshot.encode(document) for name, document in registry.build_catalog().items()
    }
    if not bodies:
        return False
    with transaction.atomic(durable=True):
        bound_waiting(lock="250ms", idle="30s")
        # The row's lock is for the catalog what a publication's is for an account.
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
