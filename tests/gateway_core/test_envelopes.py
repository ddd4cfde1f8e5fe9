"""Holds: gateway_core.envelopes"""

import base64
import copy
import hashlib
import hmac
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core import base64url
from gateway_core.envelopes import (
    BODY_LIMIT,
    BODY_OFFSET,
    VERSION_DIGITS,
    VERSION_OFFSET,
    DocumentKeys,
    NotAuthentic,
    OpenedEnvelope,
    Purpose,
    generate_document_key,
)
from tests import tiers

SECRET = bytes(range(32))
TEXT = "0a1b2c3d:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
OTHER_TEXT = generate_document_key()
KEYS = DocumentKeys.parse(TEXT)
PLACE = "{gw}:account:ac_01h455vb4pex5vsknk084sn02q\nproviderKey:aigpk_01h455vb4pex5vsknk084sn02q"
VERSION = 1_793_500_000_000_000
BODY = b'{"marked":"body"}'

VERSIONS = st.integers(0, 10**16 - 1)
PLACES = st.text(max_size=20)


def is_refused(envelope, *, purpose=Purpose.DOCUMENT, place=PLACE, keys=KEYS):
    try:
        keys.verify(purpose, place, envelope)
    except NotAuthentic as refusal:
        return "marked" not in f"{refusal} {refusal!r}"
    return False


def mac_by_the_book(purpose, place, version, body):
    """The MAC, from RFC 5869 and the module's docstring alone."""
    pseudo_random_key = hmac.new(b"\0" * 32, SECRET, hashlib.sha256).digest()
    info = b"gateway authenticated document 1 " + purpose.value.encode()
    key = hmac.new(pseudo_random_key, info + b"\x01", hashlib.sha256).digest()
    message = struct.pack(">QQQ", version, len(place.encode()), len(body)) + place.encode() + body
    return base64.urlsafe_b64encode(hmac.new(key, message, hashlib.sha256).digest()).rstrip(b"=")


@given(st.sampled_from(list(Purpose)), PLACES, VERSIONS, st.binary(max_size=200))
def test_what_was_signed_is_verified(purpose, place, version, body):
    envelope = KEYS.sign(purpose, place, version, body)

    assert KEYS.verify(purpose, place, envelope) == OpenedEnvelope(version, body)


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("version", [0, 7, VERSION, 10**16 - 1])
def test_the_envelope_is_the_one_that_is_written_down(purpose, version):
    mac = mac_by_the_book(purpose, PLACE, version, BODY)

    assert KEYS.sign(purpose, PLACE, version, BODY) == b"1 0a1b2c3d %016d %b " % (version, mac) + BODY


def test_a_script_reads_the_version_and_the_body_at_fixed_places():
    envelope = KEYS.sign(Purpose.DOCUMENT, PLACE, 42, BODY)

    assert envelope[VERSION_OFFSET : VERSION_OFFSET + VERSION_DIGITS] == b"0000000000000042"
    assert envelope[BODY_OFFSET:] == BODY
    assert envelope[:BODY_OFFSET].isascii()


