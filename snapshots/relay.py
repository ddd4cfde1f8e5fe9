"""The relay: a small process that publishes what no request could, and notices when Redis is not what it was.

Each 100 ms it sweeps the accounts that have anything pending. Each second it compares Redis's epoch and number with
PostgreSQL's, each minute (and when another Redis process answers) the accounts' versions, once a day every document.
It takes workers out of the count that have been silent for longer than they would serve, and puts those back that a
Redis which lost everything has forgotten. Beside that it chains the audit's events each second (audit.chain), whatever
becomes of Redis. It outlives PostgreSQL's and Redis's absence; several relays do no harm to each other.

Source: docs/decisions/0009-snapshots.md.
"""

import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg.errors
import structlog
from django.db import Error as DatabaseFault
from django.db import OperationalError, connection
from redis.exceptions import RedisError

from accounts.models import Account
from audit import chain
from snapshots import comparison, rebuild, workers
from snapshots.models import WHOLE_ACCOUNT, Change, Epoch, Publication
from snapshots.publisher import PublicationRefused, publish_account
from snapshots.redis_client import SnapshotRedis

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SWEEP_SECONDS: Final = 0.1
RECONCILE_SECONDS: Final = 1.0
WORKERS_SECONDS: Final = 10.0
VERSIONS_SECONDS: Final = 60.0
DOCUMENTS_SECONDS: Final = 24 * 3600.0
CHAIN_SECONDS: Final = 1.0
# Longer absences are met with a look each second; what is pending must be live within seconds of the return.
LONGEST_PAUSE_SECONDS: Final = 1.0
# An account that cannot be published is tried less and less often, and keeps nobody else from being swept.
LONGEST_ACCOUNT_PAUSE_SECONDS: Final = 60.0
ACCOUNTS_A_SWEEP: Final = 200
STOP_SECONDS: Final = 5.0


@dataclass
class _Pauses:
    """How long each troubled account is left alone."""

    _until: dict[uuid.UUID, float] = field(default_factory=dict)
    _seconds: dict[uuid.UUID, float] = field(default_factory=dict)

    def begin(self, account: uuid.UUID) -> float:
        seconds = min(self._seconds.get(account, SWEEP_SECONDS) * 2, LONGEST_ACCOUNT_PAUSE_SECONDS)
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
    """The relay was asked to end while it was rebuilding."""


class _Looks:
    """Looks that are taken again and again, in one thread, whatever happens to the servers."""

    def __init__(self, every: dict[Callable[[], None], float], stop: threading.Event, *, spread: bool) -> None:
        self._every = every
        self._stop = stop
        # Relays that were started together do not all look at everything at once.
        now = time.monotonic()
        self._due = {
            look: now + (random.uniform(0.1, 1) * seconds if spread else 0)  # noqa: S311 -- no secret
            for look, seconds in every.items()
        }
        # A server that is absent for the first time is news, one that still is is not.
        self._absent: str | None = None

    def hasten(self, look: Callable[[], None]) -> None:
        """Take a look as soon as the ones before it have ended."""
        self._due[look] = 0

    def run(self) -> None:
        """Look until stopped."""
        shortest = min(*self._every.values(), LONGEST_PAUSE_SECONDS)
        pause = shortest
        while not self._stop.is_set():
            is_well = True
            for look in self._every:
                if is_well and not self._stop.is_set() and time.monotonic() >= self._due[look]:
                    is_well = self._take(look)
                    if is_well:
                        self._due[look] = time.monotonic() + self._every[look]
            pause = shortest if is_well else min(pause * 2, LONGEST_PAUSE_SECONDS)
            self._stop.wait(pause)
        connection.close()

    def _take(self, look: Callable[[], None]) -> bool:
        """One look; False where it has to be taken again soon. Nothing but its stop ends a relay."""
        try:
            look()
        except RedisError as fault:
            self._note_absence("Redis", fault)
            return False
        except DatabaseFault as fault:
            if isinstance(fault.__cause__, psycopg.errors.LockNotAvailable):
                return False  # somebody publishes an account for long
            self._note_absence("PostgreSQL", fault)
            connection.close()
            return False
        except PublicationRefused as refusal:
            log.info("a look was refused; taking it again", look=look.__name__, reason=refusal.reason)
            return False
        except Exception:
            log.exception("the relay met what it did not foresee", look=look.__name__)
            connection.close()
            return False
        if self._absent:
            log.info("back again", server=self._absent)
            self._absent = None
        return True

    def _note_absence(self, server: str, fault: Exception) -> None:
        if self._absent != server:
            self._absent = server
            log.warning("a server does not answer; trying on", server=server, fault=type(fault).__name__)


