"""Holds: gateway_core.sealing"""

import base64
import copy
import itertools
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_core import base64url, sealing
from gateway_core.sealing import (
    Binding,
    Keyring,
    SealBroken,
    SealingKey,
    UnknownSealingKey,
    generate_private_key,
    public_key_of,
    sealing_key_id,
)
from tests import tiers

PRIVATE = generate_private_key()
OTHER_PRIVATE = generate_private_key()
KEYRING = Keyring.parse(PRIVATE)
SEALING_KEY = SealingKey.parse(public_key_of(PRIVATE))
BINDING = Binding("ac_01h455vb4pex5vsknk084sn02q", "openai", "aigpk_01h455vb4pex5vsknk084sn02q")
MARKED = "sk-marked-SECRET-0123456789"

# Made once and kept: what is stored today must open in every later release.
OLD_PRIVATE = (
    "gw-sealing-private.f7d5d4f6edb929c9."
    "Ccpe1GSsvCstOyPQ0TOawo8oJqcndT0FOo9wiOkfDDszL3MbeLpG0Ein14zRS0dO"
    "gGp7EUsbjTTH4eX-AZOdXLiK8TKF06wngXmv_UCXuGbtBnQkNYDm2DIUyFQ1w8Jj"
)
OLD_BLOB = """
AffV1PbtuSnJcDcuWZTvH3jZSONlTSSZwkuL12YXQK+7rLRic+3EO/cSh9Nu1VAXAsaKRmVX6dexM6E7FdQOgE3JNc6TAgMRFgFLCf6/7lK9xR6vhUjW
fL03cObEnxG0ipcjZFIrKaKtzRmzo/oKLFdtXeAQQMQ0Y/6JN6ah9JKwXlGVgmc+4hnDkjkbxFWE+0ygiIhDbvkG30bV4tQVcRnR+Xc1bHv5roGYBE/B
WUwBfvMsnZLaMxLZvQiCmzasiBfNS3gUDgFM8I6aiQ/yA/a1X/GLB91jqCFIjMOX3JNGmAoxH/jMgNkNsl78nGU9zanI7DSSpQpTNx2Yd+6aFqOWzqc2
4R5WWpoWWd4HSfCFTri5PVHe45Hmow1iyPh72NMG1lzVKfbCnqIlNrvtalfP18sgCGr26zBC4NRMKg5Y5uekpiMHhLkqzOKb2IJC9hn+fMfDp47mIknP
ybSZyP1AWBXRoNetDPVXqNK41k9CQ11wT5886OfkSUrV0gULqRbap9DON3w92NcS1Sb6wvEB5z46u7bHJ+uW/LQd7vuv8flihebjVSGJEpMNAVZ8bBjL
dgeoQNGsirY6YmI4jlbrlyoFik0VEfcxhA2mx8h7HjGd0CRLav/IUSk9Y2c4OsaJZTbNEs2zFOytydPfhCDsfWJsHTv57rPJp4xGgqFZB+8giI/pWnx+
Appxa1TV9MdkCjGcwr/5JNGwhQOXAK2GY+WKDAUpgE3PenjyGVTZYV3xNDN0xhPzdh+VIZurZIMGjK38A2XLkjKilWbwT/XqbK6Iwd2io/B8vWRGVmoe
WNXxwl7Qx4T8hPqgQoPKAA2M6vm/fvheUAdrSBsNUI9YqWsC4V2kSUsd0Jff2GHMiIY3e14WV3Wg0tGrWbWDF0C0e2u+FBivGoPtGEQseP/PUIg4olPj
6aHi+3kdZgFlkGi0yfkXQ6m/Mrd46qPVQE7W9oQYqDVzPlQI2LSfffE6uF/vXbD2hv6C4RZnttJLdLpnA547Ro8Kw5lOSFBCykiWQQFKpoGz/WvdsJoi
bk/6Xx8dYI6qxEbUEYsKfkkyK05nS8Y5+e19i4q1SXCIjrNrPpjIiSte2M8kxQQJ5aETwG9NVvl5GHFVmP/OC+V3KLgZ/OsXSY30H37nSJvKmAf9wiDG
HM2ROsxlTi8zibJeRoI6dEK4DoskCaCLcpLZIIx9Su1uzDoe9j32rywLpqt4snhef2Q/AC2mjc6aWz6sDVmMWO1+hWF5wFddn7uf5SG6/GJ66mpW1QRl
y1WZme7mj/hgfcfcNo2xVLtTkwFk5mI01UFGeqbV4hNF1TWrXe9r2b6/lm7AWuBCOe96OVG3UGz+dO7EDWrXN2SlnfVNn06bWVJ6+lVgZXvx185suvPG
9W0unUWWDev4CkwuCTgt6DLSCRu7ZH0iVRNgb1oSEdCg3wadQO34+zn81OpQ6hWARzJuxdt8QSMYcDL+y+KtsoXJSNpB7rwFXzZxaKnVsMHowyFfKTMJ
R/BfWEypCmBl9pzqa+H/xPU7kzTVlOYFtOq/tnLDksb6tK3uVQ==
"""

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
PARTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
BINDINGS = st.builds(Binding, PARTS, PARTS, PARTS, PARTS)


