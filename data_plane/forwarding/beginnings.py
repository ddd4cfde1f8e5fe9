"""The beginning of an upstream's answer: what is read before anything goes to the caller.

A stream begins with its first content. What comes before (comments, empty lines, the events by which an upstream says
that there will be an answer) is held back, in order, and goes out with it: until then another attempt may answer.

Source: docs/decisions/0085-failures-in-disguise.md.
"""

import asyncio
from typing import Final, NamedTuple

import aiohttp

from data_plane.forwarding.answers import Answer
from data_plane.forwarding.call import Running
from data_plane.forwarding.contents import Sight, failure_in, is_stream_of_events, see
from data_plane.forwarding.outcomes import AttemptOutcome, outcome_of
from data_plane.forwarding.sse import EventStream
from gateway_core.dialects.error_texts import ErrorText

_HELD_BYTES: Final = 1024 * 1024
# Signs of life are held back no longer than this. Proxies before the gateway give up on an answer without a head.
_HELD_SECONDS: Final = 30.0
_ERROR_BYTES: Final = 64 * 1024
_ERROR_SECONDS: Final = 0.5
_JSON: Final = b"application/json"
_EMPTY: Final = ErrorText(message="The stream ended without an answer.")


class NotAnAnswer(Exception):
    """What came under a good status is no answer."""

    def __init__(self, error: ErrorText) -> None:
        super().__init__()
        self.error = error


class Begun(NamedTuple):
    """An answer whose beginning is here."""

    response: Answer
    first: bytes
    # None where the whole answer is in `first`, or where it is no stream of events.
    events: EventStream | None
    is_whole: bool
    is_event_stream: bool = False


async def beginning_of(response: Answer, running: Running) -> Begun:
    """The first content of a stream, with what came before it; all of any other answer, if it is not too large to hold.

    Raises:
        NotAnAnswer: it is an error under a good status, or there is nothing in it.
    """
    if outcome_of(response.status) is not AttemptOutcome.ANSWERED:
        return await _whole(response, running, b"")
    if running.call.passing is not None:
        return await _passing(response, running)
    first = b""
    if not response.is_event_stream:
        if running.call.body.is_streaming:
            first = await _not_blank(response, running)
        if not first or not is_stream_of_events(first):
            begun = await _whole(response, running, first)
            if begun.is_whole and (error := failure_in(begun.first, running.call.surface)) is not None:
                raise NotAnAnswer(error)
            return begun
    return await _stream(response, running, first)


async def _passing(response: Answer, running: Running) -> Begun:
    """Of a call beside the surfaces: all of an answer in JSON, else what comes first."""
    if response.header(b"content-type").partition(b";")[0].strip().lower() == _JSON:
        return await _whole(response, running, b"")
    first = await response.content.readany()
    return Begun(response, first, None, is_whole=response.content.at_eof())


async def _not_blank(response: Answer, running: Running) -> bytes:
    """The first chunk that is not empty lines alone, with those before it."""
    first = b""
    while len(first) < _ERROR_BYTES and (chunk := await response.content.readany()):
        first += chunk
        if chunk.strip():
            break
        running.limit.move(running.bound)
    return first


async def _stream(response: Answer, running: Running, chunk: bytes) -> Begun:
    content, surface, clock = response.content, running.call.surface, running.clock
    events = EventStream(surface)
    held: list[bytes] = []
    size = 0
    due = clock() + _HELD_SECONDS
    chunk = chunk or await content.readany()
    while True:
        whole = events.feed(chunk) if chunk else events.rest()
        if whole:
            held.append(whole)
            size += len(whole)
            seen = see(whole, surface)
            if seen.sight is Sight.FAILURE:
                raise NotAnAnswer(seen.error)
            if seen.sight is Sight.END:
                raise NotAnAnswer(_EMPTY)
            if seen.sight is Sight.CONTENT or size > _HELD_BYTES or clock() > due:
                first = held[0] if len(held) == 1 else b"".join(held)
                return Begun(response, first, events if chunk else None, is_whole=not chunk, is_event_stream=True)
        if not chunk:
            raise NotAnAnswer(_EMPTY)
        # Whoever sends signs of life is not timed out between them.
        running.limit.move(running.bound)
        chunk = await content.readany()


async def _whole(response: Answer, running: Running, first: bytes) -> Begun:
    content = response.content
    pieces = [first] if first else []
    length = len(first)
    is_blank = not first.strip()
    while not content.at_eof():
        chunk = await content.readany()
        pieces.append(chunk)
        length += len(chunk)
        if length > _HELD_BYTES:
            return Begun(response, b"".join(pieces), None, is_whole=False)
        if is_blank and (is_blank := not chunk.strip()):
            # Some upstreams send empty lines until the answer is there.
            running.limit.move(running.bound)
    return Begun(response, pieces[0] if len(pieces) == 1 else b"".join(pieces), None, is_whole=True)


async def error_body(response: Answer) -> bytes:
    """The beginning of a failure's body: what comes soon, up to a bound.

    A short body is read to its end, so that its connection can serve again.
    """
    pieces: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(_ERROR_SECONDS):
            while length < _ERROR_BYTES and (chunk := await response.content.readany()):
                pieces.append(chunk)
                length += len(chunk)
    except (aiohttp.ClientError, OSError):
        pass
    return b"".join(pieces)[:_ERROR_BYTES]


def close(response: Answer) -> None:
    """Give the connection back if the answer was read to its end; else cut it, so that the upstream stops."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()