class Relay:
    """One relay. `run` returns when `stop` is set."""

    def __init__(self, store: SnapshotRedis, stop: threading.Event) -> None:
        self._store = store
        self._stop = stop
        self._pauses = _Pauses()
        self._is_rebuild_needed = False
        self._is_waiting_for_another = False
        self._redis_process: str | None = None
        # The workers' reports as they were when Redis was last as it should be.
        self._reports: dict[bytes, bytes] = {}
        self._comparing = _Looks(
            {
                self.repair_accounts: RECONCILE_SECONDS,
                self.forget_silent_workers: WORKERS_SECONDS,
                self.compare_versions: VERSIONS_SECONDS,
                self.compare_documents: DOCUMENTS_SECONDS,
            },
            stop,
            spread=True,
        )

    def run(self) -> None:
        """Sweep and compare until stopped."""
        log.info("the relay has started")
        # In threads of their own: whoever waits for the sweep must not wait for a million documents to be compared, nor
        # the audit for Redis.
        chaining = _Looks({self.chain_events: CHAIN_SECONDS}, self._stop, spread=True)
        threads = [
            threading.Thread(target=looks.run, name=name, daemon=True)
            for name, looks in (("comparing", self._comparing), ("chaining", chaining))
        ]
        for thread in threads:
            thread.start()
        _Looks({self.sweep: SWEEP_SECONDS, self.reconcile: RECONCILE_SECONDS}, self._stop, spread=False).run()
        for thread in threads:
            thread.join(STOP_SECONDS)
        log.info("the relay has ended")

    def sweep(self) -> None:
        """Publish whatever is pending; an account that another publisher works on is passed over until next time."""
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
            except RedisError:
                raise
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

    def chain_events(self) -> None:
        """Chain what was recorded since the last look; another relay may be at it."""
        while chain.extend() == chain.BATCH and not self._stop.is_set():
            pass

    def forget_silent_workers(self) -> None:
        """Take out of the count who has been silent for longer than it would serve."""
        if gone := workers.forget_silent_workers(self._store):
            log.info("workers were silent for too long and left the count", workers=gone)

    def repair_accounts(self) -> None:
        """Publish accounts anew whose publisher found Redis ahead of PostgreSQL."""
        marks = dict(Change.objects.filter(document=WHOLE_ACCOUNT, parked_at=None).values_list("id", "account_id"))
        if marks and self._is_settled():
            accounts = list(Account.objects.filter(id__in=marks.values()))
            with self._heeding_refusals():
                documents = comparison.repair(self._store, accounts)
            Change.objects.filter(id__in=marks).delete()
            log.warning(
                "accounts were published anew", accounts=[each.text_id for each in accounts], documents=documents
            )

    def reconcile(self) -> None:
        """Begin a rebuild where Redis is not the one that PostgreSQL remembers."""
        # PostgreSQL first: Redis is written before PostgreSQL is, so it is never behind what we read here.
        highest = rebuild.highest_number()
        epoch = Epoch.objects.first()
        found = self._store.epoch()
        if self._redis_process != (process := self._store.process()):
            # Another Redis answers, or the same one anew: it may have gone back by so little that its number, with what
            # was published since, tells nothing.
            self._redis_process = process
            self._comparing.hasten(self.compare_versions)
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
            reason = "Redis holds another version than PostgreSQL, or what nobody of ours wrote"
        else:
            self._is_waiting_for_another = False
            self._reports = workers.reports_in(self._store)
            return
        # Before the epoch is complete: nothing is published, and nobody waits, without the workers in the count.
        workers.restore_reports(self._store, self._reports)
        self._rebuild(reason)

    def _rebuild(self, reason: str) -> None:
        try:
            if not self._is_waiting_for_another:
                log.warning("Redis has to be rebuilt", reason=reason)
            rebuild.rebuild(self._store, report=self._end_if_stopped)
        except _Stopped:
            log.info("stopped within a rebuild; the next relay begins it anew")
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
        """Whether Redis is complete and the one that PostgreSQL means; else the rebuild is what helps, not we."""
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
        """Publish the catalog where it differs; ask for a rebuild where Redis holds an account at another version."""
        if not self._is_settled():
            return
        with self._heeding_refusals():
            rebuild.publish_catalog_if_changed(self._store)
        for account, in_redis, in_postgresql in comparison.outdated_accounts(self._store):
            if in_redis > in_postgresql and Change.objects.filter(account=account, parked_at=None).exists():
                continue  # a publisher ended between its two writes; the sweep is about to make it good
            log.warning(
                "an account differs between Redis and PostgreSQL",
                account=account.text_id,
                redis=in_redis,
                postgresql=in_postgresql,
            )
            # Redis has lost publications, or PostgreSQL has (it was restored). Either way Redis may hold access keys
            # that PostgreSQL does not know, of this account or another; only a rebuild removes them all.
            self._is_rebuild_needed = True
            return

    def compare_documents(self) -> None:
        """Look at every document, and publish anew what differs."""
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
                "Redis holds a document otherwise than PostgreSQL",
                account=difference.account.text_id if difference.account else None,
                document=difference.document,
                fault=difference.fault,
            )
            self._make_good(difference)
        log.info("every document was compared", accounts=Publication.objects.count(), differences=differences)

    def _make_good(self, difference: comparison.Difference) -> None:
        if difference.account is not None:
            publish_account(difference.account.id, store=self._store, names=[difference.document])
        elif difference.fault is not comparison.Fault.MISSING:
            comparison.remove_unknown(self._store, difference)
