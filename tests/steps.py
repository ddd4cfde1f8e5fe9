"""Runs work that is done in steps, and coroutines that wait for nobody, to their end."""

from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

Result = TypeVar("Result")


def result_of(work: Generator[None, None, Result] | Coroutine[Any, Any, Result]) -> Result:
    """What the work returns."""
    try:
        while True:
            work.send(None)
    except StopIteration as end:
        result: Result = end.value
        return result
