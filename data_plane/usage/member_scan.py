"""Finds a few members of a JSON text that is too long to hold, in pieces of any size and within bounded memory.

Only real members count, at the places that are looked for. A text or a tool's input may hold the same words.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

# What is looked for: the value of a member is taken (True), or looked into. "[]" stands for each element of a list.
Places = Mapping[str, Any]

# The longest value that is taken.
_LONGEST_VALUE: Final = 64 * 1024
_LONGEST_NAME: Final = 64
_TOKEN: Final = re.compile(rb'[{}\[\],:"]')
_BRACKET: Final = re.compile(rb'[{}\[\]"]')
_INSIDE: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_QUOTE: Final = 0x22
_OPENING: Final = b"{["
_ELEMENT: Final = "[]"


class _Level:
    """An object or a list on the way to a place."""

    __slots__ = ("found", "is_name_next", "is_object", "name", "places")

    def __init__(self, places: Places, found: dict[str, Any], *, is_object: bool) -> None:
        self.places = places
        self.found = found
        self.is_object = is_object
        self.is_name_next = is_object
        self.name = "" if is_object else _ELEMENT


class MemberScan:
    """One JSON text. What stands before it does not matter; what comes behind it is passed over."""

    def __init__(self, places: Places) -> None:
        # What was found: the text's own members, without all others; a list has one element, of all that were found.
        self.found: dict[str, Any] = {}
        self._places = places
        self._levels: list[_Level] = []
        self._has_begun = self._has_ended = False
        # Brackets that are open in a value that is not looked into.
        self._depth = 0
        # The bytes of the value or name that is taken; None while none is.
        self._taken: bytearray | None = None
        self._is_in_text = self._is_name = self._is_escaped = False

    def feed(self, data: bytes) -> None:
        """Read the next piece."""
        place, end = 0, len(data)
        while place < end and not self._has_ended:
            if self._is_in_text:
                place = self._read_text(data, place)
            elif self._depth:
                place = self._pass_over(data, place)
            else:
                place = self._read_token(data, place)

    def _read_text(self, data: bytes, place: int) -> int:
        begin = place
        if self._is_escaped:
            self._is_escaped = False
            place += 1
        match = _INSIDE.match(data, place)
        stop = match.end() if match else place
        if stop == len(data):
            self._take(data[begin:stop])
            return stop
        if data[stop] != _QUOTE:
            # The piece ends within an escape.
            self._is_escaped = True
            self._take(data[begin:])
            return len(data)
        self._take(data[begin : stop + 1])
        self._is_in_text = False
        if not self._depth:
            self._end_text()
        return stop + 1

    def _end_text(self) -> None:
        taken, self._taken = self._taken, None
        if not self._levels:
            return
        level = self._levels[-1]
        if self._is_name:
            level.is_name_next = self._is_name = False
            found = _decoded(taken) if taken is not None and len(taken) <= _LONGEST_NAME else None
            level.name = found if isinstance(found, str) else ""
        elif taken is not None:
            level.found[level.name] = _decoded(taken)

    def _pass_over(self, data: bytes, place: int) -> int:
        match = _BRACKET.search(data, place)
        if match is None:
            self._take(data[place:])
            return len(data)
        self._take(data[place : match.end()])
        sign = match[0]
        if sign == b'"':
            self._is_in_text = True
        elif sign in _OPENING:
            self._depth += 1
        else:
            self._depth -= 1
            if not self._depth and self._taken is not None:
                level = self._levels[-1]
                level.found[level.name] = _decoded(self._taken)
                self._taken = None
        return match.end()

    def _read_token(self, data: bytes, place: int) -> int:
        match = _TOKEN.search(data, place)
        if match is None:
            return len(data)
        sign = match[0]
        level = self._levels[-1] if self._levels else None
        if sign in _OPENING:
            self._open(level, is_object=sign == b"{")
        elif sign == b'"':
            self._is_in_text = True
            self._is_name = level is not None and level.is_name_next
            is_wanted = self._is_name or (level is not None and level.places.get(level.name) is True)
            self._taken = bytearray(b'"') if is_wanted else None
        elif level is not None and sign == b",":
            level.is_name_next = level.is_object
        elif level is not None and sign in b"}]":
            self._levels.pop()
            self._has_ended = not self._levels
        return match.end()

    def _open(self, level: _Level | None, *, is_object: bool) -> None:
        if level is None:
            self._levels.append(_Level(self._places, self.found, is_object=is_object))
            return
        inner = level.places.get(level.name)
        if isinstance(inner, Mapping) and is_object is (_ELEMENT not in inner):
            found = level.found.setdefault(level.name, {} if is_object else [{}])
            self._levels.append(_Level(inner, found if is_object else {_ELEMENT: found[0]}, is_object=is_object))
            return
        self._depth = 1
        self._taken = bytearray(b"{" if is_object else b"[") if inner is True else None

    def _take(self, piece: bytes) -> None:
        if self._taken is None:
            return
        if len(self._taken) + len(piece) > _LONGEST_VALUE:
            self._taken = None
        else:
            self._taken += piece


def _decoded(text: bytes | bytearray | None) -> Any:
    try:
        return msgspec.json.decode(text or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
