"""One worker process: starts and ends the follower, the upstream client, the application and the server."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any, cast

import structlog
import uvicorn
import uvloop

from data_plane.forwarding.cooling_report import cooling_keys
from data_plane.forwarding.upstream import Upstream
from data_plane.http.app import App
from data_plane.http.connections import Gate, raise_descriptors
from data_plane.http.protocol import CallerProtocol
from data_plane.limits.shares import Shares
from data_plane.metrics import Metrics
from data_plane.settings import WorkerSettings
from data_plane.state.follower import Follower
from data_plane.state.keeper import Keeper
from data_plane.state.reading import redis_client
from data_plane.usage.emitter import UsageEmitter
from data_plane.watchdog import Watchdog

log = structlog.get_logger("data_plane.http.server")

_CUT_SECONDS = 3.0
# For gc.set_threshold: net allocations for each collection of generation 0, and the collections of one generation for
# each collection of the next.
_GARBAGE_THRESHOLDS = (20_000, 20, 20)
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Worker:
    """A worker's parts. `app` is what a server calls."""

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.keeper = Keeper(settings)
        self.follower = Follower(
            settings,
            self.keeper.find(),
            requests=lambda: self.app.requests,
            cooling=lambda: cooling_keys(self.app.cooling),
        )
        self.upstream = Upstream(settings.upstream_limits)
        self.usage = UsageEmitter(
            redis_client(settings.redis_url),
            self.follower.keys,
            settings.document_keys,
            worker=self.follower.id,
            spool=settings.usage_spool,
        )
        self.shares = Shares(redis_client(settings.redis_url), self.follower.keys, worker=self.follower.id)
        metrics = Metrics()
        self.app = App(settings, self.follower, self.upstream, self.usage, metrics, shares=self.shares)
        self.gate = Gate(settings.caller_limits, metrics)
        self.watchdog = Watchdog(metrics, warning=settings.request_limits.step_warning)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, settings: WorkerSettings) -> AsyncIterator["Worker"]:
        """A worker that follows, without a server."""
        worker = cls(settings)
        worker.follower.start()
        worker.keeper.start(worker.follower)
        worker.usage.start()
        worker.shares.start()
        worker.watchdog.start()
        try:
            yield worker
        finally:
            worker.watchdog.close()
            await worker.upstream.close()
            await worker.usage.close()
            await worker.shares.close()
            await worker.keeper.close(worker.follower)
            await worker.follower.close()


def _collect_garbage_rarely() -> None:
    """Run the garbage collector rarely: reference counting frees nearly everything that a request allocates.

    Objects that exist by now live as long as the process, so the collector skips them from here on.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


class _Server(uvicorn.Server):
    """Leaves the signals to us: uvicorn raises them again at its end, before this worker has left Redis."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(settings: WorkerSettings) -> None:
    async with Worker.running(settings) as worker:
        config = uvicorn.Config(
            worker.app,
            host=settings.host,
            port=settings.port,
            # uvicorn calls it as it would the class.
            http=cast("Any", partial(CallerProtocol, gate=worker.gate)),
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=round(settings.drain) or 1,
        )
        server = _Server(config)

        def drain() -> None:
            worker.app.is_draining = True
            server.should_exit = True

        for one in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(one, drain)
        log.info("serving", worker=worker.follower.id, host=settings.host, port=settings.port, mode=settings.mode)
        _collect_garbage_rarely()
        await server.serve()
        # Requests that the drain cut short close their upstream connections in these tasks.
        if tasks := list(server.server_state.tasks):
            await asyncio.wait(tasks, timeout=_CUT_SECONDS)
    log.info("ended", worker=worker.follower.id)


def serve(settings: WorkerSettings) -> None:
    """Run until SIGTERM or SIGINT. Requests in flight end first, within the drain time."""
    raise_descriptors()
    uvloop.run(_serve(settings))
