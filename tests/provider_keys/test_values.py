"""Holds: provider_keys.values

A provider key's value in clear: what it may be, and that it shows nothing of itself.
"""

import copy
import json
import pickle
import re
import traceback

import orjson
import pytest
from django.conf import settings as control_plane
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.sealing import Binding, Keyring
from provider_keys.values import MAX_LENGTH, PATTERN, InvalidValue, PlainValue

BINDING = Binding("ac_a", "openai", "aigpk_a")
MARK = "sk-proj-MARKED-d41d8cd98f00b204"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("x", id="one character"),
        pytest.param("!~", id="the ends of printable ASCII"),
        pytest.param("x" * MAX_LENGTH, id="4096 characters"),
        pytest.param(" \t\r\n" + "x" * MAX_LENGTH + "\v\f", id="4096 characters within white space"),
        pytest.param("\u00a0\u2003key\u3000\u2028\x85", id="within white space of other scripts"),
    ],
)
def test_a_value_is_one_run_of_printable_ascii_with_white_space_around_it(text):
    PlainValue(text)
    assert re.search(PATTERN, text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(" \n\u00a0", id="white space alone"),
        pytest.param("x" * (MAX_LENGTH + 1), id="4097 characters"),
        pytest.param("a b", id="a space within"),
        pytest.param("a\nb", id="a newline within"),
        pytest.param("a\x00b", id="NUL"),
        pytest.param("\x1ckey-1", id="a control character at the edge, which str.strip would take"),
        pytest.param("ab\x7f", id="DEL"),
        pytest.param("schlüssel", id="a letter beyond ASCII"),
        pytest.param("\ufeffkey", id="a byte order mark"),
        pytest.param("key\u200b", id="a zero-width space"),
        pytest.param("k\ud800", id="a lone surrogate"),
    ],
)
def test_anything_else_is_no_value(text):
    with pytest.raises(InvalidValue) as refusal:
        PlainValue(text)
    assert not re.search(PATTERN, text)
    assert len(text.strip()) < 2 or text.strip() not in str(refusal.value)


@given(st.text("a!~ \t\n\x1c\x7f\x85\xa0é\u200a\u200b\u2028\ufeff", max_size=6))
def test_the_published_pattern_says_what_the_code_does(text):
    try:
        PlainValue(text)
    except InvalidValue:
        is_value = False
    else:
        is_value = True
    # `$` of Python matches before a last newline as well, and that is trimmed.
    assert bool(re.search(PATTERN, text)) == is_value


def test_a_value_is_trimmed_before_it_is_sealed(sealing_private_key):
    blob = PlainValue(f"\u00a0\n{MARK} \r\n").seal(BINDING)
    assert Keyring.parse(sealing_private_key).open(blob, BINDING) == MARK


def test_the_refusal_of_a_value_holds_nothing_of_it():
    with pytest.raises(InvalidValue) as refusal:
        PlainValue(f"{MARK} {MARK}")

    assert "MARKED" not in repr(refusal.value)
    assert refusal.value.__context__ is None


def test_a_value_shows_nothing_of_itself():
    value = PlainValue(MARK)

    for shown in (repr(value), str(value), f"{value}", repr({"value": [value]})):
        assert "MARKED" not in shown


def test_a_traceback_that_prints_locals_shows_nothing_of_a_value():
    def fail(value):
        raise RuntimeError(value)

    with pytest.raises(RuntimeError) as error:
        fail(PlainValue(MARK))

    shown = "".join(traceback.TracebackException.from_exception(error.value, capture_locals=True).format())
    assert "value = PlainValue(***)" in shown


@pytest.mark.parametrize("leak", [pickle.dumps, copy.copy, copy.deepcopy, json.dumps, orjson.dumps, hash])
def test_a_value_cannot_be_copied_stored_or_hashed(leak):
    with pytest.raises(TypeError):
        leak(PlainValue(MARK))


def test_values_are_equal_when_their_texts_are():
    assert PlainValue(MARK) == PlainValue(f" {MARK}\n")
    assert PlainValue(MARK) != PlainValue(MARK.lower())
    assert PlainValue(MARK) != MARK


def test_a_fingerprint_depends_on_each_of_account_provider_key_value_and_secret_key(settings):
    def fingerprint(account="ac_1", provider_key="aigpk_1", value=MARK):
        return PlainValue(value).fingerprint(account=account, provider_key=provider_key)

    first = fingerprint()
    assert first == fingerprint()
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    # Neighbours do not run into each other.
    shifted = fingerprint(account="ac_1a", provider_key="igpk_1")
    others = {first, shifted, fingerprint("ac_2"), fingerprint(provider_key="aigpk_2"), fingerprint(value="other")}
    settings.SECRET_KEY = "another secret key of this deployment"
    assert len(others | {fingerprint()}) == 6


def test_this_process_can_seal_and_not_open():
    """The control plane holds a public key alone; what it sealed it cannot read again."""
    held = {name: getattr(control_plane, name) for name in dir(control_plane) if name.isupper()}
    assert not [name for name in held if "PRIVATE" in name]
    assert not [name for name, one in held.items() if isinstance(one, Keyring) or "gw-sealing-private" in repr(one)]
    assert not any(hasattr(control_plane.SEALING_KEY, name) for name in ("open", "decrypt", "unseal"))


def test_without_a_sealing_key_nothing_is_stored_in_clear(settings):
    settings.SEALING_KEY = None
    with pytest.raises(RuntimeError, match="SEALING_PUBLIC_KEY"):
        PlainValue(MARK).seal(BINDING)
