"""The beginning of an upstream's answer: what is read before anything goes to the caller."""

import asyncio
from typing import Final, NamedTuple

import aiohttp

from data_plane.forwarding.outcomes import AttemptFailed, AttemptOutcome, outcome_of
from data_plane.forwarding.sse import EventStream
from data_plane.forwarding.upstream import Answer
from gateway_core.catalog import Surface

_HELD_BYTES: Final = 1024 * 1024
_DISCARDED_BYTES: Final = 64 * 1024
_DISCARD_SECONDS: Final = 0.25


class Begun(NamedTuple):
    """An answer whose beginning is here."""

    response: Answer
    first: bytes
    # None where the whole answer is in `first`, or where it is no stream of events.
    events: EventStream | None
    is_whole: bool
    is_event_stream: bool = False


async def beginning_of(response: Answer, surface: Surface) -> Begun:
    """The first whole event of a stream; all of any other answer, if it is not too large to hold.

    Raises:
        AttemptFailed: the answer ended without an event.
    """
    content = response.content
    if response.is_event_stream and outcome_of(response.status) is AttemptOutcome.ANSWERED:
        events = EventStream(surface)
        first = b""
        while not first:
            chunk = await content.readany()
            if not chunk:
                first = events.rest()
                if not first:
                    raise AttemptFailed("empty_answer")
                return Begun(response, first, None, is_whole=True, is_event_stream=True)
            first = events.feed(chunk)
        return Begun(response, first, events, is_whole=False, is_event_stream=True)
    pieces: list[bytes] = []
    length = 0
    while not content.at_eof():
        chunk = await content.readany()
        pieces.append(chunk)
        length += len(chunk)
        if length > _HELD_BYTES:
            return Begun(response, b"".join(pieces), None, is_whole=False)
    return Begun(response, pieces[0] if len(pieces) == 1 else b"".join(pieces), None, is_whole=True)


async def discard(response: Answer) -> None:
    """Read a short answer to its end, so that its connection serves again; a long one is not worth it."""
    length = response.content_length
    if length is None or length > _DISCARDED_BYTES:
        return
    try:
        async with asyncio.timeout(_DISCARD_SECONDS):
            while await response.content.readany():
                pass
    except (aiohttp.ClientError, OSError):
        return


def close(response: Answer) -> None:
    """Give the connection back if the answer was read to its end; else cut it, so that the upstream stops."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()
