"""Holds: gateway_core.ports

A port gives what was provided, and says what is missing.
"""

import contextlib

import pytest

from gateway_core.ports import Port, PortEmpty


def test_an_empty_port_says_what_nobody_has_provided() -> None:
    with pytest.raises(PortEmpty, match="the ledger of credits"):
        Port[int]("the ledger of credits").get()


def test_a_port_gives_what_was_provided_last() -> None:
    port = Port[int]("a number")
    port.provide(1)
    port.provide(2)

    assert port.get() == 2


def test_a_replacement_ends_with_its_block_even_by_an_error() -> None:
    port = Port[int]("a number")
    port.provide(1)

    with contextlib.suppress(ZeroDivisionError), port.replaced(2):
        port.provide(port.get() // 0)

    assert port.get() == 1


def test_a_replaced_empty_port_is_empty_again() -> None:
    port = Port[int]("a number")

    with port.replaced(2):
        pass

    with pytest.raises(PortEmpty):
        port.get()
