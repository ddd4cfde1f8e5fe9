"""Holds: gateway_core.tokens"""

import hashlib
import random
import re
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_core.tokens import ACCESS_KEY_PREFIX, API_KEY_PREFIX, digest, generate, is_well_formed
from tests.patience import stretched

PREFIXES = [ACCESS_KEY_PREFIX, API_KEY_PREFIX]
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
# The CRC32 of the first 44 characters is 139480649, which is 9RFHt in base62: it shows the padding, too.
KNOWN = "gwk_0123456789abcdefghijABCDEFGHIJ0123456789" + "09RFHt"


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_token_is_its_prefix_and_46_base62_characters(prefix):
    assert re.fullmatch(prefix + "[0-9A-Za-z]{46}", generate(prefix))


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_generated_token_is_well_formed(prefix):
    assert all(is_well_formed(prefix, generate(prefix)) for _ in range(500))


def test_the_form_never_changes_since_tokens_outlive_releases():
    assert is_well_formed(ACCESS_KEY_PREFIX, KNOWN)
    assert digest(KNOWN) == hashlib.sha256(KNOWN.encode()).hexdigest()


def test_tokens_do_not_repeat_and_use_the_whole_alphabet():
    made = {generate(ACCESS_KEY_PREFIX) for _ in range(500)}

    assert len(made) == 500
    for place in range(4, 44):
        assert len({token[place] for token in made}) > 50


def test_a_small_checksum_is_padded_with_zeros():
    # About one token in 62 has a checksum that begins with "0".
    made = (generate(ACCESS_KEY_PREFIX) for _ in range(5_000))
    padded = next(token for token in made if token[44] == "0")

    assert len(padded) == 50
    assert is_well_formed(ACCESS_KEY_PREFIX, padded)


def test_the_checksum_sees_every_wrong_character():
    token = generate(ACCESS_KEY_PREFIX)

    for place in range(len(token)):
        for character in ALPHABET:
            if character != token[place]:
                assert not is_well_formed(ACCESS_KEY_PREFIX, token[:place] + character + token[place + 1 :])


def test_the_checksum_sees_two_neighbours_swapped():
    token = generate(ACCESS_KEY_PREFIX)

    for place in range(4, len(token) - 1):
        swapped = token[:place] + token[place + 1] + token[place] + token[place + 2 :]
        assert swapped == token or not is_well_formed(ACCESS_KEY_PREFIX, swapped)


def test_a_token_of_one_prefix_does_not_become_one_of_another():
    token = generate(ACCESS_KEY_PREFIX)

    assert not is_well_formed(API_KEY_PREFIX, token)
    assert not is_well_formed(API_KEY_PREFIX, token.replace(ACCESS_KEY_PREFIX, API_KEY_PREFIX))


@pytest.mark.parametrize("lead", ["gwk_", ""])
@pytest.mark.parametrize(
    "rest",
    ["", "x", "0" * 46, "0" * 45, "é" * 46, "\ud800" * 46, "\uff11" * 46, "\0" * 46, "0" * 45 + "\n", " " * 46],
)
def test_what_is_no_token_is_not_well_formed(lead, rest):
    assert not is_well_formed(ACCESS_KEY_PREFIX, lead + rest)


@given(st.text(st.characters(exclude_categories=[])))
def test_any_text_gets_an_answer(text):
    assert is_well_formed(ACCESS_KEY_PREFIX, text) is False
    assert len(digest(text)) == len(digest(text + "\ud800")) == 64


def test_a_huge_text_is_refused_at_once():
    huge = ACCESS_KEY_PREFIX + "a" * 50_000_000

    began = time.perf_counter()
    refused = [is_well_formed(ACCESS_KEY_PREFIX, huge) for _ in range(1_000)]

    assert not any(refused)
    assert time.perf_counter() - began < stretched(1)


def test_a_token_cannot_be_foretold_from_a_seed():
    made = set()
    for _ in range(2):
        random.seed(1)
        made.add(generate(ACCESS_KEY_PREFIX))

    assert len(made) == 2
