"""Request bodies that come compressed: decoded a little at a time, up to the same length as any other body.

Source: RFC 9110, sections 8.4 and 15.5.16; docs/decisions/0088-requests-as-callers-send-them.md.
"""

import sys
import zlib
from collections.abc import Callable, Generator, Iterable
from typing import Any, Final, Protocol

import brotli

from data_plane.errors import BodyTooLarge, CodingBroken, CodingNotTaken
from data_plane.forwarding.bodies import BODY_LIMIT, Buffer
from data_plane.forwarding.budget import Share
from data_plane.forwarding.json_slices import LONG
from data_plane.forwarding.long_bodies import Room

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# A step takes about a millisecond.
_READ_AT_ONCE: Final = 64 * 1024
_MADE_AT_ONCE: Final = 512 * 1024
# zlib's argument for data with a gzip header; without the 16 it is for data with zlib's own header.
_GZIP: Final = 16 + zlib.MAX_WBITS
# The low half of a zlib header's first byte says "deflate", and its two bytes are a multiple of 31.
_DEFLATE: Final = 8
_CHECK: Final = 31
# RFC 9659: a receiver does not have to accept a window over 8 MiB.
_ZSTD_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
FAULTS: Final = (zlib.error, zstd.ZstdError, brotli.error)


class Decoder(Protocol):
    """A coding, read a little at a time."""

    has_ended: bool
    # Whether more can be made of what was read.
    is_full: bool

    def decode(self, piece: bytes) -> bytes:
        """About `_MADE_AT_ONCE` bytes of what the piece, or those before it, hold.

        Raises:
            CodingBroken, or one of `FAULTS`: it is not in this coding, or something is behind its end.
        """


class _Zlib:
    """gzip and deflate."""

    def __init__(self, raw: bytes, window: int = zlib.MAX_WBITS) -> None:
        if (
            window == zlib.MAX_WBITS
            and len(raw) > 1
            and (raw[0] & 0x0F != _DEFLATE or int.from_bytes(raw[:2]) % _CHECK)
        ):
            # Some clients leave out zlib's header.
            window = -zlib.MAX_WBITS
        self._decoder: Any = zlib.decompressobj(window)
        self._waiting = b""
        self.has_ended = self.is_full = False

    def decode(self, piece: bytes) -> bytes:
        made: bytes = self._decoder.decompress(piece or self._waiting, _MADE_AT_ONCE)
        self._waiting = self._decoder.unconsumed_tail
        if self._decoder.unused_data:
            raise CodingBroken
        self.has_ended = self._decoder.eof
        self.is_full = bool(self._waiting) or len(made) == _MADE_AT_ONCE
        return made


class _Gzip(_Zlib):
    def __init__(self, raw: bytes) -> None:
        super().__init__(raw, _GZIP)


class Brotli:
    """br."""

    def __init__(self, _raw: bytes = b"") -> None:
        self._decoder: Any = brotli.Decompressor()
        self.has_ended = self.is_full = False

    def decode(self, piece: bytes) -> bytes:
        # brotli raises an error by itself for data after the end. It makes up to twice as much as it is asked for.
        made: bytes = self._decoder.process(piece, output_buffer_limit=_MADE_AT_ONCE // 2)
        self.has_ended = self._decoder.is_finished()
        # It takes more while it still keeps back what it made.
        self.is_full = bool(made) or not self._decoder.can_accept_more_data()
        return made


class Zstd:
    """zstd."""

    def __init__(self, _raw: bytes = b"") -> None:
        self._decoder = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
        self.has_ended = self.is_full = False

    def decode(self, piece: bytes) -> bytes:
        made = self._decoder.decompress(piece, _MADE_AT_ONCE)
        self.has_ended = self._decoder.eof
        self.is_full = not self._decoder.needs_input
        if self._decoder.unused_data:
            raise CodingBroken
        return made


_CODINGS: Final[dict[bytes, Callable[[bytes], Decoder]]] = {
    b"gzip": _Gzip,
    b"x-gzip": _Gzip,
    b"deflate": _Zlib,
    b"br": Brotli,
    b"zstd": Zstd,
}
_TAKEN: Final = ((b"accept-encoding", b"gzip, deflate, br, zstd"),)


def coding_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The coding that a body came in, empty for none.

    Raises:
        CodingNotTaken: it is another one, or there are several.
    """
    for name, value in headers:
        if name == b"content-encoding":
            codings = [one for part in value.split(b",") if (one := part.strip().lower()) not in {b"", b"identity"}]
            if not codings:
                continue
            if len(codings) > 1 or codings[0] not in _CODINGS:
                raise CodingNotTaken(headers=_TAKEN)
            return codings[0]
    return b""


def decode(raw: Buffer, coding: bytes, share: Share) -> Generator[None, None, Buffer]:
    """A body as it was before it was compressed. Yields after each step.

    Args:
        raw: as it came.
        coding: of `coding_of`.
        share: holds the bytes that are made.

    Raises:
        CodingBroken: it is not in this coding, is cut off, or has something behind it.
        BodyTooLarge: it is over the limit.
        BodiesInFlight, WorkerFull: as `Share.hold`.
    """
    decoder = _CODINGS[coding](bytes(raw[:2]))
    room, length = Room(BODY_LIMIT), 0
    try:
        for start in range(0, len(raw), _READ_AT_ONCE):
            if decoder.has_ended:
                raise CodingBroken
            piece = bytes(raw[start : start + _READ_AT_ONCE])
            while piece or (decoder.is_full and not decoder.has_ended):
                made = decoder.decode(piece)
                piece = b""
                length += len(made)
                if length > BODY_LIMIT:
                    raise BodyTooLarge
                share.hold(len(made))
                room.write(made)
                yield
    except FAULTS:
        raise CodingBroken from None
    if not decoder.has_ended:
        raise CodingBroken
    return room.written() if length > LONG else bytes(room.written())
