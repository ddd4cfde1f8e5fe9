"""Holds: gateway_core.base64url"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.base64url import decode, encode


@given(st.binary(max_size=100))
def test_every_value_comes_back_from_its_text(raw):
    assert decode(encode(raw)) == raw
    assert not set(encode(raw)) & set("+/=")


@given(st.text(max_size=12) | st.text("AQgw_-+/=\n", max_size=12))
def test_a_text_is_refused_or_is_the_only_one_of_its_value(text):
    try:
        raw = decode(text)
    except ValueError:
        return

    assert encode(raw) == text


@pytest.mark.parametrize(
    "text", ["A", "AB", "AAB", "AA==", "AA=", "A A", "AA\n", "AAAA\n", "++++", "////", "é", "\ud800"]
)
def test_a_second_spelling_is_refused_without_being_repeated(text):
    with pytest.raises(ValueError, match=r"^not unpadded URL-safe base64$"):
        decode(text)
