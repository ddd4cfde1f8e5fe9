"""The follower: keeps a worker's state at the newest position of the change stream. It puts its parts together.

- `sync`: when Redis was last in sync, and what may be judged by that;
- `reading`: reads of Redis, each verified and valid at a known position;
- `following`: the change stream, entry by entry;
- `loading`: tokens when they are first shown, accounts, the catalog;
- `restoring`: what a snapshot file held when the worker started;
- `reporting`: the worker's report to the control plane.

The state itself, and the table of what an account and a token go through, is `data_plane.state.store`.

Source: architecture, decision 8; docs/decisions/0050-worker-store.md.
"""

import asyncio
from collections.abc import Callable

from redis.asyncio import Redis

from data_plane.settings import WorkerSettings
from data_plane.state.documents import DocumentReader
from data_plane.state.following import Following
from data_plane.state.held import HeldToken
from data_plane.state.loading import Loader
from data_plane.state.reading import SnapshotReader, redis_client
from data_plane.state.reporting import Reporter
from data_plane.state.restoring import FileRestorer
from data_plane.state.snapshot_file import FileContents
from data_plane.state.store import WorkerState
from data_plane.state.sync import Sync
from data_plane.tasks import end
from gateway_core import ids
from gateway_core.snapshot import Keys
from gateway_core.worker_reports import CoolingKey, WorkerReport


class Follower:
    """What the rest of the worker asks for its state."""

    def __init__(
        self,
        settings: WorkerSettings,
        contents: FileContents | None,
        *,
        requests: Callable[[], int],
        cooling: Callable[[], tuple[CoolingKey, ...]],
    ) -> None:
        """
        Args:
            settings: the worker's.
            contents: what a snapshot file held; it serves while Redis cannot be asked. None where there is no file.
            requests: how many requests this process has taken, for the report.
            cooling: the keys that it passes over now, for the report.
        """
        self.id = ids.to_text(ids.Prefix.WORKER, ids.new_id())
        self.keys = Keys(settings.namespace)
        keeps = settings.snapshot_directory is not None
        self.store = WorkerState(DocumentReader(self.keys, settings.document_keys, keeps_envelopes=keeps))
        self.sync = Sync(settings.staleness)
        self._redis: Redis = redis_client(settings.redis_url)
        self.reader = SnapshotReader(self._redis, self.keys, self.store, self.sync)
        self.restorer = FileRestorer(contents, self.store, self.reader, self.sync)
        self.reporter = Reporter(
            worker=self.id,
            redis=self._redis,
            keys=self.keys,
            document_keys=settings.document_keys,
            store=self.store,
            sync=self.sync,
            restored_behind=lambda: self.restorer.behind(self.following.started_at_position),
            requests=requests,
            cooling=cooling,
        )
        self.loader = Loader(
            self.store,
            self.reader,
            self.restorer,
            spread=settings.loading_spread,
            report_soon=self.reporter.report_soon,
        )
        self.following = Following(
            store=self.store,
            reader=self.reader,
            sync=self.sync,
            loader=self.loader,
            restorer=self.restorer,
            reporter=self.reporter,
        )
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to follow."""
        self.restorer.start()
        self.tasks = [asyncio.create_task(self.following.run()), asyncio.create_task(self.reporter.run())]
        if self.is_restoring:
            again = self.restorer.read_again(self.loader.await_account, self.loader.spread)
            self.tasks.append(asyncio.create_task(again))

    async def close(self) -> None:
        """End, and leave the count of workers."""
        await self.reporter.stop()
        await end(self.tasks)
        await self.loader.close()
        await self.reporter.leave()
        await self._redis.aclose()

    @property
    def is_in_sync(self) -> bool:
        """Whether something that is not held can be judged."""
        return self.sync.is_in_sync

    @property
    def is_usable(self) -> bool:
        """Whether what is held may still be served."""
        return self.sync.is_usable

    @property
    def stale_seconds(self) -> float | None:
        """How many seconds ago Redis was last in sync; None if it never was."""
        return self.sync.stale_seconds

    @property
    def is_restoring(self) -> bool:
        """Whether something of a snapshot file was not read again from Redis yet."""
        return self.restorer.contents is not None

    async def find(self, digest: str) -> HeldToken | None:
        """A token that is not held, loaded with its account; None where there is none.

        Raises:
            SnapshotUnavailable: it cannot be judged now.
            SnapshotUnfit: its document in Redis does not verify.
        """
        if not self.is_in_sync:
            if self.is_restoring and (token := await self.restorer.find_token(digest)) is not None:
                return token
            await self.sync.wait()
        return await self.loader.find_token(digest)

    def report(self, now: int) -> WorkerReport:
        """This worker's report of this moment (µs since 1970)."""
        return self.reporter.report(now)
