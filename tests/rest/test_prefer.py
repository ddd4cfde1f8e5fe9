"""Holds: rest.propagation

`Prefer`, as RFC 7240 writes it.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest.propagation import preferred_wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=5", 5),
        ("wait=0", 0),
        ("wait=10", 10),
        ("wait=11", 10),
        ("wait=999999999999999999", 10),
        ("Wait=5", 5),
        ("WAIT = 5", 5),
        ('wait="5"', 5),
        ("wait=007", 7),
        ("respond-async, wait=5", 5),
        ("respond-async,wait=5;foo=bar", 5),
        ("wait=5; foo; bar=baz", 5),
        ('foo="a, wait=1", wait=2', 2),
        ('foo="a\\", wait=1", wait=2', 2),
        (", ,wait=5,", 5),
        # The first counts, whatever it says.
        ("wait=1, wait=2", 1),
        ("wait=x, wait=2", None),
        ("", None),
        ("wait", None),
        ("wait=", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=1s", None),
        ("wait=٣", None),
        ("wait=5 6", None),
        ("await=5", None),
        ("wait:5", None),
        ("x-wait=5", None),
        ("wait=" + "9" * 5000, None),
    ],
)
def test_what_a_client_prefers_is_read_as_the_rfc_writes_it(header: str, seconds: int | None):
    assert preferred_wait(header) == seconds


@given(st.text())
def test_no_header_is_too_malformed_to_be_ignored(header: str):
    found = preferred_wait(header)

    assert found is None or 0 <= found <= 10


def test_a_long_malformed_header_costs_no_more_than_its_length():
    assert preferred_wait('"' * 60_000) is None
    assert preferred_wait('a="' + "\\" * 60_000) is None
    assert preferred_wait("wait" + " " * 60_000 + "x") is None
    assert preferred_wait('"\\' * 30_000) is None
    assert preferred_wait('wait=1, a="' + '\\"' * 30_000) == 1
