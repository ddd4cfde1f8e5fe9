"""An upstream's answer as everything behind this reads it: not compressed, and without the secret that was shown.

It stands directly behind the connection. So neither the caller nor a usage event gets what an upstream repeats, in a
header or anywhere in a body, held or streamed, of any status.

Source: docs/decisions/0083-what-passes.md.
"""

import asyncio
import zlib
from collections.abc import Callable
from itertools import chain
from typing import Final

import aiohttp

from data_plane.errors import CodingBroken
from data_plane.forwarding.answers import Answer, Content
from data_plane.forwarding.codings import FAULTS, Brotli, Decoder, Zstd
from data_plane.forwarding.headers import Headers
from data_plane.forwarding.secrets_filter import Secret, secret_of

# As much is searched, and then decoded, before others get their turn.
_SLICE: Final = 16 * 1024
_DECODED_PIECE: Final = 64 * 1024
_DECODERS: Final = {"gzip": zlib.MAX_WBITS | 16, "x-gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
_NEWER_DECODERS: Final[dict[str, Callable[[], Decoder]]] = {"br": Brotli, "zstd": Zstd}
_OF_THE_ENCODED: Final = frozenset({b"content-encoding", b"content-length"})
_ZLIB: Final = 8


class EncodingNotAsked(aiohttp.ClientError):
    """The answer has an encoding that was not asked for and is not known."""


class EncodingBroken(aiohttp.ClientError):
    """The answer is not in the encoding that it names, or ends within it."""


def guard(answer: Answer, value: str, mask: str | None) -> None:
    """Make an answer decode itself, and lose the secret of its attempt.

    Args:
        answer: nothing of its body was read.
        value: the secret that was shown, "" for none.
        mask: what stands in its place; None for a key of the operator's.

    Raises:
        EncodingNotAsked: it cannot be decoded.
    """
    encoding = answer.header(b"content-encoding").strip().lower().decode("latin-1")
    if encoding and encoding != "identity":
        if encoding in _DECODERS:
            answer.content = _Decoded(answer.content, encoding)
        elif encoding in _NEWER_DECODERS:
            answer.content = _DecodedOnce(answer.content, _NEWER_DECODERS[encoding]())
        else:
            raise EncodingNotAsked
        answer.headers = [one for one in answer.headers if one[0] not in _OF_THE_ENCODED]
        answer.content_length = None
        # Where it ends is written in the encoding.
        answer.is_chunked = True
    secret = secret_of(value, mask)
    if secret is not None:
        answer.content = _Guarded(answer.content, secret)
        answer.headers = _without(secret, answer.headers)


def _without(secret: Secret, headers: Headers) -> Headers:
    # All headers are searched together, because nearly no answer has a secret in them.
    head = b"\n".join(chain.from_iterable(headers))
    if secret.folded not in head and not secret.is_suspected_in(head):
        return headers
    return [(name, _at_once(secret, value)) for name, value in headers if secret.folded not in name]


def _at_once(secret: Secret, value: bytes) -> bytes:
    """A header's value without the secret. It is bounded, so nobody waits."""
    hiding = secret.hidden_in(value)
    while True:
        try:
            next(hiding)
        except StopIteration as done:
            hidden: bytes = done.value
            return hidden


class _Guarded:
    """A body without a secret. What may begin an occurrence waits for what comes next."""

    __slots__ = ("_content", "_held", "_secret")

    def __init__(self, content: Content, secret: Secret) -> None:
        self._content = content
        self._secret = secret
        self._held = b""

    async def readany(self) -> bytes:
        while True:
            chunk = await self._content.readany()
            is_last = self._content.at_eof()
            data = self._held + chunk if self._held else chunk
            if not self._secret.is_suspected_in(data):
                whole = self._passed(data, is_last=is_last)
            else:
                whole = await self._searched(chunk, is_last=is_last)
            if whole or is_last:
                return whole

    def _passed(self, data: bytes, *, is_last: bool) -> bytes:
        """What of the data may go on; the rest is held."""
        kept = 0 if is_last else self._secret.unfinished_in(data)
        self._held = data[len(data) - kept :] if kept else b""
        return data[:-kept] if kept else data

    async def _searched(self, chunk: bytes, *, is_last: bool) -> bytes:
        """The same for what is held and the chunk behind it, in slices that are searched one by one."""
        passed = []
        for start in range(0, max(1, len(chunk)), _SLICE):
            data = await self._hidden_in(self._held + chunk[start : start + _SLICE])
            is_end = start + _SLICE >= len(chunk)
            passed.append(self._passed(data, is_last=is_last and is_end))
            if not is_end:
                await asyncio.sleep(0)
        return b"".join(passed)

    def at_eof(self) -> bool:
        return not self._held and self._content.at_eof()

    async def _hidden_in(self, data: bytes) -> bytes:
        hiding = self._secret.hidden_in(data)
        while True:
            try:
                next(hiding)
            except StopIteration as done:
                whole: bytes = done.value
                return whole
            await asyncio.sleep(0)


class _Decoded:
    """A body that an upstream compressed though it was asked not to, in pieces of a bounded size."""

    __slots__ = ("_content", "_decoder", "_encoding", "_is_full", "_rest")

    def __init__(self, content: Content, encoding: str) -> None:
        self._content = content
        self._encoding = encoding
        # None before the first byte, and between the parts of an answer that has several.
        self._decoder: zlib._Decompress | None = None
        self._rest = b""
        # Whether the decoder may hold more than the last piece had room for.
        self._is_full = False

    async def readany(self) -> bytes:
        while True:
            if not self._rest and not self._is_full:
                self._rest = await self._content.readany()
                if not self._rest:
                    if self._decoder is not None:
                        raise EncodingBroken
                    return b""
            if piece := self._piece():
                return piece
            await asyncio.sleep(0)

    def at_eof(self) -> bool:
        return not self._rest and self._decoder is None and self._content.at_eof()

    def _piece(self) -> bytes:
        if self._decoder is None:
            bits = _DECODERS[self._encoding]
            if self._encoding == "deflate" and self._rest[0] & 0x0F != _ZLIB:
                # Some servers leave zlib's frame away.
                bits = -bits
            self._decoder = zlib.decompressobj(bits)
        try:
            piece = self._decoder.decompress(self._rest, _DECODED_PIECE)
        except zlib.error:
            raise EncodingBroken from None
        self._is_full = len(piece) == _DECODED_PIECE and not self._decoder.eof
        if self._decoder.eof:
            self._rest, self._decoder = self._decoder.unused_data, None
        else:
            self._rest = self._decoder.unconsumed_tail
        return piece


class _DecodedOnce:
    """A body in an encoding that has one part, in pieces of a bounded size."""

    __slots__ = ("_content", "_decoder", "_has_begun")

    def __init__(self, content: Content, decoder: Decoder) -> None:
        self._content = content
        self._decoder = decoder
        self._has_begun = False

    async def readany(self) -> bytes:
        decoder = self._decoder
        while True:
            piece = b""
            if not decoder.is_full or decoder.has_ended:
                piece = await self._content.readany()
                if not piece:
                    if self._has_begun and not decoder.has_ended:
                        raise EncodingBroken
                    return b""
                if decoder.has_ended:
                    raise EncodingBroken
                self._has_begun = True
            try:
                made = decoder.decode(piece)
            except (CodingBroken, *FAULTS):
                raise EncodingBroken from None
            if made:
                return made
            await asyncio.sleep(0)

    def at_eof(self) -> bool:
        return self._content.at_eof() and (self._decoder.has_ended or not self._has_begun)
