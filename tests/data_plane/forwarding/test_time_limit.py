"""Holds: data_plane.forwarding.time_limit

The one timer of a request.
"""

import asyncio

import pytest

from data_plane.forwarding.time_limit import TimeLimit


def now() -> float:
    """The loop's clock."""
    return asyncio.get_running_loop().time()


async def sleep_in(*, ends_in: float, moved_to: float) -> None:
    """Sleep for long in a step whose end was moved."""
    limit = TimeLimit()
    with limit.until(now() + ends_in):
        limit.move(now() + moved_to)
        await asyncio.sleep(5)
        raise AssertionError


async def test_a_step_that_takes_too_long_ends_in_a_time_out():
    limit = TimeLimit()

    with pytest.raises(TimeoutError), limit.until(now() + 0.02):
        await asyncio.sleep(5)

    assert not limit.task.cancelling()


async def test_an_end_that_was_moved_to_later_holds_and_no_earlier_one():
    began = now()

    with pytest.raises(TimeoutError):
        await sleep_in(ends_in=0.02, moved_to=0.1)

    assert now() - began >= 0.1


async def test_an_end_that_was_moved_to_earlier_holds_at_once():
    with pytest.raises(TimeoutError):
        await sleep_in(ends_in=60, moved_to=0.02)


async def test_between_two_steps_no_time_runs():
    limit = TimeLimit()
    with limit.until(now() + 0.02):
        pass

    await asyncio.sleep(0.05)

    with limit.until(now() + 5):
        await asyncio.sleep(0.02)
    limit.close()


async def test_whoever_cancels_the_task_is_not_mistaken_for_the_time():
    async def work() -> None:
        with TimeLimit().until(now() + 0.05):
            try:
                await asyncio.sleep(5)
            finally:
                await asyncio.sleep(0.01)

    task = asyncio.create_task(work())
    await asyncio.sleep(0.01)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
