"""Waiting until every worker has applied a publication.

One thread of the process reads for all waiting requests. It reads the workers' reports when Redis announces a new
one, and it reads PostgreSQL for writes that were left to the relay. A waiting request holds no database connection,
but it holds a thread of the server. Most threads of a small server must stay free, so only a few requests may wait for
long. If something fails meanwhile, the wait ends with the state that is known by then.

Source: docs/decisions/0053-acknowledgements.md.
"""

import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from django.db import Error as DatabaseFault
from django.db import connection
from django.db.models import Exists
from redis.exceptions import RedisError

from accounts.models import Account
from gateway_core.snapshot import EpochInRedis
from rest.propagation import MOST_WAITERS
from snapshots.models import Change, Publication
from snapshots.outbox import WriteReceipt
from snapshots.redis_client import inline_store, keys
from snapshots.workers import Reports, Workers, workers_of

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# When all places are taken, a request waits only this long. Healthy workers answer within it.
_CROWDED_SECONDS: Final = 0.25
# A wait for an account with more pending changes waits for this many of them.
_MOST_CHANGES: Final = 1000
# Without a new report, the reports are read again after this time. For a write that the relay will publish, the time is
# shorter.
_BLOCK_MS: Final = 50
_BLOCK_MS_FOR_RELAY: Final = 15


class TooManyWaiters(Exception):
    """Too many requests of this process are waiting already, and the short wait was not enough."""


class NobodyKnows(Exception):
    """Redis has not answered since this process began to wait, so the number of workers is unknown."""


@dataclass(frozen=True)
class AwaitedPublication:
    """The publication to wait for: the one that contains a write, or an account's newest one."""

    account: Account
    # The lowest version of the account's snapshot that contains it.
    version: int
    # Its number in the change stream. None: it was left to the relay, and is published when these changes are deleted.
    number: int | None
    changes: Sequence[int] = ()


@dataclass(frozen=True)
class WaitOutcome:
    """How a wait ended."""

    # The publication's version, or the lowest possible one if it is not published yet.
    version: int
    applied: int
    of: int


def awaited(account: Account, written: WriteReceipt | None) -> AwaitedPublication:
    """Find the publication to wait for.

    Args:
        account: the account of the write.
        written: the request's last write of the account (snapshots.outbox.last_written); None waits for everything that
            was committed before this call.
    """
    if written is not None and written.receipt is not None:
        return AwaitedPublication(account, written.receipt.version, written.receipt.number)
    mine = Change.objects.filter(account=account)
    mine = mine.filter(id__in=written.changes) if written is not None else mine.filter(parked_at=None)
    # One statement, so that a pending change is not contained in the version that is read with it.
    found = Publication.objects.filter(account=account).annotate(is_pending=Exists(mine)).first()
    if found is not None and not found.is_pending:
        return AwaitedPublication(account, found.version, found.number)
    changes = tuple(written.changes if written is not None else mine.values_list("id", flat=True)[:_MOST_CHANGES])
    version = found.version if found is not None else 0
    return (
        AwaitedPublication(account, version + 1, None, changes) if changes else AwaitedPublication(account, version, 0)
    )


def wait(what: AwaitedPublication, *, seconds: float) -> WaitOutcome:
    """Wait until every worker in the count has applied a publication, or until the time is over.

    It first closes the database connection of this thread; call it outside of transactions.

    Raises:
        TooManyWaiters: too many requests wait, and the publication was not applied within a moment.
        NobodyKnows: the time is over, and the workers are unknown.
    """
    assert not connection.in_atomic_block  # noqa: S101 -- the relay could not see our uncommitted change
    connection.close()
    return _watch.wait(what, seconds)


class _Wait:
    """One waiting request. The thread of `_Watch` fills in the publication that the relay has made."""

    def __init__(self, what: AwaitedPublication) -> None:
        self.account: str = what.account.text_id
        self.account_id: uuid.UUID = what.account.id
        self.version, self.number, self.changes = what.version, what.number, what.changes
        self.is_looked_for = False
        self.is_patient = False


