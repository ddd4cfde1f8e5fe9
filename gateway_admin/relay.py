"""The relay: a small process that keeps Redis what PostgreSQL says, and chains the audit.

Each 100 ms it sweeps the accounts that have anything pending. Each second it compares Redis's epoch and number with
PostgreSQL's, each 30 s (and when another Redis process answers) the accounts' versions, once a day every document
(snapshots.upkeep). Five times a second it begins counts of limits that workers have missed in Redis
(usage.limit_rounds). Beside that it chains the audit's events each second, whatever becomes of Redis (audit.chain).
Each of its threads leaves a heartbeat (gateway_admin.heartbeats). It outlives PostgreSQL's and Redis's absence; several
relays do no harm to each other.

Source: docs/decisions/0009-snapshots.md.
"""

import random
import threading
import time
from collections.abc import Callable
from typing import Final

import psycopg.errors
import structlog
from django.db import Error as DatabaseFault
from django.db import connection
from redis.exceptions import RedisError

from audit import chain
from gateway_admin.heartbeats import EVERY_SECONDS, RELAY, beating
from gateway_core.redis_errors import trouble_of
from snapshots.publisher import PublicationRefused
from snapshots.redis_client import SnapshotRedis
from snapshots.upkeep import Upkeep
from usage import limit_rounds

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

SWEEP_SECONDS: Final = 0.1
RECONCILE_SECONDS: Final = 1.0
WORKERS_SECONDS: Final = 10.0
REFUSALS_SECONDS: Final = 2.0
VERSIONS_SECONDS: Final = 30.0
DOCUMENTS_SECONDS: Final = 24 * 3600.0
CHAIN_SECONDS: Final = 1.0
LIMITS_SECONDS: Final = 0.2
# While a server stays away, look at least once a second, so that pending changes are published soon after its return.
LONGEST_PAUSE_SECONDS: Final = 1.0
STOP_SECONDS: Final = 5.0


class _Looks:
    """Looks that are taken again and again in one thread, whatever happens to the servers."""

    def __init__(self, every: dict[Callable[[], None], float], stop: threading.Event, *, spread: bool) -> None:
        self._every = every
        self._stop = stop
        # Relays that were started together do not all look at everything at once.
        now = time.monotonic()
        self._due = {
            look: now + (random.uniform(0.1, 1) * seconds if spread else 0)  # noqa: S311 -- no secret
            for look, seconds in every.items()
        }
        # The server that was in trouble at the last look, and its trouble, which is logged once.
        self._absent: tuple[str, str] | None = None

    def hasten(self, look: Callable[[], None]) -> None:
        """Take a look as soon as those before it have ended."""
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
            self._note_absence("Redis", str(trouble_of(fault)), fault)
            return False
        except DatabaseFault as fault:
            if isinstance(fault.__cause__, psycopg.errors.LockNotAvailable):
                return False  # another process has been publishing an account for long
            self._note_absence("PostgreSQL", "does not answer", fault)
            connection.close()
            return False
        except PublicationRefused as refusal:
            log.info("a look was refused; taking it again", look=look.__name__, reason=refusal.reason)
            return False
        except Exception:
            log.exception("a look failed by an unforeseen error", look=look.__name__)
            connection.close()
            return False
        if self._absent:
            log.info("back again", server=self._absent[0])
            self._absent = None
        return True

    def _note_absence(self, server: str, trouble: str, fault: Exception) -> None:
        if self._absent != (server, trouble):
            self._absent = (server, trouble)
            log.warning(
                "a server is in trouble; trying again", server=server, trouble=trouble, fault=type(fault).__name__
            )


class Relay:
    """One relay. `run` returns when `stop` is set."""

    def __init__(self, store: SnapshotRedis, stop: threading.Event) -> None:
        self._stop = stop
        self._store = store
        upkeep = Upkeep(store, stop, on_another_redis=self._compare_versions_soon)
        self._upkeep = upkeep
        # Each in a thread of its own: a pending change must not wait until a million documents are compared, nor the
        # audit for Redis.
        # The heartbeat is last: a look that fails keeps those behind it waiting.
        publishing, repairing, comparing, chaining = (beating(name) for name in RELAY)
        self._publishing = _Looks(
            {
                upkeep.sweep: SWEEP_SECONDS,
                upkeep.reconcile: RECONCILE_SECONDS,
                publishing: EVERY_SECONDS,
            },
            stop,
            spread=False,
        )
        self._repairing = _Looks(
            {
                upkeep.repair_accounts: RECONCILE_SECONDS,
                upkeep.forget_silent_workers: WORKERS_SECONDS,
                upkeep.look_at_refusals: REFUSALS_SECONDS,
                upkeep.walk_over_tokens: RECONCILE_SECONDS,
                self.open_limits: LIMITS_SECONDS,
                upkeep.compare_versions: VERSIONS_SECONDS,
                repairing: EVERY_SECONDS,
            },
            stop,
            spread=True,
        )
        self._comparing = _Looks(
            {upkeep.compare_documents: DOCUMENTS_SECONDS, comparing: EVERY_SECONDS}, stop, spread=True
        )
        self._chaining = _Looks({self.chain_events: CHAIN_SECONDS, chaining: EVERY_SECONDS}, stop, spread=True)

    def run(self) -> None:
        """Look until stopped."""
        log.info("the relay has started")
        threads = [
            threading.Thread(target=looks.run, name=name, daemon=True)
            for name, looks in (
                ("repairing", self._repairing),
                ("comparing", self._comparing),
                ("chaining", self._chaining),
            )
        ]
        for thread in threads:
            thread.start()
        self._publishing.run()
        for thread in threads:
            thread.join(STOP_SECONDS)
        log.info("the relay has ended")

    def chain_events(self) -> None:
        """Chain what was recorded since the last look; another relay may be doing the same."""
        while chain.extend() == chain.BATCH and not self._stop.is_set():
            pass

    def open_limits(self) -> None:
        """Begin the counts of limits that workers have missed in Redis, and send what ingest could not."""
        limit_rounds.open_wanted(self._store.redis)
        limit_rounds.send(self._store.redis)

    def _compare_versions_soon(self) -> None:
        self._repairing.hasten(self._upkeep.compare_versions)
