"""Request bodies that come compressed: decoded a little at a time, up to the same length as any other body.

Source: RFC 9110, sections 8.4 and 15.5.16; docs/decisions/0088-requests-as-callers-send-them.md.
"""

import asyncio
import zlib
from collections.abc import Iterable
from typing import Any, Final

from data_plane.errors import BodyTooLarge, CodingBroken, CodingNotTaken
from data_plane.forwarding.bodies import BODY_LIMIT
from data_plane.forwarding.budget import Share

# How zlib is told what comes: a gzip header, or one of its own.
_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_CODINGS: Final = {b"gzip": _GZIP, b"x-gzip": _GZIP, b"deflate": _ZLIB}
_TAKEN: Final = ((b"accept-encoding", b"gzip, deflate"),)
# A step of it takes about a millisecond.
_READ_AT_ONCE: Final = 64 * 1024
_MADE_AT_ONCE: Final = 512 * 1024
# The low half of a zlib header's first byte says "deflate", and its two bytes are a multiple of 31.
_DEFLATE: Final = 8
_CHECK: Final = 31


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


async def decoded(raw: bytes, coding: bytes, share: Share) -> bytes:
    """A body as it was before it was compressed.

    Args:
        raw: as it came.
        coding: of `coding_of`.
        share: holds the bytes that are made.

    Raises:
        CodingBroken: it is not in this coding, is cut off, or has something behind it.
        BodyTooLarge: it is over the limit.
        BodiesInFlight, WorkerFull: as `Share.hold`.
    """
    decoder: Any = zlib.decompressobj(_window(raw, coding))
    pieces: list[bytes] = []
    length = 0
    try:
        for start in range(0, len(raw), _READ_AT_ONCE):
            waiting: bytes = raw[start : start + _READ_AT_ONCE]
            # What was made may be full while more of what was read waits within the decoder.
            while waiting or (pieces and len(pieces[-1]) == _MADE_AT_ONCE):
                piece = decoder.decompress(waiting, _MADE_AT_ONCE)
                waiting = decoder.unconsumed_tail
                length += len(piece)
                if length > BODY_LIMIT:
                    raise BodyTooLarge
                share.hold(len(piece))
                pieces.append(piece)
                await asyncio.sleep(0)
                if decoder.eof:
                    break
            if decoder.eof:
                if decoder.unused_data or start + _READ_AT_ONCE < len(raw):
                    raise CodingBroken
                return b"".join(pieces)
    except zlib.error:
        raise CodingBroken from None
    raise CodingBroken


def _window(raw: bytes, coding: bytes) -> int:
    window = _CODINGS[coding]
    if window == _ZLIB and len(raw) > 1 and (raw[0] & 0x0F != _DEFLATE or int.from_bytes(raw[:2]) % _CHECK):
        # Some clients leave out zlib's header.
        return -zlib.MAX_WBITS
    return window