def row(number):
    """A row's value and its binding: neighbours share the account or the provider, as they do in a real table."""
    binding = Binding(f"ac_{number // 4}", ["openai", "anthropic"][number % 2], f"aigpk_{number}")
    return f"sk-value-of-row-{number}-" + "x" * number, binding


def does_not_open(blob, binding, keyring=KEYRING):
    try:
        keyring.open(blob, binding)
    except SealBroken:
        return True
    return False


def with_bit_flipped(blob, bit):
    changed = bytearray(blob)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@settings(deadline=None)
@given(TEXTS, BINDINGS)
def test_what_was_sealed_opens_under_its_own_binding(value, binding):
    assert KEYRING.open(SEALING_KEY.seal(value, binding), binding) == value


@settings(deadline=None)
@given(BINDINGS, BINDINGS)
def test_no_two_bindings_read_alike(one, other):
    blob = SEALING_KEY.seal(MARKED, one)

    assert does_not_open(blob, other) == (one != other)


def test_text_moved_between_the_parts_of_a_binding_makes_another_binding():
    blob = SEALING_KEY.seal(MARKED, Binding("ab", "cd", "ef"))

    for parts in itertools.product(["ab", "a", "abc", "abcd"], ["cd", "bcd", "d", "cdef"], ["ef", "def", "cdef"]):
        assert does_not_open(blob, Binding(*parts)) == (parts != ("ab", "cd", "ef"))


def test_a_seal_for_another_purpose_does_not_open():
    blob = SEALING_KEY.seal(MARKED, BINDING._replace(purpose="managed-key"))

    assert does_not_open(blob, BINDING)
    assert KEYRING.open(blob, BINDING._replace(purpose="managed-key")) == MARKED


@pytest.mark.parametrize("number", range(tiers.number(1, full=2)))
def test_a_sealed_value_with_any_bit_flipped_does_not_open(number):
    value, binding = row(number)
    blob = SEALING_KEY.seal(value, binding)

    opened = [bit for bit in range(len(blob) * 8) if not does_not_open(with_bit_flipped(blob, bit), binding)]

    assert opened == []
    assert KEYRING.open(blob, binding) == value


@pytest.mark.parametrize("number", range(tiers.number(1, full=2), 20))
def test_a_sealed_value_with_a_bit_flipped_in_any_byte_does_not_open(number):
    value, binding = row(number)
    blob = SEALING_KEY.seal(value, binding)

    # The bit's place turns with the row, so that the 18 rows together try every bit of a byte.
    bits = [at * 8 + (at + number) % 8 for at in range(len(blob))]
    opened = [bit for bit in bits if not does_not_open(with_bit_flipped(blob, bit), binding)]

    assert opened == []
    assert KEYRING.open(blob, binding) == value


def test_no_pair_of_rows_can_swap_their_sealed_values():
    rows = [(SEALING_KEY.seal(value, binding), binding) for value, binding in map(row, range(20))]

    for (blob, binding), (other_blob, other_binding) in itertools.combinations(rows, 2):
        assert does_not_open(blob, other_binding)
        assert does_not_open(other_blob, binding)


def test_a_sealed_value_that_is_cut_or_longer_does_not_open():
    blob = SEALING_KEY.seal(MARKED, BINDING)

    for length in range(len(blob)):
        assert does_not_open(blob[:length], BINDING)
    for tail in (b"\0", b"x", blob):
        assert does_not_open(blob + tail, BINDING)


def test_the_parts_of_two_seals_of_one_row_do_not_mix():
    one, other = (SEALING_KEY.seal(MARKED, BINDING) for _ in range(2))

    for cut in (9 + 16, 9 + 1088, 9 + 1120, len(one) - 16):
        assert does_not_open(one[:cut] + other[cut:], BINDING)


def test_two_seals_of_one_value_have_nothing_in_common():
    one, other = (SEALING_KEY.seal(MARKED, BINDING) for _ in range(2))

    assert one[:9] == other[:9]
    assert sum(a == b for a, b in zip(one[9:], other[9:], strict=True)) < 40
    assert MARKED.encode() not in one


