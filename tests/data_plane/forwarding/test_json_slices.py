"""Holds: data_plane.forwarding.json_slices

A text that is read in slices says what it says when it is read at once, wherever the slices end.
"""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_plane.forwarding import json_slices
from data_plane.forwarding.json_slices import LIST, OBJECT, NameTooLong, NotJson, TooDeep, TooMany, parts_of
from tests.steps import result_of
from tests.tiers import number

# The last of them is no shorter than two escapes that belong together.
SIZES = [(13,), (14, 6), (17, 5), (24, 12, 3), (40, 13), (64, 16, 2)]

SPACE = st.sampled_from(["", "", " ", "\n\t", "\r "])
CHARACTERS = st.sampled_from(
    ["a", "\\\\", '\\"', "\\u00e4", "\\ud83d\\ude00", "\\uDBFF\\uDFFF", "ä", "😀", "\\/", *"{}[],: é"]
)
TEXT = st.lists(CHARACTERS, max_size=7).map(lambda found: f'"{"".join(found)}"')
PLAIN = st.sampled_from(["1", "-0.5e+10", "true", "false", "null", "12345678901", "0"])


def joined(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(SPACE, st.lists(inner, max_size=4), SPACE).map(
        lambda found: found[0] + ",".join(found[1]) + found[2]
    )


def objects(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.tuples(SPACE, TEXT, SPACE, inner, SPACE).map(lambda found: "{}{}{}:{}{}".format(*found))
    return joined(member).map(lambda members: f"{{{members}}}")


def lists(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return joined(inner).map(lambda elements: f"[{elements}]")


VALUES = st.recursive(TEXT | PLAIN, lambda inner: objects(inner) | lists(inner), max_leaves=12)
TEXTS = st.tuples(SPACE, objects(VALUES) | lists(VALUES), SPACE).map("".join)
# What makes a text wrong, or another one.
PIECES = st.sampled_from(
    [*"\"\\{}[],: 1e-t.0\n/'", "\\u", "\\ud83d", '""', "null", "[[[[]]]]", "[[[[[[[", "]]]]", "\0", "//", "\ud800"]
).map(lambda piece: piece.encode("utf-8", "surrogatepass"))
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), PIECES | st.binary(max_size=2)), max_size=3)


def changed(text: str, changes: list[tuple[float, int, bytes]]) -> bytes:
    """A text in which some bytes stand in place of others."""
    raw = text.encode()
    for where, length, piece in changes:
        place = int(where * len(raw))
        raw = raw[:place] + piece + raw[place + length :]
    return raw


def at_once(raw: bytes, kind: int) -> list[tuple[str, bytes]] | None:
    """The parts of an object or a list by the decoder of short bodies; None if it refuses the text."""
    try:
        raw.decode("utf-8")
        if kind == LIST:
            return [("", bytes(value)) for value in msgspec.json.decode(raw, type=list[msgspec.Raw])]
        found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return sorted((name, bytes(value)) for name, value in found.items())


def in_slices(raw: bytes, kind: int, sizes: tuple[int, ...]) -> list[tuple[str, bytes]] | None:
    """The same, in slices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_slices, "_SIZES", sizes)
        patch.setattr(json_slices, "_LONGEST_SLICE", sizes[0])
        patch.setattr(json_slices, "_MOST_TOKENS", 4)
        try:
            parts = result_of(parts_of(memoryview(raw), kind, most=1000, depth=100))
        except NotJson:
            return None
    found = [(part.name, raw[part.begin : part.end]) for part in parts]
    return found if kind == LIST else sorted(dict(found).items())


@given(TEXTS, CHANGES, st.sampled_from(SIZES))
def test_slices_say_what_the_whole_says(text: str, changes: list[tuple[float, int, bytes]], sizes: tuple[int, ...]):
    raw = changed(text, changes)

    for kind in (OBJECT, LIST):
        told = in_slices(raw, kind, sizes)
        # No number or word may be longer than a slice, which is 16 KiB where nobody tests.
        if told is not None or max(map(len, words(raw))) < sizes[0] - 1:
            assert told == at_once(raw, kind)


def words(raw: bytes) -> list[bytes]:
    """What stands between the characters that have a meaning."""
    return raw.translate(bytes(one if one in json_slices._IN_WORD else 0x20 for one in range(256))).split(b" ")


@pytest.mark.parametrize("wrong", [b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\x80"])
@pytest.mark.parametrize("place", range(10))
def test_bytes_that_are_not_utf_8_are_refused_wherever_they_are(wrong: bytes, place: int):
    for sizes in SIZES:
        assert in_slices(b'{"%b":"%b%b"}' % (b"a" * place, b"a" * place, wrong), OBJECT, sizes) is None
        assert in_slices(b'{"%b%b":1}' % (b"a" * place, wrong), OBJECT, sizes) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda size: b'{"a":"' + b"x" * size + b'","b":1}',
        lambda size: b'{"a":"' + b"\\u00e4" * (size // 6) + b'","b":1}',
        lambda size: b'{"a":"' + "ä".encode() * (size // 2) + b'","b":1}',
        lambda size: b'{"a":[' + b"1," * (size // 2) + b'1],"b":1}',
        lambda size: b'{"a":[' + b'{"b":[]},' * (size // 9) + b'1],"b":1}',
        lambda size: b" " * size + b'{"a"' + b" " * size + b":1" + b" " * size + b',"b":1}' + b" " * size,
        lambda size: b'{"a":[' + (b"[" * 90 + b"]" * 90 + b",") * (size // 181) + b'1],"b":1}',
        lambda size: b"{" + b",".join(b'"%d":[%b1]' % (one, b"[]," * (size // 2000)) for one in range(600)) + b"}",
    ],
    ids=["text", "escapes", "marks", "numbers", "objects", "blank", "deep", "members"],
)
def test_the_slices_of_production_say_it_too(make: Callable[[int], bytes]):
    raw = make(number(400_000, full=8_000_000))
    parts = result_of(parts_of(memoryview(raw), OBJECT, most=1000, depth=100))

    assert sorted((part.name, raw[part.begin : part.end]) for part in parts) == at_once(raw, OBJECT)


def test_parts_names_and_depth_are_bounded():
    def read(raw: bytes, kind: int = OBJECT) -> object:
        return result_of(parts_of(memoryview(raw), kind, most=3, depth=3))

    assert read(b'{"a":1,"a":2,"a":[[]]}')
    assert read(b"[1,2,3]", LIST)
    with pytest.raises(TooMany):
        read(b'{"a":1,"a":2,"a":3,"a":4}')
    with pytest.raises(TooMany):
        read(b"[1,2,3,4]", LIST)
    with pytest.raises(TooDeep):
        read(b'{"a":[[{}]]}')
    with pytest.raises(NameTooLong):
        read(b'{"%b":1}' % (b"a" * 5000))


NESTED = st.recursive(
    st.just(0), lambda inner: st.lists(inner, max_size=3) | inner.map(lambda value: {"a": value}), max_leaves=20
)


def depth_of(value: object) -> int:
    """How many objects and lists stand within each other."""
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(NESTED, st.integers(0, 6), st.integers(1, 12))
def test_the_depth_is_that_of_the_text(value: object, more: int, most: int):
    for _ in range(more):
        value = [value]
    raw = msgspec.json.encode([value])

    try:
        result_of(parts_of(memoryview(raw), LIST, most=1000, depth=most))
        is_refused = False
    except TooDeep:
        is_refused = True

    assert is_refused == (depth_of([value]) > most)
