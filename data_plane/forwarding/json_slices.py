"""What stands in a long JSON object or list, found a slice at a time, so that others get their turn between.

Each slice is completed to a JSON text of its own (`_BEFORE`, `_AFTER`) and read by the decoder that reads short texts:
what is well-formed here is well-formed there. No object is built from a value.

Source: RFC 8259; docs/decisions/0058-short-steps.md.
"""

import re
from collections.abc import Generator
from enum import Enum
from typing import Final, NamedTuple

import msgspec

# A shorter text is taken apart in one step.
LONG: Final = 256 * 1024
# Bytes of one step: half a millisecond of the costliest shapes. Where a part of the object or list begins or ends, a
# slice is taken apart token by token, so that it is as short as it has many of them.
_LONGEST_SLICE: Final = 16 * 1024
_MOST_TOKENS: Final = 512
_SIZES: Final = (_LONGEST_SLICE, 4096, 1024, 256)
_LONGEST_NAME: Final = 4096

_NOT_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_BLANK: Final = b" \t\r\n"
OBJECT: Final = ord("{")
LIST: Final = ord("[")
_ESCAPE: Final = ord("\\")
_QUOTE: Final = ord('"')
_COLON: Final = ord(":")
_COMMA: Final = ord(",")
_CLOSING: Final = {ord("}"): OBJECT, ord("]"): LIST}
_CLOSED_BY: Final = bytes.maketrans(b"{[", b"}]")
_WITHIN: Final = {OBJECT: b'{"":', LIST: b"["}
_RUNS: Final = re.compile(rb"([{\[]*)([}\]]*)")
# How often the innermost pairs are taken out of the brackets of a slice before those that are left are looked at.
_PASSES: Final = 3
# What a cut may not part: a number or a word; an escape, and a pair of them; the bytes of a character.
_IN_WORD: Final = bytes(set(range(256)) - set(b'{}[],:"' + _BLANK))
_ESCAPE_AT_END: Final = re.compile(rb"(?:\\u[dD][89abAB][0-9a-fA-F]{2})?(?:\\(?:u[0-9a-fA-F]{0,3})?)?\Z")
_LONGEST_ESCAPE: Final = 12
_CHARACTER_AT_END: Final = re.compile(rb"[\xc0-\xff][\x80-\xbf]{0,2}\Z")
# The tokens of a slice in which escaped quotes are masked. The last string may go on behind it.
_TOKEN: Final = re.compile(rb'"[^"]*+"?|[{}\[\],:]|[^\s"{}\[\],:]++')

_whole: Final = msgspec.json.Decoder(msgspec.Raw)
_name: Final = msgspec.json.Decoder(str)


class NotJson(Exception):
    """The text is not an object or a list in JSON, in UTF-8."""


class TooDeep(Exception):
    """Objects and lists stand within each other deeper than they may."""


class TooMany(Exception):
    """The object or list has more parts than it may."""


class NameTooLong(Exception):
    """An object's member has a name of more than 340 characters."""


class Part(NamedTuple):
    """A member of an object, or an element of a list."""

    # Empty for an element.
    name: str
    # Where its value begins and ends.
    begin: int
    end: int


class _State(Enum):
    """What stands before a place of a text, within the innermost object or list."""

    OPENED = 0
    NAME = 1
    COLON = 2
    VALUE = 3
    COMMA = 4
    IN_NAME = 5
    IN_VALUE = 6


# What makes a whole text of one that begins in a state, or ends in it, by the innermost bracket.
_BEFORE: Final = {
    (OBJECT, _State.OPENED): b"{",
    (OBJECT, _State.NAME): b'{""',
    (OBJECT, _State.COLON): b'{"":',
    (OBJECT, _State.VALUE): b'{"":"" ',
    (OBJECT, _State.COMMA): b'{"":"",',
    (OBJECT, _State.IN_NAME): b'{"',
    (OBJECT, _State.IN_VALUE): b'{"":"',
    (LIST, _State.OPENED): b"[",
    (LIST, _State.VALUE): b'["" ',
    (LIST, _State.COMMA): b'["",',
    (LIST, _State.IN_VALUE): b'["',
}
_AFTER: Final = {
    (OBJECT, _State.OPENED): b"",
    (OBJECT, _State.NAME): b':""',
    (OBJECT, _State.COLON): b'""',
    (OBJECT, _State.VALUE): b"",
    (OBJECT, _State.COMMA): b'"":""',
    (OBJECT, _State.IN_NAME): b'":""',
    (OBJECT, _State.IN_VALUE): b'"',
    (LIST, _State.OPENED): b"",
    (LIST, _State.VALUE): b"",
    (LIST, _State.COMMA): b'""',
    (LIST, _State.IN_VALUE): b'"',
}
_BEHIND: Final = {ord("{"): _State.OPENED, ord("["): _State.OPENED, _COMMA: _State.COMMA, _COLON: _State.COLON}
# What a string is, by what stands before it.
_STRINGS: Final = {
    (OBJECT, _State.OPENED): _State.IN_NAME,
    (OBJECT, _State.COMMA): _State.IN_NAME,
    (OBJECT, _State.COLON): _State.IN_VALUE,
    (LIST, _State.OPENED): _State.IN_VALUE,
    (LIST, _State.COMMA): _State.IN_VALUE,
}
_ENDED: Final = {_State.IN_NAME: _State.NAME, _State.IN_VALUE: _State.VALUE}