def test_a_value_sealed_in_the_first_release_still_opens():
    keyring = Keyring.parse(OLD_PRIVATE)

    assert keyring.open(base64.b64decode(OLD_BLOB), BINDING) == "sk-sealed-once-and-kept"


def test_a_blob_says_its_form_and_its_sealing_key():
    blob = SEALING_KEY.seal("four", BINDING)

    assert blob[0] == 1
    assert blob[1:9].hex() == SEALING_KEY.id == sealing_key_id(blob)
    assert len(blob) == 9 + 1120 + 4 + 16


@pytest.mark.parametrize("blob", [b"", b"\x01", b"\x01" + b"x" * 8, b"\x00" + b"x" * 1200, b"\x02" + b"x" * 1200])
def test_what_is_no_blob_names_no_sealing_key(blob):
    with pytest.raises(SealBroken):
        sealing_key_id(blob)
    with pytest.raises(SealBroken):
        KEYRING.open(blob, BINDING)


def test_a_keyring_opens_what_was_sealed_to_any_of_its_keys():
    keyring = Keyring.parse(f" {OTHER_PRIVATE},\n{PRIVATE} ")

    for private in (PRIVATE, OTHER_PRIVATE):
        assert keyring.open(SealingKey.parse(public_key_of(private)).seal(MARKED, BINDING), BINDING) == MARKED
    assert keyring.ids == (sealing_key_named_by(OTHER_PRIVATE), sealing_key_named_by(PRIVATE))


def sealing_key_named_by(text):
    return text.split(".")[1]


def test_a_keyring_without_the_key_names_the_missing_one():
    blob = SEALING_KEY.seal(MARKED, BINDING)

    with pytest.raises(UnknownSealingKey, match=SEALING_KEY.id) as caught:
        Keyring.parse(OTHER_PRIVATE).open(blob, BINDING)

    assert caught.value.key_id == SEALING_KEY.id


def test_a_blob_that_names_another_key_of_the_ring_does_not_open():
    keyring = Keyring.parse(f"{PRIVATE},{OTHER_PRIVATE}")
    blob = SEALING_KEY.seal(MARKED, BINDING)

    assert does_not_open(blob[:1] + bytes.fromhex(sealing_key_named_by(OTHER_PRIVATE)) + blob[9:], BINDING, keyring)


def test_a_keyring_gives_out_its_public_keys():
    public = KEYRING.public(SEALING_KEY.id)

    assert public.text == public_key_of(PRIVATE) == SEALING_KEY.text
    assert KEYRING.open(public.seal(MARKED, BINDING), BINDING) == MARKED
    with pytest.raises(KeyError):
        KEYRING.public("0" * 16)


def test_the_texts_of_the_keys_are_single_words_that_say_what_they_are():
    key_id = SEALING_KEY.id

    assert PRIVATE.startswith(f"gw-sealing-private.{key_id}.")
    assert public_key_of(PRIVATE).startswith(f"gw-sealing-public.{key_id}.")
    assert len(PRIVATE.split()) == len(public_key_of(PRIVATE).split()) == 1


def test_every_generated_key_is_another():
    assert len({generate_private_key() for _ in range(20)}) == 20


def broken(text):
    lead, key_id, encoded = text.split(".")
    changed = ("B" if encoded[40] == "A" else "A").join((encoded[:40], encoded[41:]))
    return {
        "empty": "",
        "prose": "please",
        "no key": f"{lead}.{key_id}",
        "cut": text[:-4],
        "longer": text + "AAAA",
        "another ID": f"{lead}.{'0' * 16}.{encoded}",
        "another character": f"{lead}.{key_id}.{changed}",
        "foreign character": f"{lead}.{key_id}.*{encoded[1:]}",
        "not ASCII": f"{lead}.{key_id}.é{encoded[1:]}",
        "lone surrogate": f"{lead}.{key_id}.\ud800{encoded[1:]}",
        "padded": f"{lead}.{key_id}.{encoded}=",
        "another lead": f"x{text}",
    }


@pytest.mark.parametrize("fault", [*broken(PRIVATE)])
def test_a_malformed_private_key_is_refused_without_being_repeated(fault):
    text = broken(PRIVATE)[fault]

    with pytest.raises(ValueError, match="private sealing key") as caught:
        Keyring.parse(text)

    assert_tells_nothing(caught.value, PRIVATE.split(".")[2][:20], PRIVATE.split(".")[2][-20:-4])


def test_the_refusal_of_a_keyring_names_the_position():
    with pytest.raises(ValueError, match="private sealing key 2: "):
        Keyring.parse(f"{PRIVATE}, {OTHER_PRIVATE[:-8]}")
    with pytest.raises(ValueError, match="private sealing key 3: the same as one before it"):
        Keyring.parse(f"{PRIVATE} {OTHER_PRIVATE} {PRIVATE}")


