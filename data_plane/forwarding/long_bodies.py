"""Long bodies: kept in memory of their own, taken apart in short steps, and sent on without a copy.

Source: docs/decisions/0058-short-steps.md.
"""

import mmap
from collections.abc import Generator, Mapping
from typing import Final

import msgspec

from data_plane.errors import BodyInvalid, BodyTooDeep, MemberInvalid, TooManyMembers
from data_plane.forwarding.json_slices import OBJECT, NameTooLong, NotJson, TooDeep, TooMany, parts_of
from data_plane.settings import RequestLimits

# A shorter value is copied behind its name when a body is sent.
_SHORT_VALUE: Final = 4096

_encode: Final = msgspec.json.Encoder().encode

Members = dict[str, msgspec.Raw]


class Room:
    """Memory for one body. It goes back to the system with the last view of it, and nothing is ever moved in it."""

    def __init__(self, most: int) -> None:
        """
        Args:
            most: bytes that it may hold. Only those that are written take memory.
        """
        self._memory = mmap.mmap(-1, most, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._length = 0

    def write(self, piece: bytes) -> None:
        """Add the next piece."""
        end = self._length + len(piece)
        self._memory[self._length : end] = piece
        self._length = end

    def written(self) -> memoryview:
        """What was written."""
        return memoryview(self._memory)[: self._length]


def members_in_steps(raw: memoryview, limits: RequestLimits) -> Generator[None, None, Members]:
    """The members of a long body, as they would be found in a short one. Yields after each step.

    Raises:
        BodyInvalid, BodyTooDeep, TooManyMembers, MemberInvalid: as they say. A name that is given twice counts twice.
    """
    try:
        parts = yield from parts_of(raw, OBJECT, most=limits.members, depth=limits.depth)
    except NotJson:
        raise BodyInvalid from None
    except TooDeep:
        raise BodyTooDeep(f"The body is more than {limits.depth} objects and lists deep.") from None
    except TooMany:
        raise TooManyMembers(f"The body has more than {limits.members} members.") from None
    except NameTooLong:
        raise MemberInvalid("A member's name is too long.") from None
    return {part.name: msgspec.Raw(raw[part.begin : part.end]) for part in parts}


def pieces_of(members: Mapping[str, msgspec.Raw], model: str) -> list[bytes | memoryview]:
    """A body in pieces, of which the long ones are not copied.

    Args:
        members: its members.
        model: the value of `model`, which is not among them.
    """
    pieces: list[bytes | memoryview] = []
    begun = bytearray(b'{"model":' + _encode(model))
    for name, value in members.items():
        begun += b"," + _encode(name) + b":"
        written = memoryview(value)
        if len(written) < _SHORT_VALUE:
            begun += written
        else:
            pieces += (bytes(begun), written)
            begun = bytearray()
    return [*pieces, bytes(begun + b"}")]
