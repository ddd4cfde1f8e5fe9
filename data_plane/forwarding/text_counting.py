"""How much a model reads of a JSON value: its characters, counted on the bytes as they came, a little at a time.

Nothing is built from the value, so that a body of 32 MiB needs no more memory than itself. Every member, element and
value counts at least one character, so that the time is bounded by what is counted.

Source: docs/decisions/0081-token-caps.md.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

CHARACTERS_PER_TOKEN: Final = 3.5
# Bytes that are looked at in one step, and steps between which others may get their turn.
_SLICE: Final = 64 * 1024
_STRUCTURE: Final = 8 * 1024
_STEPS: Final = 128
# A file's text is what its base64 decodes to. A picture or a sound is about a token for 1,000 bytes.
_FILE_RATE: Final = 0.75
_MEDIA_RATE: Final = 0.75 * CHARACTERS_PER_TOKEN / 1000
# Members whose text is a word of the protocol, not something that a model reads, and how long such a text may be. A
# longer text is counted as any other.
_WORDS: Final = {
    b"role": 16,
    b"type": 64,
    b"media_type": 128,
    b"detail": 16,
    b"id": 128,
    b"call_id": 128,
    b"tool_call_id": 128,
    b"tool_use_id": 128,
    b"file_id": 128,
    b"url": 2048,
    b"image_url": 2048,
    b"file_url": 2048,
}
_NAMES: Final = frozenset((*_WORDS, b"content", b"text", b"source", b"data", b"file_data", b"name", b"input", b"file"))
_MEDIA_OBJECTS: Final = frozenset({b"input_audio"})
_DATA_OF_A_PICTURE: Final = b"data:image/"
_OUTSIDE: Final = re.compile(rb'[^"]*+')
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_COLON: Final = re.compile(rb"\s*+:")
_DIGIT: Final = re.compile(rb"\d")
_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_ONLY_NUMBERS: Final = bytes(one if one in b"0123456789.-+" else 0x20 for one in range(256))
_LONGEST_NAME: Final = 64
_QUOTE: Final = 0x22


class Counted(NamedTuple):
    """A count that may not have reached the end of its value."""

    characters: float
    # The bytes of the value that were read.
    read: int


class _Object:
    """An object or a list that is not closed yet."""

    __slots__ = ("data", "is_base64", "is_media", "name")

    def __init__(self, name: bytes) -> None:
        self.name = name
        # The characters of the member `data`. Other members say whether they are text, base64, a picture or a sound.
        self.data = 0
        self.is_base64: bool | None = None
        self.is_media = name in _MEDIA_OBJECTS

    def settled(self) -> float:
        if self.name in _MEDIA_OBJECTS:
            return self.data * _MEDIA_RATE
        if not self.is_base64:
            return self.data
        return self.data * (_MEDIA_RATE if self.is_media else _FILE_RATE)


def counted(value: bytes | memoryview) -> Iterator[Counted]:
    """Count a JSON value, which is well formed. Yields after about a millisecond each, last the whole."""
    data = memoryview(value)
    count = _Count()
    place, end, steps = 0, len(data), 0
    while place < end:
        found = _OUTSIDE.match(data, place, min(end, place + _STRUCTURE))
        stop = found.end() if found else place
        count.take_structure(bytes(data[place:stop]))
        steps = 0 if stop - place == _STRUCTURE else steps + 1
        place = stop
        if place < end and data[place] == _QUOTE:
            place += 1
            begin, characters, first = place, 0, b""
            while (stop := _end_inside(data, place, end)) > place:
                piece = bytes(data[place:stop])
                first = first or piece[:_LONGEST_NAME]
                characters += _characters(piece)
                place = stop
                if place < end and data[place] != _QUOTE:
                    yield Counted(count.total + characters, place)
            is_name = _COLON.match(data, place + 1, min(end, place + _STRUCTURE)) is not None
            count.take_text(first, place - begin, characters, is_name=is_name)
            place += 1
        if steps % _STEPS == 0:
            yield Counted(count.total, place)
    count.take_structure(b"]" * len(count.open))
    yield Counted(count.total, end)


def _end_inside(data: memoryview, place: int, end: int) -> int:
    """Where the next slice of a text ends; the place itself at its quote."""
    found = _INSIDE.match(data, place, min(end, place + _SLICE))
    stop = found.end() if found else place
    if stop == place and place < end and data[place] != _QUOTE:
        # The slice's end cuts an escape in two.
        return min(end, place + 2)
    return stop


class _Count:
    """The count so far, and the objects that are open at the place that it has reached."""

    __slots__ = ("name", "open", "total")

    def __init__(self) -> None:
        self.total = 0.0
        self.open: list[_Object] = []
        # The name of the member whose value comes next.
        self.name = b""

    def take_structure(self, run: bytes) -> None:
        """Count what stands between two texts: brackets, numbers, commas."""
        if run in {b":", b": "}:
            return
        for bracket in run.translate(None, _NOT_BRACKETS):
            if bracket in b"{[":
                self.total += 1
                self.open.append(_Object(self.name))
                self.name = b""
            elif self.open:
                self.total += self.open.pop().settled()
        if _DIGIT.search(run):
            # A number is one token: completions and embeddings take lists of tokens.
            self.total += CHARACTERS_PER_TOKEN * len(run.translate(_ONLY_NUMBERS).split())
        self.name = b""

    def take_text(self, first: bytes, length: int, characters: int, *, is_name: bool) -> None:
        """Count the name of a member, or a text.

        Args:
            first: the first bytes, as they are written.
            length: how many bytes are written.
            characters: how many characters they mean.
            is_name: whether they are the name of a member.
        """
        name, self.name = self.name, b""
        if is_name:
            plain = _plain(first) if length <= _LONGEST_NAME else first
            self.name = plain
            self.total += 1 if plain in _NAMES else max(1, characters)
            return
        within = self.open[-1] if self.open else _Object(b"")
        if name == b"data":
            within.data += characters
            self.total += 1
        elif name == b"file_data":
            self.total += max(1.0, characters * _FILE_RATE)
        elif first.startswith(_DATA_OF_A_PICTURE) and (
            name == b"image_url" or (name == b"url" and within.name == b"image_url")
        ):
            self.total += max(1.0, characters * _MEDIA_RATE)
        elif characters > _WORDS.get(name, 0) or first.startswith(b"data:"):
            self.total += max(1, characters)
        else:
            self.total += 1
        if name and name.lower() == b"type":
            within.is_base64 = first == b"base64" and name == b"type" and within.is_base64 is not False
        elif name == b"media_type":
            within.is_media = first.startswith((b"image/", b"audio/", b"video/"))


def _characters(piece: bytes) -> int:
    """How many characters a piece of a JSON text means. It may end within one: an error of five at most."""
    if b"\\" not in piece:
        return len(piece) if piece.isascii() else len(piece.decode("utf-8", "ignore"))
    plain = piece.replace(b"\\\\", b"_")
    length = len(plain) if plain.isascii() else len(plain.decode("utf-8", "ignore"))
    return max(0, length - plain.count(b"\\") - 4 * plain.count(b"\\u"))


def _plain(name: bytes) -> bytes:
    if b"\\" not in name:
        return name
    try:
        return str(msgspec.json.decode(b'"%b"' % name)).encode()
    except (msgspec.DecodeError, UnicodeError):
        return name
