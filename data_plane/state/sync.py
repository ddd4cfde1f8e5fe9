"""When Redis was last in sync, and what may be judged by that.

Two limits follow from it. For two seconds after the last contact an unknown token can be judged: the worker has seen
every change. For the staleness limit (a setting) what is held may still be served.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from data_plane.errors import SnapshotUnavailable

# Without an answer of Redis for so long, what is not held cannot be judged.
_IN_SYNC_SECONDS: Final = 2.0
_WAIT_FOR_SYNC: Final = 1.0


class NotInSync(Exception):
    """Redis is not in a state from which this worker can take anything new."""


class Sync:
    """The clock of the follower. Times are of the event loop; those that a report carries are µs since 1970."""

    def __init__(self, staleness: float) -> None:
        """
        Args:
            staleness: for how many seconds without contact what is held may be served.
        """
        self.staleness = staleness
        self._clock: Callable[[], float] = time.monotonic
        # µs since 1970: the last contact in which Redis was in sync, and the last change that was applied.
        self.in_sync_at = 0
        self.applied_at = 0
        # Loop times: until when unknown tokens can be judged, and until when known ones can.
        self._in_sync_until = 0.0
        self.usable_until = 0.0
        # Set, and replaced by a new one, whenever the position moves or Redis answers.
        self.moved = asyncio.Event()
        # Redis was asked at least once, with whatever result.
        self.has_asked = asyncio.Event()

    @property
    def is_in_sync(self) -> bool:
        """Whether something that is not held can be judged."""
        return asyncio.get_running_loop().time() < self._in_sync_until

    @property
    def is_usable(self) -> bool:
        """Whether what is held may still be served."""
        return self._clock() < self.usable_until

    @property
    def stale_seconds(self) -> float | None:
        """How many seconds ago Redis was last in sync; None if it never was."""
        if not self.usable_until:
            return None
        return max(0.0, asyncio.get_running_loop().time() - (self.usable_until - self.staleness))

    def confirm(self) -> None:
        """Redis answered, and the worker is at its position."""
        # Kept: each request asks for the time, and the loop is found by a call of the system.
        self._clock = asyncio.get_running_loop().time
        now = self._clock()
        self._in_sync_until = now + _IN_SYNC_SECONDS
        self.usable_until = now + self.staleness
        self.in_sync_at = now_in_microseconds()
        self.has_asked.set()

    def lose(self) -> None:
        """Redis did not answer, or is not in the state that was seen."""
        self._in_sync_until = 0.0
        self.has_asked.set()

    def restore(self, *, in_sync_at: int, age: float) -> None:
        """Count from the moment at which a file was in sync: µs since 1970, and its age in seconds."""
        self.in_sync_at = in_sync_at
        self._clock = asyncio.get_running_loop().time
        self.usable_until = self._clock() + self.staleness - age

    def advance(self) -> None:
        """The position moved, or was confirmed: wake everybody that waits for it."""
        self.applied_at = now_in_microseconds()
        moved, self.moved = self.moved, asyncio.Event()
        moved.set()

    async def wait(self) -> None:
        """Wait a moment for the first contact, for a loop that was held up, or for a Redis that was restarted.

        Raises:
            SnapshotUnavailable: the worker is still not in sync after a second.
        """
        try:
            async with asyncio.timeout(_WAIT_FOR_SYNC):
                while not self.is_in_sync:
                    await self.moved.wait()
        except TimeoutError:
            raise SnapshotUnavailable from None

    async def wait_until_asked(self) -> None:
        """Wait until Redis was asked once, at most a second."""
        try:
            async with asyncio.timeout(_WAIT_FOR_SYNC):
                await self.has_asked.wait()
        except TimeoutError:
            return


def now_in_microseconds() -> int:
    """The present time in µs since 1970."""
    return time.time_ns() // 1000
