"""Little garbage collection, a pytest plugin. By default it is half of the time that collecting the tests takes, and a
tenth of what a test of the API takes.

What is there when the first test begins stays until the end, so no later collection looks at it.
"""

import gc
from typing import Final

import pytest

# How many objects are made between two collections of the young ones: a request makes some thousand.
YOUNG: Final = 10_000


def pytest_configure() -> None:
    """Before any test module is imported."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """When every test is known."""
    gc.freeze()
    gc.set_threshold(YOUNG)
    gc.enable()
