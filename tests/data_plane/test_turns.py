"""Holds: data_plane.turns

Long work of any number of requests takes one turn in each round of the loop, and each piece of it comes to its end.
"""

import asyncio
import time
from collections.abc import Generator

import pytest

from data_plane.turns import Turns


async def test_however_much_work_there_is_one_piece_of_it_goes_on_in_a_round():
    turns, rounds, worked = Turns(), 0, dict[str, list[int]]()

    def work(name: str) -> Generator[None, None, str]:
        for _ in range(10):
            worked.setdefault(name, []).append(rounds)
            # As long as a turn lasts.
            until = time.perf_counter() + 0.002
            while time.perf_counter() < until:
                pass
            yield
        return name

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert await asyncio.gather(*(turns.run(work(name)) for name in "abc")) == ["a", "b", "c"]
    counting.cancel()

    seen = [one for found in worked.values() for one in found]
    assert len(seen) == len(set(seen)) == 30
    # Nobody works alone while others wait.
    assert max(worked["a"]) > min(worked["c"])


async def test_work_that_fails_or_is_cancelled_leaves_the_turn_to_others():
    turns = Turns()

    def failing() -> Generator[None, None, None]:
        yield
        raise LookupError

    def endless() -> Generator[None, None, None]:
        while True:
            yield

    def short() -> Generator[None, None, int]:
        yield
        return 1

    with pytest.raises(LookupError):
        await turns.run(failing())
    cancelled = asyncio.create_task(turns.run(endless()))
    await asyncio.sleep(0)
    cancelled.cancel()

    assert await turns.run(short()) == 1
