"""The periodic work on the snapshot: publish changes that no request could publish, and detect that Redis lost data.

Each public method of `Upkeep` is one task that a relay repeats (gateway_admin.relay). A task raises if a server does
not answer. It may be repeated at any time, and several relays may run it at once.

Source: docs/decisions/0009-snapshots.md.
"""

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg.errors
import structlog
from django.db import OperationalError, connection
from redis.exceptions import RedisError

from accounts.models import Account
from gateway_core.redis_errors import trouble_of
from snapshots import comparison, rebuild, workers
from snapshots.models import WHOLE_ACCOUNT, Change, Epoch, Publication
from snapshots.publisher import PublicationRefused, publish_account
from snapshots.redis_client import SnapshotRedis, keys
from snapshots.refused_documents import RefusedDocuments, TokenWalk, compare_place

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# An account that cannot be published is tried less and less often, so that it does not delay other accounts.
FIRST_ACCOUNT_PAUSE_SECONDS: Final = 0.2
LONGEST_ACCOUNT_PAUSE_SECONDS: Final = 60.0
ACCOUNTS_A_SWEEP: Final = 200


@dataclass
class _Pauses:
    """Accounts that failed, each with the time of its next attempt."""

    _until: dict[uuid.UUID, float] = field(default_factory=dict)
    _seconds: dict[uuid.UUID, float] = field(default_factory=dict)

    def begin(self, account: uuid.UUID) -> float:
        last = self._seconds.get(account)
        seconds = min(last * 2, LONGEST_ACCOUNT_PAUSE_SECONDS) if last else FIRST_ACCOUNT_PAUSE_SECONDS
        self._seconds[account] = seconds
        self._until[account] = time.monotonic() + seconds
        return seconds

    def end(self, account: uuid.UUID) -> None:
        self._until.pop(account, None)
        self._seconds.pop(account, None)

    @property
    def current(self) -> list[uuid.UUID]:
        now = time.monotonic()
        return [account for account, until in self._until.items() if until > now]


class _Stopped(Exception):
    """The process was asked to end while it was rebuilding."""


