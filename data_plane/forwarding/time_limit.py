"""A time limit for the present step of a task. It moves from step to step, and all steps share one timer.

`asyncio.timeout` makes a timer for each use and throws it away. Here a later end is only noted; the timer that was set
for an earlier one finds it when it fires. A request that ends in time has set one timer, whatever its steps and chunks.
"""

import asyncio
from types import TracebackType
from typing import Final

_NEVER: Final = float("inf")


class TimeLimit:
    """The time limit of the task that creates it. Times are the event loop's.

        with limit.until(clock() + 60):   # TimeoutError when it is over
            await first()
            limit.move(clock() + 60)
            await second()

    For one block at a time. `close` ends the timer.
    """

    __slots__ = ("_before", "_due", "_has_fired", "_loop", "_timer", "_timer_due", "clock", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """
        Args:
            loop: of the task, for who knows it: it is found by a call of the system.
        """
        self._loop = asyncio.get_running_loop() if loop is None else loop
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 -- only a task can be ended
        self.task: asyncio.Task[object] = task
        # Seconds of the event loop.
        self.clock = self._loop.time
        self._due = _NEVER
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = _NEVER
        self._has_fired = False
        self._before = 0

    def until(self, due: float) -> "TimeLimit":
        """For a `with` block that has to end before this."""
        self.move(due)
        return self

    def move(self, due: float) -> None:
        """Within the block: have it end before this instead."""
        self._due = due
        if due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._set(due)

    def close(self) -> None:
        """End the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def __enter__(self) -> None:
        self._before = self.task.cancelling()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._due = _NEVER
        if self._has_fired:
            self._has_fired = False
            # A cancellation from elsewhere takes precedence over the time limit.
            if self.task.uncancel() <= self._before and kind is asyncio.CancelledError:
                raise TimeoutError from fault

    def _set(self, due: float) -> None:
        self._timer_due = due
        self._timer = self._loop.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._timer_due = _NEVER
        if self._due > self._loop.time():
            if self._due != _NEVER:
                self._set(self._due)
        elif not self._has_fired:
            self._has_fired = True
            self.task.cancel()
