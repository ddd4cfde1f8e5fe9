"""Finds an upstream's secret in what the upstream answers, however it is written there, and puts its mask in its place.

A secret is looked for as it is, in base64 (both alphabets, whatever stands before it), in hexadecimal, and in each of
these with any of its characters escaped: in JSON and JavaScript (`\\u002d`, `\\x2d`, `\\/`, several times over), in
URLs (`%2d`, several times over) and in HTML (`&#45;`). A mask is filled with `*` to the length of what it replaces, so
that lengths which were announced stay true.

Nearly every piece of an answer holds none of this and is passed by a few searches for texts of bytes.

Source: docs/decisions/0083-what-passes.md.
"""

import base64
import json
import re
from bisect import bisect_right
from collections.abc import Generator
from functools import lru_cache
from typing import Final

# A shorter value stands in ordinary texts by chance, so it is not looked for.
SHORTEST: Final = 8
_LEAD: Final = 4
_LONGEST_HELD: Final = 64 * 1024
# As many bytes as one byte of a secret may be written with: `\\\\u002d`, twice escaped, in base64.
_EXPANSION: Final = 16
_KEYS: Final = 256
# How many escapes are undone in one step, before other requests may get their turn.
_ESCAPES: Final = 1024
_BASE64_BITS: Final = 6
_HEXADECIMAL: Final = 16
# The groups of `_ESCAPE`: three in hexadecimal digits, one in decimal ones, then names and characters.
_LAST_HEXADECIMAL: Final = 3
_DECIMAL: Final = 4
# What only some escapes begin with, found fast, and then how they go on.
_GUARDS: Final = ((b"%", rb"%[0-9a-fA-F]{2}"), (b"&", rb"&#"), (b"\\", rb"\\(?:u00|x)"))
# Escapes that only some secrets need.
_TRIGGERS_OF: Final = {"/": b"\\/", '"': b'\\"', "'": b"\\'", "\\": b"\\\\", "&": b"&amp", "<": b"&lt", ">": b"&gt"}
_ENTITIES: Final = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}
_STARS: Final = re.compile(rb"\*{3,}[0-9A-Za-z_-]{0,8}")
# How many characters of a key's beginning upstreams show in their own masks.
_LONGEST_LEAD: Final = 16
_ESCAPE: Final = re.compile(
    rb"\\{1,8}(?:u00|x)([0-9a-fA-F]{2})|%(?:25){0,8}([0-9a-fA-F]{2})|&#[xX]0{0,4}([0-9a-fA-F]{2});"
    rb"|&#0{0,4}(\d{2,3});|&(amp|lt|gt|quot|apos);|\\{1,8}([/\"'\\])"
)


