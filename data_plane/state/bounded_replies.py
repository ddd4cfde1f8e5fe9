"""Replies of Redis in bounded memory, whatever somebody has put there.

A value that is larger than a worker would ever accept is read past in small pieces, and `TOO_LARGE` stands in its
place. So one huge entry neither fills the worker's memory nor ends its connection, and is refused like any other
document that does not verify.

Source: docs/decisions/0013-errors-of-redis.md.
"""

from asyncio import IncompleteReadError
from typing import Any, Final

from redis._parsers import _AsyncRESP2Parser
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway_core.snapshot import MAX_DOCUMENT_BYTES

# Stands for a value that was not read. No document begins like it.
TOO_LARGE: Final = b"too large"
# An envelope adds a header to a document.
_LARGEST_VALUE: Final = MAX_DOCUMENT_BYTES + 1024
# The values of one reply. An account at its quotas is smaller, and so are 100 changes.
_LARGEST_REPLY: Final = 64 * 1024 * 1024
_PIECE: Final = 64 * 1024
_LINE_END: Final = 2


class BoundedParser(_AsyncRESP2Parser):
    """The parser of redis-py, with a bound on each value and on all values of a reply."""

    def __init__(self, socket_read_size: int) -> None:
        super().__init__(socket_read_size)
        self._taken = 0

    async def read_response(self, *arguments: Any, **options: Any) -> Any:
        """One reply."""
        self._taken = 0
        return await super().read_response(*arguments, **options)

    async def _read(self, length: int) -> bytes:
        self._taken += length
        if length <= _LARGEST_VALUE and self._taken <= _LARGEST_REPLY:
            return await super()._read(length)
        self._taken -= length
        await self._pass_over(length)
        return TOO_LARGE

    async def _pass_over(self, length: int) -> None:
        # What was read from the stream meanwhile counts in the position, but is not in the buffer.
        buffered = max(len(self._buffer) - self._pos, 0)
        left = max(length + _LINE_END - buffered, 0)
        self._pos += length + _LINE_END
        assert self._stream is not None  # noqa: S101 -- a reply is being read from it
        while left:
            try:
                piece = await self._stream.readexactly(min(left, _PIECE))
            except IncompleteReadError as fault:
                raise RedisConnectionError("Redis ended the connection within a reply.") from fault
            left -= len(piece)