@pytest.mark.parametrize("fault", [*broken(public_key_of(PRIVATE))])
def test_a_malformed_public_key_is_refused(fault):
    with pytest.raises(ValueError, match=r"\w"):
        SealingKey.parse(broken(public_key_of(PRIVATE))[fault])


def test_a_key_that_was_cut_is_told_so():
    with pytest.raises(ValueError, match="93 bytes of key instead of 96"):
        Keyring.parse(PRIVATE[:-4])
    with pytest.raises(ValueError, match="1219 bytes of key instead of 1216"):
        SealingKey.parse(public_key_of(PRIVATE)[:-3] + "AAAAAAA")


def test_a_private_key_given_as_the_public_one_is_refused_without_being_repeated():
    with pytest.raises(ValueError, match="gw-sealing-public") as caught:
        SealingKey.parse(PRIVATE)

    assert_tells_nothing(caught.value, PRIVATE.split(".")[2][:20])


def test_a_public_key_given_as_the_private_one_is_refused():
    with pytest.raises(ValueError, match="gw-sealing-private"):
        Keyring.parse(public_key_of(PRIVATE))


def test_a_public_key_that_would_seal_to_nobody_is_refused_at_once():
    raw = base64url.decode(public_key_of(PRIVATE).split(".")[2])

    with pytest.raises(ValueError, match=r"\w"):
        SealingKey(raw[:1184] + b"\0" * 32)


@pytest.mark.parametrize("part", Binding._fields)
def test_an_empty_part_of_a_binding_is_refused(part):
    with pytest.raises(ValueError, match="empty"):
        SEALING_KEY.seal(MARKED, BINDING._replace(**{part: ""}))
    with pytest.raises(SealBroken):
        KEYRING.open(SEALING_KEY.seal(MARKED, BINDING), BINDING._replace(**{part: ""}))


def test_the_representations_of_the_keys_show_only_their_ids():
    assert repr(SEALING_KEY) == str(SEALING_KEY) == f"SealingKey({SEALING_KEY.id})"
    assert repr(KEYRING) == str(KEYRING) == f"Keyring({SEALING_KEY.id})"
    for secret in (PRIVATE.split(".")[2][:16], base64url.decode(PRIVATE.split(".")[2])[:8].hex()):
        assert secret not in repr([getattr(KEYRING, name) for name in KEYRING.__slots__])


@pytest.mark.parametrize("copied", [pickle.dumps, copy.deepcopy])
def test_a_keyring_cannot_leave_the_process_by_accident(copied):
    with pytest.raises(TypeError):
        copied(KEYRING)


def test_the_public_key_alone_opens_nothing():
    blob = SEALING_KEY.seal(MARKED, BINDING)

    assert not hasattr(SEALING_KEY, "open")
    with pytest.raises(TypeError):
        sealing._opened(SEALING_KEY._hpke_key, blob, BINDING)  # type: ignore[arg-type]


def test_a_broken_seal_gives_one_error_for_every_reason():
    blob = SEALING_KEY.seal(MARKED, BINDING)
    errors = []
    for changed, binding in [
        (with_bit_flipped(blob, 9 * 8), BINDING),
        (with_bit_flipped(blob, len(blob) * 8 - 1), BINDING),
        (blob[:-1], BINDING),
        (blob, BINDING._replace(account="ac_other")),
        (sealed_bytes(b"\xff\xfe" + MARKED.encode()), BINDING),
    ]:
        with pytest.raises(SealBroken) as caught:
            KEYRING.open(changed, binding)
        assert_tells_nothing(caught.value, MARKED, BINDING.account)
        errors.append((type(caught.value), str(caught.value)))

    assert len(set(errors)) == 1


def sealed_bytes(plain):
    """A blob whose content is no text: our code never makes one, a buggy or hostile sealer might."""
    header = b"\x01" + bytes.fromhex(SEALING_KEY.id)
    return header + sealing._SUITE.encrypt(plain, SEALING_KEY._hpke_key, info=sealing._info(header, BINDING))


def test_a_value_that_is_no_unicode_text_is_refused_without_being_repeated():
    with pytest.raises(ValueError, match="surrogate") as caught:
        SEALING_KEY.seal(f"{MARKED}\ud800", BINDING)

    assert_tells_nothing(caught.value, MARKED)


def assert_tells_nothing(error, *secrets):
    """Neither the error nor any error behind it carries a secret, in its text or in its attributes."""
    while error is not None:
        told = f"{error} {error!r} {error.args!r} {vars(error)!r} {getattr(error, 'object', None)!r}"
        assert not [secret for secret in secrets if secret in told]
        error = error.__cause__ or error.__context__
