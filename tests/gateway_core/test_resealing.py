"""Holds: gateway_core.resealing

The stream between the planes: nothing is opened for a stranger, nothing is lost to a cut pipe.
"""

import pytest

from gateway_core import resealing, sealing
from gateway_core.resealing import Ending, Heading, SealedValue, StreamRefused, encode, managed_value, read, reseal
from gateway_core.sealing import Binding, Keyring, SealingKey, managed_binding

SECRET = "sk-secret-0123456789abcdefghij"
OLD, NEW, STRANGERS = (sealing.generate_private_key() for _ in range(3))
BINDING = Binding("ac_1", "openai", "aigpk_1")


def public(private: str) -> SealingKey:
    return SealingKey.parse(sealing.public_key_of(private))


def a_value(binding: Binding = BINDING) -> SealedValue:
    return SealedValue("ac_1", "openai", "aigpk_1", public(OLD).seal(SECRET, binding))


def through(*values: SealedValue, ring: str = f"{OLD},{NEW}", to: str = NEW) -> tuple[list[SealedValue], list[str]]:
    refused: list[str] = []
    heading = Heading(public(to).id)
    return list(reseal(heading, values, Keyring.parse(ring), refuse=lambda _, why: refused.append(why))), refused


def test_a_value_comes_back_sealed_to_the_new_key_under_its_binding_and_names_the_blob_it_was():
    value = a_value()

    (back,), refused = through(value)

    assert not refused
    assert Keyring.parse(NEW).open(back.sealed, BINDING) == SECRET
    assert back.was == resealing.digest(value.sealed)


def test_the_operators_own_key_comes_back_as_the_operators_own():
    value = managed_value("openai", public(OLD).seal(SECRET, managed_binding("openai")))

    (back,), _ = through(value)

    assert back.is_managed
    assert Keyring.parse(NEW).open(back.sealed, managed_binding("openai")) == SECRET


def test_a_key_that_the_data_plane_does_not_hold_is_not_sealed_to():
    with pytest.raises(StreamRefused, match="SEALING_PRIVATE_KEYS lacks"):
        through(a_value(), to=STRANGERS)


@pytest.mark.parametrize(
    ("value", "ring"),
    [
        (a_value(), NEW),
        (a_value(Binding("ac_2", "openai", "aigpk_1")), f"{OLD},{NEW}"),
        (SealedValue("ac_1", "openai", "aigpk_1", b"garbage"), f"{OLD},{NEW}"),
        (SealedValue("ac_1", "openai", "managed", a_value().sealed), f"{OLD},{NEW}"),
    ],
    ids=["without the old key", "of another account", "garbage", "given out as the operator's"],
)
def test_what_does_not_open_is_named_and_left_out_and_the_rest_goes_on(value, ring):
    good = SealedValue("ac_1", "openai", "aigpk_1", public(NEW).seal(SECRET, BINDING))

    back, refused = through(value, good, ring=ring)

    assert len(back) == len(refused) == 1
    assert SECRET not in refused[0]


LINES = [encode(Heading(public(NEW).id)), encode(a_value()), encode(a_value()), encode(Ending(2))]


def test_a_whole_stream_is_read():
    heading, values = read(LINES)

    assert heading.sealing_key == public(NEW).id
    assert len(list(values)) == 2


@pytest.mark.parametrize(
    "lines",
    [
        [],
        LINES[1:],
        LINES[:1],
        LINES[:3],
        [*LINES[:2], LINES[3]],
        [*LINES, LINES[1]],
        [*LINES[:2], LINES[2][:-10]],
        [*LINES[:2], LINES[2][:-1], LINES[3]],
        [LINES[0], b"SECRET\n", *LINES[2:]],
        [LINES[0], b'{"account": "ac_1", "value": "SECRET"}\n', *LINES[2:]],
        [LINES[0], b"[" * 5000 + b"\n", *LINES[2:]],
        [LINES[0], b'"' + b"SECRET" * 5000 + b'"\n', *LINES[2:]],
        [LINES[0], b"\xff\xfe\n", *LINES[2:]],
    ],
)
def test_a_stream_that_is_cut_off_or_none_of_ours_is_refused_without_a_word_of_it(lines):
    def take_all():
        _, values = read(lines)
        list(values)

    with pytest.raises(StreamRefused) as refusal:
        take_all()

    assert "SECRET" not in str(refusal.value)