def parts_of(data: memoryview, kind: int, *, most: int, depth: int) -> Generator[None, None, list[Part]]:
    """The parts of an object or a list, in order. Yields after each slice.

    Args:
        data: the JSON text.
        kind: `OBJECT` or `LIST`.
        most: how many parts it may have; a name that is given twice counts twice.
        depth: how deep it may be; an object of plain values is one deep.

    Raises:
        NotJson, TooDeep, TooMany, NameTooLong: as they say.
    """
    place = 0
    while not (head := bytes(data[place : place + _LONGEST_SLICE]).lstrip(_BLANK)):
        if place >= len(data):
            raise NotJson
        place += _LONGEST_SLICE
        yield
    place = min(place + _LONGEST_SLICE, len(data)) - len(head)
    if head[0] != kind:
        raise NotJson
    scan = _Scan(data, place, most=most, depth=depth)
    while scan.stack:
        scan.step()
        yield
    for rest in range(scan.place, len(data), _LONGEST_SLICE):
        if bytes(data[rest : rest + _LONGEST_SLICE]).strip(_BLANK):
            raise NotJson
        yield
    return scan.parts


class _Slice(NamedTuple):
    """A piece of a text that parts no token but a string."""

    piece: bytes
    # The same with its escaped quotes masked, what stands between its quotes, and what stands outside of strings.
    masked: bytes
    between: list[bytes]
    outside: bytes


class _Brackets(NamedTuple):
    """What the brackets of a slice do."""

    # Those that are open at its end.
    stack: bytes
    # How many are open at least, and at most. The second may be too many by a few.
    lowest: int
    deepest: int


