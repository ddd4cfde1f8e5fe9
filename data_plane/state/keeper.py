"""Writes what the worker holds to a file, and reads such a file when the worker starts.

It writes when something has changed, and at intervals so that the file's age stays true. The event loop only gathers
the parts; everything slow happens in a thread. A write costs at most a twentieth of the time: a small state is on disk
within a second or two, a large one later.

Source: docs/decisions/0054-snapshot-files.md.
"""

import asyncio
import time
from contextlib import suppress
from typing import Final

import structlog

from data_plane.settings import WorkerSettings
from data_plane.state.follower import Follower
from data_plane.state.snapshot_file import FileContents, FileHeader, Moment, SnapshotFiles, parts_of
from data_plane.state.store import WorkerState
from gateway_core.snapshot import Keys

log = structlog.get_logger("data_plane.state.keeper")

_SHORTEST_PAUSE: Final = 1.0
_SHARE: Final = 20
# An unchanged state is written again once so much of the staleness limit has passed.
_REFRESHES: Final = 20


class Keeper:
    """The writer of this process's snapshot file."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._files: SnapshotFiles | None = None
        if settings.snapshot_directory is not None:
            keys = Keys(settings.namespace)
            self._files = SnapshotFiles(settings.snapshot_directory, keys, settings.document_keys)
        self._written: tuple[object, ...] | None = None
        self._written_at = 0.0
        self._is_failing = False
        self._is_closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def find(self) -> FileContents | None:
        """What a worker before this one held; None where there is nothing that can be used."""
        return None if self._files is None else self._files.find(staleness=self._settings.staleness)

    def start(self, follower: Follower) -> None:
        """Begin to keep."""
        if self._files is not None:
            self._task = asyncio.create_task(self._keep(self._files, follower))

    async def close(self, follower: Follower) -> None:
        """Write a last time, and end. Call it while the follower still stands."""
        if self._files is None or self._task is None:
            return
        # Not cancelled: a thread that writes would go on beside the last write.
        self._is_closing.set()
        await self._task
        await self._write(self._files, follower)
        self._files.close()

    async def _keep(self, files: SnapshotFiles, follower: Follower) -> None:
        pause = _SHORTEST_PAUSE
        while not self._is_closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_closing.wait(), pause)
                return
            pause = max(_SHORTEST_PAUSE, _SHARE * await self._write(files, follower))

    async def _write(self, files: SnapshotFiles, follower: Follower) -> float:
        """Write if there is reason to; how many seconds it took."""
        store, stale = follower.store, follower.stale_seconds
        # What came from the last file is not read again from Redis yet. A new file would make it look newer than it is.
        if stale is None or follower.is_restoring or not (store.accounts or store.catalog.version):
            return 0.0
        began = time.monotonic()
        held = _fingerprint(store)
        if held == self._written and began - stale - self._written_at < self._settings.staleness / _REFRESHES:
            return 0.0
        head = FileHeader(store.epoch or "", store.position, Moment.now(seconds_ago=stale))
        try:
            writing = await asyncio.to_thread(files.begin, head)
            try:
                for part in parts_of(store):
                    await asyncio.to_thread(writing.add, part)
                await asyncio.to_thread(writing.end)
            except BaseException:
                writing.abandon()
                raise
        except OSError as fault:
            if not self._is_failing:
                log.warning("the snapshot cannot be written to disk", fault=type(fault).__name__)
            self._is_failing = True
        else:
            self._written, self._written_at, self._is_failing = held, began - stale, False
        return time.monotonic() - began


def _fingerprint(store: WorkerState) -> tuple[object, ...]:
    """Changes whenever something that is held does: whatever changes it raises its account's version."""
    versions = sum(account.snapshot.version for account in store.accounts.values())
    return store.epoch, store.catalog.version, len(store.accounts), len(store.tokens), versions
