"""Holds: data_plane.tasks

Ending tasks: also those that lose a cancellation.
"""

import asyncio
from contextlib import suppress

from data_plane.tasks import end


async def test_a_task_that_loses_its_first_cancellation_is_ended_all_the_same():
    lost = 0

    async def stubborn():
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)

    async with asyncio.timeout(10):
        await end([task])

    assert task.cancelled()
    assert lost == 2


async def test_tasks_that_have_ended_or_failed_are_no_trouble():
    async def fail():
        raise RuntimeError("as it may")

    done, failed = asyncio.create_task(asyncio.sleep(0)), asyncio.create_task(fail())
    await done
    with suppress(RuntimeError):
        await failed

    await end([done, failed])
    await end([])