def test_no_bit_of_an_envelope_can_change():
    envelope = KEYS.sign(Purpose.DOCUMENT, PLACE, VERSION, BODY)

    for bit in range(len(envelope) * 8):
        changed = bytearray(envelope)
        changed[bit // 8] ^= 1 << bit % 8
        assert is_refused(bytes(changed)), f"bit {bit}"


def test_no_character_of_the_header_has_a_second_spelling():
    envelope = KEYS.sign(Purpose.DOCUMENT, PLACE, VERSION, BODY)

    for at in range(BODY_OFFSET):
        for byte in range(256):
            if byte != envelope[at]:
                assert is_refused(envelope[:at] + bytes([byte]) + envelope[at + 1 :]), f"byte {byte} at {at}"


def test_an_envelope_cannot_be_cut_or_made_longer():
    envelope = KEYS.sign(Purpose.DOCUMENT, PLACE, VERSION, BODY)

    assert all(is_refused(envelope[:length]) for length in range(len(envelope)))
    assert all(is_refused(changed) for changed in (envelope + b"\0", b" " + envelope, envelope * 2))


@given(PLACES, PLACES, VERSIONS)
def test_an_envelope_counts_only_in_its_place(place, other, version):
    envelope = KEYS.sign(Purpose.DOCUMENT, place, version, BODY)

    assert is_refused(envelope, place=other) == (place != other)


@given(st.binary(max_size=12), st.integers(0, 12), st.integers(0, 12))
def test_bytes_cannot_move_between_the_place_and_the_body(joined, cut, other_cut):
    def split(at):
        return joined[:at].hex(), joined[at:].hex().encode()

    (place, body), (other_place, other_body) = split(cut), split(other_cut)
    envelope = KEYS.sign(Purpose.DOCUMENT, place, 1, body)

    if (place, body) != (other_place, other_body):
        assert is_refused(envelope[:BODY_OFFSET] + other_body, place=other_place)


@pytest.mark.parametrize("signed", Purpose)
@pytest.mark.parametrize("asked", Purpose)
def test_an_envelope_counts_only_for_its_purpose(signed, asked):
    envelope = KEYS.sign(signed, PLACE, VERSION, BODY)

    assert is_refused(envelope, purpose=asked) == (signed is not asked)


def test_the_mac_of_one_document_does_not_fit_another():
    one = KEYS.sign(Purpose.DOCUMENT, PLACE, VERSION, BODY)
    newer = KEYS.sign(Purpose.DOCUMENT, PLACE, VERSION + 1, BODY)

    assert is_refused(newer[:28] + one[28:])
    assert is_refused(one[:28] + newer[28:])
    assert is_refused(one[:BODY_OFFSET] + BODY + b" ")


def test_another_deployments_key_is_refused_even_under_the_same_id():
    stranger = DocumentKeys.parse(f"0a1b2c3d:{OTHER_TEXT.partition(':')[2]}")

    assert is_refused(stranger.sign(Purpose.DOCUMENT, PLACE, VERSION, BODY))


def test_the_first_key_signs_and_every_key_verifies():
    rotating = DocumentKeys.parse(f"{OTHER_TEXT} ,\n{TEXT}")
    by_old, by_new = (keys.sign(Purpose.CHANGE, PLACE, VERSION, BODY) for keys in (KEYS, rotating))

    assert rotating.ids == (OTHER_TEXT[:8], "0a1b2c3d")
    assert by_new[2:10].decode() == OTHER_TEXT[:8]
    assert rotating.verify(Purpose.CHANGE, PLACE, by_old) == rotating.verify(Purpose.CHANGE, PLACE, by_new)


def test_a_dropped_key_no_longer_verifies_and_the_refusal_names_it():
    envelope = DocumentKeys.parse(OTHER_TEXT).sign(Purpose.DOCUMENT, PLACE, VERSION, BODY)

    with pytest.raises(NotAuthentic, match=OTHER_TEXT[:8]):
        KEYS.verify(Purpose.DOCUMENT, PLACE, envelope)


@settings(max_examples=tiers.number(50, full=300))
@given(st.binary(max_size=120) | st.from_regex(rb"\A1 0a1b2c3d [0-9]{16} [A-Za-z0-9_-]{43} .{0,20}\Z"))
def test_bytes_that_nobody_signed_are_refused(envelope):
    assert is_refused(envelope)


@pytest.mark.parametrize("version", [-1, 10**16, 2**63])
def test_a_version_has_at_most_16_digits(version):
    with pytest.raises(ValueError, match="16 digits"):
        KEYS.sign(Purpose.DOCUMENT, PLACE, version, BODY)


def test_a_body_over_the_limit_is_neither_signed_nor_read():
    envelope = KEYS.sign(Purpose.DOCUMENT, PLACE, VERSION, b"marked" * 10, limit=60)

    assert KEYS.verify(Purpose.DOCUMENT, PLACE, envelope, limit=60).body == b"marked" * 10
    with pytest.raises(NotAuthentic, match="longer than 59 bytes"):
        KEYS.verify(Purpose.DOCUMENT, PLACE, envelope, limit=59)
    with pytest.raises(ValueError, match="limit of 59"):
        KEYS.sign(Purpose.DOCUMENT, PLACE, VERSION, b"marked" * 10, limit=59)


def test_the_limit_is_8_mib_where_none_is_named():
    assert BODY_LIMIT == 8 * 1024 * 1024
    with pytest.raises(ValueError, match="over the limit"):
        KEYS.sign(Purpose.DOCUMENT, PLACE, VERSION, bytes(BODY_LIMIT + 1))
    with pytest.raises(NotAuthentic, match="longer than"):
        KEYS.verify(Purpose.DOCUMENT, PLACE, KEYS.sign(Purpose.DOCUMENT, PLACE, 1, b"") + bytes(BODY_LIMIT + 1))


def test_a_place_that_is_no_unicode_text_is_refused_and_not_a_crash():
    envelope = KEYS.sign(Purpose.DOCUMENT, PLACE, VERSION, BODY)

    assert is_refused(envelope, place=f"{PLACE}\udcff")


@pytest.mark.parametrize(
    "entry",
    [
        "",
        "0a1b2c3d",
        "0a1b2c3d:",
        ":" + TEXT[9:],
        TEXT[9:],
        TEXT[:-1],
        TEXT + "A",
        TEXT + "=",
        TEXT[:-1] + "9",  # the same bytes, if the two unused bits are dropped
        TEXT[:-1] + "*",
        TEXT[:-1] + "é",
        TEXT[:-1] + "\ud800",
        TEXT.upper()[:8] + TEXT[8:],
        "0a1b2c3:" + TEXT[9:],
        "0a1b2c3d4:" + TEXT[9:],
        "0a1b2c3g:" + TEXT[9:],
        TEXT.replace(":", "::"),
    ],
)
@pytest.mark.parametrize("position", [1, 2])
def test_a_malformed_key_is_refused_by_its_position_without_being_repeated(entry, position):
    with pytest.raises(ValueError, match=f"^document key {position} is not") as caught:
        DocumentKeys.parse(",".join([OTHER_TEXT] * (position - 1) + [entry]))

    error: BaseException | None = caught.value
    while error is not None:
        assert TEXT[9:25] not in f"{error} {error!r}"
        assert OTHER_TEXT[9:25] not in f"{error} {error!r}"
        error = error.__context__


@pytest.mark.parametrize("repeated", [TEXT, "0a1b2c3d:" + OTHER_TEXT[9:], "0a1b2c3e:" + TEXT[9:]])
def test_a_key_given_twice_is_refused(repeated):
    with pytest.raises(ValueError, match="document key 2 repeats") as caught:
        DocumentKeys.parse(f"{TEXT},{repeated}")

    assert TEXT[9:25] not in str(caught.value)


def test_a_generated_key_is_32_fresh_bytes_under_a_fresh_id():
    made = [generate_document_key() for _ in range(50)]

    assert all(len(base64url.decode(text[9:])) == 32 for text in made)
    assert len({text[:8] for text in made}) == len({text[9:] for text in made}) == 50
    assert len(DocumentKeys.parse(",".join(made)).ids) == 50


def test_the_representation_shows_only_ids():
    keys = DocumentKeys.parse(f"{TEXT},{OTHER_TEXT}")

    assert repr(keys) == str(keys) == f"DocumentKeys(ids=0a1b2c3d, {OTHER_TEXT[:8]})"
    assert not hasattr(keys, "__dict__")
    assert repr(copy.copy(keys)) == repr(keys)


def test_the_derived_keys_are_all_different_and_none_is_the_secret():
    derived = [*KEYS._mac_keys.values()]

    assert len(set(derived)) == len(Purpose)
    assert SECRET not in derived
