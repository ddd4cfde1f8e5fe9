"""Follows the change stream of Redis, entry by entry, from the position at which it was found.

With each read the epoch is compared: another epoch, or a number below the worker's own, means that Redis is another one
or has lost something. Then everything that is held is read again, and serves meanwhile. An entry above the epoch's
number was written by no publication and is not passed.
Out of sync (Redis away, empty, or behind what was seen) nothing that is held changes, and nothing else is judged.

Source: architecture, decision 8; docs/decisions/0050-worker-store.md.
"""

import asyncio
import random
from typing import Final

import structlog
from redis.exceptions import RedisError

from data_plane.state.loading import Loader
from data_plane.state.reading import Entry, SnapshotReader, reason_of
from data_plane.state.reporting import Reporter
from data_plane.state.restoring import FileRestorer
from data_plane.state.store import WorkerState
from data_plane.state.sync import NotInSync, Sync
from gateway_core.snapshot import CATALOG, EpochInRedis

log = structlog.get_logger("data_plane.state.following")

# After entries that no publication wrote: the relay removes them within a second.
_FOREIGN_PAUSE: Final = 0.2
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0


class Following:
    """Moves the store along the change stream."""

    def __init__(
        self,
        *,
        store: WorkerState,
        reader: SnapshotReader,
        sync: Sync,
        loader: Loader,
        restorer: FileRestorer,
        reporter: Reporter,
    ) -> None:
        self._store = store
        self._reader = reader
        self._sync = sync
        self._loader = loader
        self._restorer = restorer
        self._reporter = reporter
        # The highest position seen in this epoch: a Redis below it has lost something.
        self._highest = 0
        self._has_started = False
        # Where the stream stood when this worker last started to follow it.
        self.started_at_position = 0
        self._is_logged_lost = False
        self._pause = _FIRST_PAUSE
        # Where the worker stood when a read found no entry although the epoch is ahead; None otherwise.
        self._waits_at: int | None = None

    async def run(self) -> None:
        """Follow until cancelled."""
        # Jitter: many workers are started at one moment.
        await asyncio.sleep(random.uniform(0, self._loader.spread))  # noqa: S311 -- spreads load, guards nothing
        self._highest = self._store.position
        while True:
            try:
                await self._follow_while_in_sync()
            except (NotInSync, RedisError, OSError) as fault:
                if not self._is_logged_lost:
                    log.warning("out of sync with Redis", reason=reason_of(fault), held=len(self._store.accounts))
                    self._is_logged_lost = True
            except Exception:
                # The follower must not die: without it the worker would serve an ever older state.
                log.exception("the follower stumbled")
            self._sync.lose()
            # Jitter: many workers lose Redis at one moment and must not come back in one.
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 -- spreads load, guards nothing
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _follow_while_in_sync(self) -> None:
        await self._reporter.register()
        _, epoch = await self._reader.read_entries(block_ms=None)
        self._synchronise(epoch)
        while True:
            entries, epoch = await self._reader.read_entries()
            if epoch.id != self._store.epoch:
                self._synchronise(epoch)
            is_foreign = not self._pass_entries(entries, epoch)
            if not entries:
                self._notice_lost_entries(epoch)
            self._synchronise(epoch)
            if is_foreign:
                await asyncio.sleep(_FOREIGN_PAUSE)

    def _pass_entries(self, entries: list[Entry], epoch: EpochInRedis) -> bool:
        """Pass what publications wrote. Return whether that was all."""
        for number, account, envelope, is_numbered in entries:
            if number <= self._store.position:
                continue
            if number > epoch.number or not is_numbered:
                log.error("an entry of the change stream that no publication wrote", number=number, newest=epoch.number)
                return False
            if number != self._store.position + 1:
                # What is missing was trimmed away, or never written.
                log.warning("a gap in the change stream", position=self._store.position, found=number)
                self._start_at(epoch.id, number)
            else:
                self._restorer.overtake(account)
                self._store.pass_entry(number, account, envelope)
        return True

    def _notice_lost_entries(self, epoch: EpochInRedis) -> None:
        """Start again at the epoch's number where the stream has lost the entries up to it."""
        position = self._store.position
        if position >= epoch.number:
            self._waits_at = None
        elif self._waits_at != position:
            # It may have been written between the two reads; then the next read finds it at once.
            self._waits_at = position
        else:
            log.warning("the change stream has lost entries", position=position, newest=epoch.number)
            self._start_at(epoch.id, epoch.number)

    def _synchronise(self, epoch: EpochInRedis) -> None:
        """Compare Redis with what was seen of it; start again where it is another one or an older state."""
        if not epoch.is_complete:
            raise NotInSync("Redis is being filled again")
        store = self._store
        if epoch.id != store.epoch:
            log.info("following", epoch=epoch.id, position=epoch.number, held=len(store.accounts))
            self._highest = 0
            self._start_at(epoch.id, epoch.number)
        elif epoch.number < store.position:
            log.warning("Redis is behind", position=store.position, found=epoch.number)
            self._start_at(epoch.id, epoch.number)
        elif not self._has_started:
            # What a file held is not at the position at which the file was written, but at several around it.
            log.info("following", epoch=epoch.id, position=epoch.number, held=len(store.accounts))
            self._start_at(epoch.id, epoch.number)
        self._advance()
        self._loader.load_wanted()
        if epoch.number < self._highest:
            raise NotInSync("Redis has lost changes that were seen")
        self._sync.confirm()
        self._pause = _FIRST_PAUSE
        if self._is_logged_lost:
            log.info("in sync with Redis again", position=store.position)
            self._is_logged_lost = False

    def _start_at(self, epoch: str, position: int) -> None:
        """Follow from here, and read again what is held."""
        store = self._store
        self._has_started = True
        self._waits_at = None
        self.started_at_position = position
        store.start_at(epoch, position)
        wanted = store.take_wanted()
        if not store.catalog.version:
            wanted.discard(CATALOG)
            store.wanted.add(CATALOG)
        self._loader.schedule(wanted)

    def _advance(self) -> None:
        self._highest = max(self._highest, self._store.position)
        self._sync.advance()
        self._reporter.report_soon()
        self._reader.log_refusals()
