"""Holds: data_plane.watchdog

The loop's lag and its longest step are measured; a step is what the worker itself used of the processor.
"""

import asyncio
import time

from structlog.testing import capture_logs

from data_plane.metrics import Metrics
from data_plane.watchdog import INTERVAL, QUIET_INTERVAL, Watchdog
from tests.patience import eventually


async def test_a_step_that_computes_is_found():
    watchdog = Watchdog(Metrics(), warning=10)
    watchdog.start()
    await asyncio.sleep(0)

    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass

    await eventually(lambda: watchdog.longest_step > 0.03)
    watchdog.close()


async def test_a_quiet_worker_is_looked_at_rarely_until_it_works_again():
    watchdog = Watchdog(Metrics(), warning=10)
    watchdog.start()
    await eventually(lambda: watchdog.interval == QUIET_INTERVAL)

    def works() -> bool:
        until = time.thread_time() + 0.002
        while time.thread_time() < until:
            pass
        return watchdog.interval == INTERVAL

    await eventually(works)
    watchdog.close()


def test_warnings_are_rare_and_the_longest_step_is_reported():
    metrics = Metrics()
    watchdog = Watchdog(metrics, warning=0.1)

    with capture_logs() as logs:
        for step, now in [(0.2, 1.0), (0.3, 2.0), (0.05, 30.0), (0.15, 31.0)]:
            watchdog.report(1.5, step, now)

    assert [line["seconds"] for line in logs] == [0.2, 0.15]
    assert b"gateway_loop_longest_step_seconds 0.3" in metrics.text()
    assert b'gateway_loop_lag_seconds_bucket{le="1.0"} 0.0' in metrics.text()