class Upkeep:
    """The tasks of one relay, with the state that it keeps between them."""

    def __init__(
        self, store: SnapshotRedis, stop: threading.Event, *, on_another_redis: Callable[[], None] | None = None
    ) -> None:
        """
        Args:
            store: the Redis that holds the snapshot.
            stop: set when the process should end; long tasks then end early.
            on_another_redis: called when another Redis process answers than at the last `reconcile`.
        """
        self._store = store
        self._stop = stop
        self._on_another_redis = on_another_redis or (lambda: None)
        self._pauses = _Pauses()
        self._refused = RefusedDocuments()
        self._walk = TokenWalk()
        # Places where a document may be wrong, in the order of their repair. A place leaves when it was repaired.
        self._wrong: dict[str, None] = {}
        self._is_rebuild_needed = False
        self._is_waiting_for_another = False
        self._redis_process: str | None = None
        # The workers' reports at the last time when Redis was correct.
        self._reports: dict[bytes, bytes] = {}

    def sweep(self) -> None:
        """Publish all pending changes. An account that another publisher works on is left for the next call."""
        waiting = Change.objects.filter(parked_at=None).exclude(document=WHOLE_ACCOUNT)
        waiting = waiting.exclude(account__in=self._pauses.current)
        accounts = waiting.order_by("account_id").values_list("account_id", flat=True).distinct()
        for account in accounts[:ACCOUNTS_A_SWEEP]:
            if self._stop.is_set():
                return
            try:
                with self._heeding_refusals():
                    publish_account(account, store=self._store, skip_locked=True)
            except PublicationRefused as refusal:
                if refusal.reason == PublicationRefused.EPOCH:
                    return  # the same for every account, until the rebuild has ended
                self._pauses.begin(account)
                if refusal.is_of_one_account:
                    self._mark_whole(account)
            except RedisError as fault:
                if trouble_of(fault).is_of_the_server:
                    raise
                seconds = self._pauses.begin(account)
                log.exception("Redis refused an account", account_id=str(account), next_attempt_seconds=seconds)
            except OperationalError as fault:
                if not isinstance(fault.__cause__, psycopg.errors.LockNotAvailable):
                    raise
                self._pauses.begin(account)
            except Exception:
                seconds = self._pauses.begin(account)
                log.exception("an account cannot be published", account_id=str(account), next_attempt_seconds=seconds)
                connection.close_if_unusable_or_obsolete()
            else:
                self._pauses.end(account)

    @staticmethod
    def _mark_whole(account: uuid.UUID) -> None:
        """Have all documents of an account published again by `repair_accounts`."""
        if not Change.objects.filter(account_id=account, document=WHOLE_ACCOUNT, parked_at=None).exists():
            Change.objects.create(account_id=account, document=WHOLE_ACCOUNT)

    def forget_silent_workers(self) -> None:
        """Remove workers from the count that have been silent for longer than their staleness limit."""
        if gone := workers.forget_silent_workers(self._store):
            log.info("workers were silent for too long and left the count", workers=gone)

    def look_at_refusals(self) -> None:
        """Publish again what workers refuse and what differs from PostgreSQL, and remove what it does not know."""
        if not self._is_settled():
            return
        self._put_right(self._refused.take(workers.read_workers(self._store).reports))

    def walk_over_tokens(self) -> None:
        """Look at the next tokens in Redis, and publish again those whose key is of another type."""
        if self._is_settled():
            self._put_right(self._walk.step(self._store))

    def _put_right(self, places: list[str]) -> None:
        """Repair what is wrong at these places, and at those where the last repair failed."""
        self._wrong |= dict.fromkeys(places)
        for place in list(self._wrong):
            try:
                for difference in compare_place(self._store, place):
                    log.error("somebody else writes to this Redis", put_right=[place], fault=difference.fault)
                    with self._heeding_refusals():
                        self._repair(difference)
            except Exception:
                # Another publisher may hold the account. The place moves to the end, so that it does not delay others.
                self._wrong[place] = self._wrong.pop(place)
                raise
            del self._wrong[place]

    def repair_accounts(self) -> None:
        """Publish those accounts again whose publisher has found Redis ahead of PostgreSQL."""
        marks = dict(Change.objects.filter(document=WHOLE_ACCOUNT, parked_at=None).values_list("id", "account_id"))
        if marks and self._is_settled():
            accounts = list(Account.objects.filter(id__in=marks.values()))
            with self._heeding_refusals():
                documents = comparison.repair(self._store, accounts)
            Change.objects.filter(id__in=marks).delete()
            for account in accounts:
                self._pauses.end(account.id)
            log.warning(
                "accounts were published again", accounts=[each.text_id for each in accounts], documents=documents
            )

    def reconcile(self) -> None:
        """Begin a rebuild if Redis is another one, has lost data, or is incomplete."""
        # PostgreSQL first: Redis is written before PostgreSQL is, so it is never behind what we read here.
        highest = rebuild.highest_number()
        epoch = Epoch.objects.first()
        self._heal(epoch, highest)
        found = self._store.epoch()
        if self._redis_process != (process := self._store.process()):
            # Another Redis process answers. It may have lost so little that its number does not show it, because new
            # publications have increased the number since.
            self._redis_process = process
            self._on_another_redis()
        if epoch is None:
            reason = "nothing was ever published"
        elif found.id != str(epoch.id):
            reason = "Redis is another one, or was emptied" if found.id else "Redis is empty"
        elif not found.is_complete:
            reason = "a rebuild did not end"
        elif epoch.completed_at is None:
            reason = "a rebuild did not end, or a publisher found that Redis has gone back"
        elif found.number < highest:
            reason = f"Redis has gone back: {found.number} changes instead of {highest}"
        elif self._is_rebuild_needed:
            reason = "Redis holds another version than PostgreSQL, or a document that is not authentic"
        else:
            self._is_waiting_for_another = False
            self._reports = workers.reports_in(self._store)
            return
        # Before the epoch is complete, so that no write is published while the count of workers is empty.
        workers.restore_reports(self._store, self._reports)
        self._rebuild(reason)

    def _heal(self, epoch: Epoch | None, highest: int) -> None:
        """Put right single keys that somebody else has replaced, so that a rebuild is not needed for them."""
        names = keys()
        expected = str(epoch.id) if epoch is not None and epoch.completed_at is not None else ""
        fixed = [names.epoch, names.changes, names.catalog, names.workers, names.acknowledged, names.usage]
        healed: Any = self._store.heal(keys=fixed, args=[expected, highest])
        if not healed:
            return
        found = [key.decode() for key in healed]
        log.error("somebody else writes to this Redis", put_right=found)
        if names.workers in found:
            workers.restore_reports(self._store, self._reports)
        if names.catalog in found and self._is_settled():
            with self._heeding_refusals():
                rebuild.publish_catalog_if_changed(self._store)

    def _rebuild(self, reason: str) -> None:
        try:
            if not self._is_waiting_for_another:
                log.warning("Redis has to be rebuilt", reason=reason)
            rebuild.rebuild(self._store, report=self._end_if_stopped)
        except _Stopped:
            log.info("stopped within a rebuild; the next relay begins it again")
        except rebuild.RebuildRunning:
            if not self._is_waiting_for_another:
                log.info("another process is rebuilding Redis")
            self._is_waiting_for_another = True
        except rebuild.RebuildOvertaken:
            log.info("another rebuild began meanwhile")
        else:
            self._is_rebuild_needed = False
            self._is_waiting_for_another = False

    def _end_if_stopped(self, _accounts: int, _documents: int) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _is_settled(self) -> bool:
        """Whether Redis is complete and in the epoch that PostgreSQL expects. If not, only a rebuild helps."""
        epoch, found = Epoch.objects.first(), self._store.epoch()
        return epoch is not None and found.is_complete and found.id == str(epoch.id)

    @contextmanager
    def _heeding_refusals(self) -> Iterator[None]:
        try:
            yield
        except PublicationRefused as refusal:
            self._is_rebuild_needed |= refusal.needs_rebuild
            raise

    def compare_versions(self) -> None:
        """Publish the catalog if it differs; request a rebuild if Redis holds an account at another version."""
        if not self._is_settled():
            return
        with self._heeding_refusals():
            rebuild.publish_catalog_if_changed(self._store)
        for account, in_redis, in_postgresql in comparison.outdated_accounts(self._store):
            if in_redis is None:
                log.error("somebody else writes to this Redis", put_right=[keys().account(account.text_id)])
                self._mark_whole(account.id)
                continue
            if in_redis > in_postgresql and Change.objects.filter(account=account, parked_at=None).exists():
                continue  # a publisher ended between its two writes; the next `sweep` repairs it
            log.warning(
                "an account differs between Redis and PostgreSQL",
                account=account.text_id,
                redis=in_redis,
                postgresql=in_postgresql,
            )
            # Redis has lost publications, or PostgreSQL has (it was restored). In both cases Redis may hold access keys
            # of any account that PostgreSQL does not know. Only a rebuild removes them all.
            self._is_rebuild_needed = True
            return

    def compare_documents(self) -> None:
        """Compare every document, and publish again those that differ."""
        if self._is_settled():
            with self._heeding_refusals():
                self._compare_documents()

    def _compare_documents(self) -> None:
        differences = 0
        for difference in comparison.compare(self._store):
            if self._stop.is_set() or not self._is_settled():
                return
            differences += 1
            log.error(
                "a document differs between Redis and PostgreSQL",
                account=difference.account.text_id if difference.account else None,
                document=difference.document,
                fault=difference.fault,
            )
            self._repair(difference)
        log.info("every document was compared", accounts=Publication.objects.count(), differences=differences)

    def _repair(self, difference: comparison.Difference) -> None:
        if difference.account is not None:
            publish_account(difference.account.id, store=self._store, names=[difference.document])
        elif difference.fault is not comparison.Fault.MISSING:
            comparison.remove_unknown(self._store, difference)