class _Scan:
    """How far an object or a list is read."""

    def __init__(self, data: memoryview, begin: int, *, most: int, depth: int) -> None:
        self.parts: list[Part] = []
        self.place = begin + 1
        # The brackets that are open.
        self.stack = bytes(data[begin : self.place])
        self._data = data
        self._most = most
        self._depth = depth
        self._state = _State.OPENED
        # Of the present part, as far as it is known: where its name or value begins, its name, where its value is.
        self._is_list = self.stack[0] == LIST
        self._awaits_value = self._is_list
        self._begin = 0
        self._name = ""
        self._value: tuple[int, int] | None = None

    def step(self) -> None:
        """Read one slice."""
        cut = brackets = None
        for size in _SIZES:
            shorter = self._cut(size)
            if not shorter.piece:
                # A number that is longer than this.
                break
            cut, brackets = shorter, self._brackets(shorter.outside)
            if not self._is_at_top(cut, brackets) or len(cut.outside) + len(cut.between) < _MOST_TOKENS:
                break
        if cut is None or brackets is None:
            raise NotJson
        state = self._state_behind(cut.between, brackets.stack)
        self._check(cut.piece, brackets.stack, state)
        if brackets.deepest > self._depth:
            self._check_depth(cut.outside)
        if self._is_at_top(cut, brackets):
            self._note(cut.masked)
        self.stack, self._state = brackets.stack, state
        self.place += len(cut.piece)

    @property
    def _is_inside(self) -> bool:
        """Whether the place is within a string."""
        return self._state in _ENDED

    def _cut(self, size: int) -> _Slice:
        piece = bytes(self._data[self.place : self.place + size])
        masked = _masked(piece)
        if self.place + size < len(self._data):
            is_inside = (masked.count(_QUOTE) % 2 == 1) is not self._is_inside
            length = len(piece) - _unfinished(piece, masked, is_inside=is_inside)
            piece, masked = piece[:length], masked[:length]
        between = masked.split(b'"')
        return _Slice(piece, masked, between, b"".join(between[self._is_inside :: 2]))

    def _is_at_top(self, cut: _Slice, brackets: _Brackets) -> bool:
        """Whether a part may begin or end within a slice."""
        return brackets.lowest <= 1 and (len(cut.between) > 1 or bool(cut.outside.strip(_BLANK)))

    def _brackets(self, outside: bytes) -> _Brackets:
        """What the brackets of a slice do.

        Args:
            outside: what of the slice stands outside of strings.
        """
        left = outside.translate(None, _NOT_BRACKETS)
        for _ in range(_PASSES):
            left = left.replace(b"[]", b"").replace(b"{}", b"")
        stack = bytearray(self.stack)
        lowest = deepest = len(stack)
        for opened, closed in _RUNS.findall(left):
            if opened and not stack:
                raise NotJson
            stack += opened
            deepest = max(deepest, len(stack))
            if closed:
                if stack[-len(closed) :][::-1].translate(_CLOSED_BY) != closed:
                    raise NotJson
                del stack[-len(closed) :]
                lowest = min(lowest, len(stack))
        return _Brackets(bytes(stack), lowest, deepest + 2 * _PASSES)

    def _state_behind(self, between: list[bytes], stack: bytes) -> _State:
        """The state at the end of a slice.

        Args:
            between: of the slice.
            stack: the brackets that are open there.
        """
        if (len(between) % 2 == 0) is not self._is_inside:
            return self._state if len(between) == 1 else self._string_behind(between[:-1], stack)
        text = between[-1].strip(_BLANK)
        if text:
            return _BEHIND.get(text[-1], _State.VALUE)
        if len(between) == 1:
            return self._state
        return _ENDED[self._string_behind(between[:-2], stack)]

    def _string_behind(self, between: list[bytes], stack: bytes) -> _State:
        """Whether a string is a name or a value, by what stands before it in the slice."""
        if not between:
            return self._state
        text = between[-1].strip(_BLANK)
        if text:
            before = _BEHIND.get(text[-1], _State.VALUE)
        elif len(between) == 1:
            before = self._state
        else:
            raise NotJson
        kind = _STRINGS.get((stack[-1] if stack else 0, before))
        if kind is None:
            raise NotJson
        return kind

    def _check(self, piece: bytes, stack: bytes, state: _State) -> None:
        """Have the decoder read a slice.

        Args:
            piece: the slice.
            stack: the brackets that are open at its end.
            state: at its end.
        """
        before = _BEFORE[self.stack[-1], self._state]
        after = _AFTER.get((stack[-1], state)) if stack else b""
        if after is None:
            raise NotJson
        within = b"".join([_WITHIN[bracket] for bracket in self.stack[:-1]])
        try:
            if not piece.isascii():
                piece.decode("utf-8")
            _whole.decode(b"%b%b%b%b%b" % (within, before, piece, after, stack[::-1].translate(_CLOSED_BY)))
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NotJson from None
        except RecursionError:
            raise TooDeep from None

    def _check_depth(self, outside: bytes) -> None:
        """Refuse a slice that goes too deep.

        Args:
            outside: what of the slice stands outside of strings.
        """
        depth = len(self.stack)
        for opened, closed in _RUNS.findall(outside.translate(None, _NOT_BRACKETS)):
            depth += len(opened)
            if depth > self._depth:
                raise TooDeep
            depth -= len(closed)

    def _note(self, masked: bytes) -> None:
        """Find the parts that begin or end in a slice, which is well-formed."""
        depth, behind = len(self.stack), 0
        if self._is_inside:
            behind = masked.find(_QUOTE) + 1
            if depth == 1:
                self._end_token(self.place + behind)
        for found in _TOKEN.finditer(masked, behind):
            first, last = masked[found.start()], masked[found.end() - 1]
            end = self.place + found.end()
            if first in _CLOSING:
                depth -= 1
                if depth == 1:
                    self._end_token(end)
                elif not depth:
                    self._end_part()
            elif depth > 1:
                depth += first in _WITHIN
            elif first == _COMMA:
                self._end_part()
            elif first == _COLON:
                self._awaits_value = True
            else:
                self._begin = self.place + found.start()
                if first in _WITHIN:
                    depth += 1
                elif first != _QUOTE or (last == _QUOTE and len(found[0]) > 1):
                    self._end_token(end)

    def _end_token(self, end: int) -> None:
        """A name, or a value, of the object or list itself ends here."""
        if self._awaits_value:
            self._value = self._begin, end
        elif end - self._begin > _LONGEST_NAME:
            raise NameTooLong
        else:
            self._name = _name.decode(self._data[self._begin : end])

    def _end_part(self) -> None:
        if self._value is None:
            # An empty object or list ends.
            return
        if len(self.parts) == self._most:
            raise TooMany
        self.parts.append(Part(self._name, *self._value))
        self._name, self._value = "", None
        self._awaits_value = self._is_list


def _unfinished(piece: bytes, masked: bytes, *, is_inside: bool) -> int:
    """Bytes at a slice's end that belong to what comes behind it.

    Args:
        piece, masked: the slice.
        is_inside: whether it ends within a string.
    """
    if not is_inside:
        return len(masked) - len(masked.rstrip(_IN_WORD))
    found = _ESCAPE_AT_END.search(masked[-_LONGEST_ESCAPE:])
    if found is None or not found[0]:
        found = _CHARACTER_AT_END.search(piece[-3:])
    return len(found[0]) if found else 0


def _masked(piece: bytes) -> bytes:
    """A piece in which no quote is escaped, of the same length."""
    return piece.replace(rb"\\", b"__").replace(rb"\"", b"__") if _ESCAPE in piece else piece
