"""No garbage collection while tests are collected, a pytest plugin: it is half of the processor time that takes.

What is there when the first test begins stays until the end, so no later collection looks at it.
"""

import gc

import pytest


def pytest_configure() -> None:
    """Before any test module is imported."""
    gc.disable()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """When every test is known."""
    gc.freeze()
    gc.enable()
