"""Long pieces of work, of which one goes on for a moment in each round of the event loop.

However many there are, a request that only waits for the network meets one of them a round. They take turns.

Source: docs/decisions/0058-short-steps.md.
"""

import asyncio
import time
from collections.abc import Generator
from typing import Final, TypeVar

_Result = TypeVar("_Result")

# Seconds for which work goes on before others get their turn. Its own step may take about as long again.
_TURN: Final = 0.001


class Turns:
    """The order in which work goes on."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, work: Generator[None, None, _Result]) -> _Result:
        """Do work to its end.

        Args:
            work: yields wherever others may get their turn, at least once a millisecond.

        Returns:
            What the work returns.
        """
        while True:
            async with self._turn:
                until = time.perf_counter() + _TURN
                try:
                    while time.perf_counter() < until:
                        next(work)
                except StopIteration as end:
                    result: _Result = end.value
                    return result
                # Whoever waits for a turn gets it in the next round.
                await asyncio.sleep(0)
