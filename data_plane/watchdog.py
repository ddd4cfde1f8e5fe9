"""Measures how long the event loop keeps everybody waiting.

A timer is due every few milliseconds. What it is late by is the loop's lag. What the loop's thread itself used of the
processor meanwhile bounds the step that held it up: a busy machine makes a worker late, and only the worker's own work
makes a step long.
"""

import asyncio
import time
from typing import Final

import structlog

from data_plane.metrics import Metrics

log = structlog.get_logger("data_plane.watchdog")

INTERVAL: Final = 0.01
# While the worker does nearly nothing: waking 100 times a second would be most of what it does.
QUIET_INTERVAL: Final = 0.05
# Seconds of the processor between two looks. Who uses less is quiet.
_QUIET_USE: Final = 0.0005
_BETWEEN_WARNINGS: Final = 10.0


class Watchdog:
    """Looks at the loop in which it is started."""

    def __init__(self, metrics: Metrics, *, warning: float) -> None:
        """
        Args:
            metrics: where it reports.
            warning: seconds of a step, in processor time, over which a warning is logged.
        """
        self.longest_step = 0.0
        # Seconds from this look to the next.
        self.interval = INTERVAL
        self._metrics = metrics
        self._warning = warning
        self._warned_at = -_BETWEEN_WARNINGS
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._used = 0.0

    def start(self) -> None:
        """Begin to look."""
        loop = asyncio.get_running_loop()
        self._used = time.thread_time()
        self._due = loop.time() + self.interval
        self._timer = loop.call_at(self._due, self._look)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now, used = loop.time(), time.thread_time()
        lag = max(0.0, now - self._due)
        self.report(lag, min(lag, used - self._used), now)
        self.interval = QUIET_INTERVAL if used - self._used < _QUIET_USE else INTERVAL
        self._used = used
        self._due = now + self.interval
        self._timer = loop.call_at(self._due, self._look)

    def report(self, lag: float, step: float, now: float) -> None:
        """Count one look.

        Args:
            lag: seconds that the timer was late.
            step: seconds of the processor that the step before it used, at most.
            now: seconds by any clock.
        """
        self._metrics.loop_lag.observe(lag)
        if step > self.longest_step:
            self.longest_step = step
            self._metrics.longest_step.set(step)
        if step > self._warning and now - self._warned_at >= _BETWEEN_WARNINGS:
            self._warned_at = now
            log.warning("a step kept all requests waiting", seconds=round(step, 3), lag=round(lag, 3))
