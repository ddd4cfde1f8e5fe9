"""Ending the worker's own tasks."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

_CANCEL_AGAIN_SECONDS: Final = 0.5


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks until they have ended.

    Once is not enough: a cancellation that meets the time-out of a Redis command in the same moment can be lost in it,
    and the task would go on for ever.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_SECONDS)
