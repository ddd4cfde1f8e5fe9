"""The faults of a soak: processes and servers that are killed, paused and restarted."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from benchmarks.soak.checks import forget_worker_of
from benchmarks.soak.deployment import Deployment, Process
from benchmarks.soak.state import SoakState

# Seconds from one fault to the next, at least and at most.
FAULT_SECONDS: Final = (4.0, 12.0)


class Faults:
    """Does one fault after the other, chosen at random."""

    def __init__(self, state: SoakState, deployment: Deployment) -> None:
        self.state = state
        self.deployment = deployment

    async def run(self) -> None:
        """Do a random fault every few seconds until the soak is over."""
        harms: list[Callable[[], Awaitable[None]]] = [
            self._kill_worker,
            self._kill_worker,
            lambda: self._kill(self.deployment.relay),
            lambda: self._kill(self.deployment.control_plane),
            lambda: self._kill(self.deployment.celery),
            self._restart_redis,
            self._pause_redis,
            self._restart_postgres,
        ]
        while not self.state.is_over:
            await asyncio.sleep(self.state.chance.uniform(*FAULT_SECONDS))
            if not self.state.is_over:
                await self.state.chance.choice(harms)()

    async def _kill(self, process: Process) -> None:
        self.state.tally.faults[f"{process.name} killed"] += 1
        await asyncio.to_thread(process.end)
        process.start()

    async def _kill_worker(self) -> None:
        """Kill any worker but the first, whose memory is watched, and remove its report, as an operator does."""
        worker = self.state.chance.choice(self.deployment.workers[1:])
        assert worker.process is not None
        gone = worker.process.pid
        await self._kill(worker)
        await asyncio.to_thread(forget_worker_of, gone)

    async def _restart_redis(self) -> None:
        self.state.tally.faults["Redis killed"] += 1
        await asyncio.to_thread(self.deployment.redis.kill)
        await asyncio.sleep(self.state.chance.uniform(0, 2))
        await asyncio.to_thread(self.deployment.redis.start)

    async def _pause_redis(self) -> None:
        self.state.tally.faults["Redis paused"] += 1
        assert self.deployment.redis.process is not None
        self.deployment.redis.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self.state.chance.uniform(0.5, 3))
        self.deployment.redis.process.send_signal(signal.SIGCONT)

    async def _restart_postgres(self) -> None:
        self.state.tally.faults["PostgreSQL restarted"] += 1
        await asyncio.to_thread(self.deployment.postgres.stop)
        await asyncio.to_thread(self.deployment.postgres.start)
