"""How long tests wait for what must come: one number for all of them, stretched by how slow the machine is right now.

A test waits for a cause, never for a moment to pass. Its patience is only a fence: how soon it gives up where the cause
never comes. A bound that is itself a promise ("within five seconds") is stretched too: the promise is made for a
machine that has a core for each process that wants one.
"""

import asyncio
import inspect
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

PATIENCE: Final = 60.0
# What the loop of `_speed` takes on the machine that the bounds were written for, in seconds of processor time.
_REFERENCE_SECONDS: Final = 0.05
_LOAD: Final = Path("/proc/loadavg")


def slowness() -> float:
    """How many times longer than on an idle machine things take now: the processes per core, by the core's speed."""
    waiting = os.getloadavg()[0]
    if _LOAD.exists():
        # Those that want a core at this moment; the average notices a load only after a minute.
        waiting = max(waiting, float(_LOAD.read_text().split()[3].partition("/")[0]))
    return max(1.0, waiting / (os.cpu_count() or 1)) * _speed()


def stretched(seconds: float) -> float:
    """A bound in seconds, for the machine as it is now."""
    return seconds * slowness()


def wait_until(holds: Callable[[], object], *, what: str, within: float = PATIENCE) -> float:
    """Wait until something holds; how many seconds that took.

    Args:
        holds: asked again and again.
        what: what is waited for; the failure's text.
        within: another bound than `PATIENCE`, where it is a promise.
    """
    began = time.monotonic()
    while not holds():
        took = time.monotonic() - began
        assert took < stretched(within), f"not within {within} s, stretched by {slowness():.1f}: {what}"
        time.sleep(0.02)
    return time.monotonic() - began


async def eventually(holds: Callable[[], Any], *, what: str = "it", within: float = PATIENCE) -> None:
    """`wait_until` within an event loop; `holds` may be a coroutine function."""
    began = time.monotonic()
    while True:
        found = holds()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return
        took = time.monotonic() - began
        assert took < stretched(within), f"not within {within} s, stretched by {slowness():.1f}: {what}"
        await asyncio.sleep(0.01)


@cache
def _speed() -> float:
    """How many times slower than the reference this machine computes, at least 1; measured once in each process."""
    began = time.process_time()
    total = 0
    for number in range(500_000):
        total += number & 7
    return max(1.0, (time.process_time() - began) / _REFERENCE_SECONDS)
