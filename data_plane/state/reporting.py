"""Reports this worker to the control plane: its position, what it refused, and what is not in force in it.

Source: docs/decisions/0053-acknowledgements.md.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from data_plane.state.reading import reason_of
from data_plane.state.store import WorkerState
from data_plane.state.sync import Sync, now_in_microseconds
from gateway_core.envelopes import DocumentKeys
from gateway_core.redis_errors import trouble_of
from gateway_core.release import RELEASE
from gateway_core.snapshot import Keys
from gateway_core.worker_reports import CoolingKey, WorkerReport, behind_of, seal_report

log = structlog.get_logger("data_plane.state.reporting")

_REPORT_SECONDS: Final = 1.0


class Reporter:
    """Writes this worker's report: each second, and soon after each change."""

    def __init__(
        self,
        *,
        worker: str,
        redis: Redis,
        keys: Keys,
        document_keys: DocumentKeys,
        store: WorkerState,
        sync: Sync,
        restored_behind: Callable[[], dict[str, tuple[int, int]]],
        requests: Callable[[], int],
        cooling: Callable[[], tuple[CoolingKey, ...]],
    ) -> None:
        """
        Args:
            worker: this process's ID.
            redis: where reports go.
            keys: the deployment's names in Redis.
            document_keys: what signs a report.
            store: what is held.
            sync: when Redis was last in sync.
            restored_behind: the accounts that a file would serve, each with its first and last missing number.
            requests: how many requests this process has taken.
            cooling: the keys that it passes over now.
        """
        self.worker = worker
        self._redis = redis
        self._keys = keys
        self._document_keys = document_keys
        self._store = store
        self._sync = sync
        self._restored_behind = restored_behind
        self._requests = requests
        self._cooling = cooling
        self._host = socket.gethostname()[:255]
        self._started_at = now_in_microseconds()
        self._reported_at = 0
        self._is_due = asyncio.Event()
        self._sending = asyncio.Lock()
        self._is_leaving = False
        # Whether Redis took the last report.
        self.is_taken = False

    def report_soon(self) -> None:
        """Something changed that others wait for."""
        self._is_due.set()

    async def register(self) -> None:
        """Send the first report before serving, so that writers who wait for all workers also wait for this one."""
        try:
            await self._send()
        except ResponseError as fault:
            # Redis answers and takes no writes. It takes no publications either, so what it holds can be served.
            log.warning("Redis does not take this worker's report", reason=reason_of(fault))

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            self._is_due.clear()
            try:
                await self._send()
            except (RedisError, OSError) as fault:
                if self.is_taken:
                    log.warning("Redis does not take this worker's report", trouble=f"Redis {trouble_of(fault)}")
                self.is_taken = False
                await asyncio.sleep(_REPORT_SECONDS)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._is_due.wait(), _REPORT_SECONDS)

    async def stop(self) -> None:
        """Send nothing more. A report that is under way has arrived when this returns."""
        self._is_leaving = True
        async with self._sending:
            pass

    async def leave(self) -> None:
        """Leave the count of workers. Call it after `stop`: a later report would enter it again."""
        try:
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hdel(self._keys.workers, self.worker)
                self._wake(pipeline)
                await pipeline.execute()
        except (RedisError, OSError) as fault:
            log.warning("this worker stays in the count until it is forgotten", reason=reason_of(fault))

    async def _send(self) -> None:
        async with self._sending:
            if self._is_leaving:
                return
            # The later of two reports has the higher version, even if the clock goes back.
            self._reported_at = max(self._reported_at + 1, now_in_microseconds())
            envelope = seal_report(self._keys, self._document_keys, self.report(self._reported_at))
            async with self._redis.pipeline(transaction=False) as pipeline:
                pipeline.hset(self._keys.workers, self.worker, envelope)
                self._wake(pipeline)
                await pipeline.execute()
            self.is_taken = True

    def _wake(self, pipeline: Any) -> None:
        pipeline.xadd(self._keys.acknowledged, {"worker": self.worker}, maxlen=1, approximate=False)

    def report(self, now: int) -> WorkerReport:
        """The report of this moment (µs since 1970)."""
        store, sync = self._store, self._sync
        return WorkerReport(
            id=self.worker,
            host=self._host,
            process=os.getpid(),
            release=RELEASE,
            started_at=self._started_at,
            heartbeat_at=now,
            staleness=sync.staleness,
            in_sync_at=sync.in_sync_at,
            epoch=store.epoch,
            position=store.position,
            applied_at=sync.applied_at,
            behind=behind_of(self._restored_behind() | store.behind),
            is_in_sync=sync.is_in_sync,
            accounts=len(store.accounts),
            requests=self._requests(),
            refusals=store.refusals,
            last_refusals=tuple(store.last_refusals),
            cooling=self._cooling(),
        )