class Secret:
    """A secret, ready to be looked for."""

    __slots__ = ("_guards", "_lead", "_literals", "_mask", "folded", "longest")

    def __init__(self, value: str, mask: str) -> None:
        """
        Args:
            value: printable ASCII, at least `SHORTEST` characters.
            mask: what is shown in its place; not longer than the value.
        """
        plain = value.encode("ascii")
        self._mask = mask.encode("ascii")
        self._lead = plain[:_LEAD]
        # As it would stand in a header's name.
        self.folded = plain.lower()
        self._literals = tuple(
            dict.fromkeys((plain, *_in_base64(plain), plain.hex().encode(), _upper_hex(plain), *_with_escapes(plain)))
        )
        written = {character for literal in self._literals for character in literal.decode("latin-1")}
        own = tuple(trigger for character, trigger in _TRIGGERS_OF.items() if character in written)
        # A single byte is found many times faster than anything longer.
        self._guards = tuple(
            (guard, re.compile(b"|".join((first, *(re.escape(one) for one in own if one.startswith(guard))))))
            for guard, first in _GUARDS
        )
        # The most bytes that an occurrence may have.
        self.longest = min(_LONGEST_HELD, _EXPANSION * len(plain))

    def is_suspected_in(self, data: bytes) -> bool:
        """Whether a second look is needed. False is certain."""
        # Plain loops: a generator would cost more than the searches. From the end: Python searches several times faster
        # there.
        rfind = data.rfind
        for text in self._literals:
            if rfind(text) >= 0:
                return True
        for guard, escape in self._guards:
            if rfind(guard) >= 0 and escape.search(data):
                return True
        # A mask that somebody else made begins as the value does.
        return rfind(b"*") >= 0 and rfind(self._lead) >= 0

    def hidden_in(self, data: bytes) -> Generator[None, None, bytes]:
        """The data, of the same length, without the secret. Yields where others may get their turn."""
        spans = self._spans(data)
        text = yield from _unescaped(data, None)
        if len(text) < len(data) and self._spans(text):
            marks: list[tuple[int, int]] = []
            text = yield from _unescaped(data, marks)
            places = [place for place, _ in marks]
            spans += [(_origin(start, places, marks), _origin(end, places, marks)) for start, end in self._spans(text)]
        if not spans:
            return data
        result = bytearray(data)
        for start, end in spans:
            result[start:end] = self._filled(end - start)
        return bytes(result)

    def unfinished_in(self, data: bytes) -> int:
        """How many bytes at the end of the data may begin an occurrence. None reaches over the end of a line."""
        if data.endswith((b"\n", b"\r")):
            return 0
        begin = max(0, len(data) - self.longest + 1)
        return len(data) - max(begin, data.rfind(b"\n", begin) + 1, data.rfind(b"\r", begin) + 1)

    def _spans(self, data: bytes) -> list[tuple[int, int]]:
        """Where it stands in the data, as (start, end)."""
        found = []
        for literal in self._literals:
            start = data.find(literal)
            while start >= 0:
                found.append((start, start + len(literal)))
                start = data.find(literal, start + len(literal))
        # A mask that somebody else made: how the value begins, stars, and perhaps how it ends.
        for stars in _STARS.finditer(data) if self._lead in data else ():
            start = data.rfind(self._lead, max(0, stars.start() - _LONGEST_LEAD), stars.start())
            if start >= 0:
                found.append((start, stars.end()))
        return found

    def _filled(self, length: int) -> bytes:
        return self._mask.ljust(length, b"*") if length >= len(self._mask) else b"*" * length


@lru_cache(maxsize=_KEYS)
def secret_of(value: str, mask: str | None) -> Secret | None:
    """A provider key's value, ready to be looked for; None if it is too short for that.

    Args:
        value: as it is sent upstream.
        mask: as its account sees it; None for a key of the operator's, of which nothing is shown.
    """
    return Secret(value, mask or "***") if len(value) >= SHORTEST else None


def _in_base64(plain: bytes) -> list[bytes]:
    """The characters that a text has in base64 whatever stands around it: three ways, in both alphabets."""
    found = []
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + plain).rstrip(b"=")
        whole = 8 * (before + len(plain)) // _BASE64_BITS
        found.append(encoded[-(-8 * before // _BASE64_BITS) : whole])
    return [*found, *(one.translate(bytes.maketrans(b"+/", b"-_")) for one in found)]


def _with_escapes(plain: bytes) -> list[bytes]:
    """A text that itself looks like an escape, as JSON writes it, and as `_unescaped` leaves it."""
    once = json.dumps(plain.decode())[1:-1].encode()
    left = _ESCAPE.sub(_meant, plain)
    return [one for one in (once, left) if len(one) >= SHORTEST]


def _upper_hex(plain: bytes) -> bytes:
    return plain.hex().upper().encode()


def _unescaped(data: bytes, marks: list[tuple[int, int]] | None) -> Generator[None, None, bytes]:
    """The data with its escapes undone. Yields after some of them.

    Args:
        data: a piece of an answer.
        marks: where each escape began and ended: (place in the result, place in the data); None if it is not wanted.
    """
    text = bytearray()
    end = 0
    for count, match in enumerate(_ESCAPE.finditer(data), 1):
        start = match.start()
        text += data[end:start]
        end = match.end()
        if marks is not None:
            marks.append((len(text), start))
        text += _meant(match)
        if marks is not None:
            marks.append((len(text), end))
        if count % _ESCAPES == 0:
            yield
    text += data[end:]
    return bytes(text)


def _meant(match: re.Match[bytes]) -> bytes:
    """The character that an escape stands for."""
    group = match.lastindex or 0
    code = match[group]
    if group <= _LAST_HEXADECIMAL:
        return bytes((int(code, _HEXADECIMAL),))
    if group == _DECIMAL:
        return bytes((int(code) & 0xFF,))
    return _ENTITIES.get(code, code)


def _origin(place: int, places: list[int], marks: list[tuple[int, int]]) -> int:
    """The place in the data of a place in the text that was made of it."""
    index = bisect_right(places, place) - 1
    if index < 0:
        return place
    there, origin = marks[index]
    return origin + place - there
