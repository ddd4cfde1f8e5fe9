"""Holds: gateway_core.distinct_bits

Names that must not come twice: in one process, and in a process and its child.
"""

import multiprocessing

from gateway_core.distinct_bits import distinct_bits


def _some() -> list[int]:
    return [distinct_bits(64) for _ in range(1000)]


def test_no_number_comes_twice():
    numbers = _some()

    assert len(set(numbers)) == len(numbers)
    assert max(numbers) < 2**64


def test_a_forked_process_goes_on_with_others():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = [*pool.apply(_some), *pool.apply(_some), *_some()]

    assert len(set(found)) == len(found)