class _Watch:
    """Reads Redis and PostgreSQL in one thread, for all waiting requests of this process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waits: list[_Wait] = []
        self._workers: Workers | None = None
        self._reports = Reports()
        # The ID of the last entry seen in the stream of acknowledgements.
        self._acknowledged = b"0-0"
        self._has_thread = False

    def wait(self, what: AwaitedPublication, seconds: float) -> WaitOutcome:
        one = _Wait(what)
        with self._changed:
            one.is_patient = sum(other.is_patient for other in self._waits) < MOST_WAITERS
            until = time.monotonic() + (seconds if one.is_patient else min(seconds, _CROWDED_SECONDS))
            self._waits.append(one)
            try:
                if not self._has_thread:
                    threading.Thread(target=self._look_on, name="acknowledgements", daemon=True).start()
                    self._has_thread = True
                self._changed.notify_all()
                while not self._is_over(one) and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
                if not one.is_patient and not self._is_over(one):
                    raise TooManyWaiters(TooManyWaiters.__doc__)
                return self._outcome(one)
            finally:
                self._waits.remove(one)

    def _is_over(self, one: _Wait) -> bool:
        if not one.is_looked_for or self._workers is None:
            return False
        return not self._workers.reports or self._applied(self._workers, one) == len(self._workers.reports)

    def _outcome(self, one: _Wait) -> WaitOutcome:
        if self._workers is None:
            raise NobodyKnows(NobodyKnows.__doc__)
        return WaitOutcome(one.version, self._applied(self._workers, one), len(self._workers.reports))

    def _applied(self, workers: Workers, one: _Wait) -> int:
        return 0 if one.number is None else workers.applied(one.account, one.number)

    # ── the thread ──

    def _look_on(self) -> None:
        is_first = True
        while True:
            with self._changed:
                while not self._waits:
                    is_first = True
                    self._changed.wait()
                waits = list(self._waits)
            left_to_relay = [one for one in waits if one.number is None]
            try:
                if left_to_relay:
                    self._look_into_postgresql(left_to_relay)
                workers: Workers | None = self._look_into_redis(
                    None if is_first else _BLOCK_MS_FOR_RELAY if left_to_relay else _BLOCK_MS
                )
                is_first = False
            except Exception as fault:
                if not isinstance(fault, RedisError):
                    log.exception("reading the acknowledgements failed unexpectedly")
                workers = self._workers
                time.sleep(_BLOCK_MS / 1000)
            with self._changed:
                self._workers = workers
                for one in waits:
                    one.is_looked_for = True
                self._changed.notify_all()

    def _look_into_redis(self, block_ms: int | None) -> Workers:
        """Read the reports after the next acknowledgement, or after this time without one."""
        with inline_store().redis.pipeline(transaction=False) as pipeline:
            pipeline.xread({keys().acknowledged: self._acknowledged}, block=block_ms)
            pipeline.hgetall(keys().workers)
            pipeline.hmget(keys().epoch, EpochInRedis.FIELDS)
            entries, fields, epoch = pipeline.execute()
        for _, found in entries or ():
            self._acknowledged = found[-1][0]
        return workers_of(self._reports, fields, EpochInRedis.of(epoch))

    def _look_into_postgresql(self, waits: list[_Wait]) -> None:
        """Find the publications of those waits whose changes the relay has published."""
        try:
            pending = set(
                Change.objects.filter(id__in=[change for one in waits for change in one.changes]).values_list(
                    "id", flat=True
                )
            )
            ended = [one for one in waits if pending.isdisjoint(one.changes)]
            accounts = {one.account_id for one in ended}
            publications = Publication.objects.filter(account_id__in=accounts) if accounts else ()
            found: dict[Any, Publication] = {publication.account_id: publication for publication in publications}
        except DatabaseFault as fault:
            log.info("PostgreSQL did not answer a wait for the relay", fault=type(fault).__name__)
            return
        finally:
            connection.close()
        for one in ended:
            if publication := found.get(one.account_id):
                one.version, one.number = publication.version, publication.number


_watch: Final = _Watch()
