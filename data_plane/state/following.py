"""Follows the change stream of Redis, entry by entry, from the position at which it was found.

Each second, and whenever nothing comes, the epoch is compared: another epoch, or a number below the worker's own,
means that Redis is another one or has lost something. Then everything that is held is read again, and serves meanwhile.
Out of sync (Redis away, empty, or behind what was seen) nothing that is held changes, and nothing else is judged.

Source: architecture, decision 8; docs/decisions/0050-worker-store.md.
"""

import asyncio
import random
from typing import Final

import structlog
from redis.exceptions import RedisError

from data_plane.state.loading import Loader
from data_plane.state.reading import SnapshotReader, reason_of
from data_plane.state.reporting import Reporter
from data_plane.state.restoring import FileRestorer
from data_plane.state.store import WorkerState
from data_plane.state.sync import NotInSync, Sync
from gateway_core.snapshot import CATALOG

log = structlog.get_logger("data_plane.state.following")

_CHECK_SECONDS: Final = 1.0
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
        await self._synchronise()
        checked = asyncio.get_running_loop().time()
        while True:
            entries = await self._reader.read_entries()
            for number, account, envelope in entries:
                if number != self._store.position + 1:
                    # What is missing was trimmed away, or never written.
                    log.warning("a gap in the change stream", position=self._store.position, found=number)
                    self._start_at(self._store.epoch or "", number)
                else:
                    self._restorer.overtake(account)
                    self._store.pass_entry(number, account, envelope)
            if entries:
                self._advance()
            now = asyncio.get_running_loop().time()
            if not entries or now - checked > _CHECK_SECONDS:
                checked = now
                await self._synchronise()
            self._loader.load_wanted()

    async def _synchronise(self) -> None:
        """Compare Redis with what was seen of it; start again where it is another one or an older state."""
        epoch = await self._reader.read_epoch()
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
