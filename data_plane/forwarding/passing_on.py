"""An answer's way to the caller, once its attempt counts: whole, or as it comes.

Source: docs/decisions/0051-attempts.md, docs/decisions/0086-streams.md.
"""

from typing import Final

import aiohttp

from data_plane.errors import AnswerCut, StreamTimeout, TotalTimeout, is_lasting
from data_plane.forwarding import headers as header_rules
from data_plane.forwarding.answers import Answer
from data_plane.forwarding.beginnings import Begun
from data_plane.forwarding.contents import fails_within
from data_plane.forwarding.headers import Headers
from data_plane.forwarding.one_attempt import OneAttempt
from data_plane.forwarding.outcomes import AttemptOutcome, outcome_of
from data_plane.forwarding.sse import STOPPED
from data_plane.usage.token_counting import reader_of
from gateway_core.catalog import Surface

# No cache and no proxy keeps a stream back.
_OF_A_STREAM: Final[Headers] = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
_STREAM_NAMES: Final = frozenset({b"cache-control", b"x-accel-buffering"})
_EVENT_STREAM: Final = b"text/event-stream"
_JSON: Final = b"application/json"
_UNMETERED: Final = (b"gateway-unmetered", b"true")


async def relay(begun: Begun, one: OneAttempt) -> None:
    """Pass an answer on to the caller.

    Args:
        begun: the beginning of the answer, which has been read.
        one: the attempt that got the answer.

    Raises:
        AnswerCut, StreamTimeout, TotalTimeout: the answer did not come to its end.
    """
    running = one.running
    response, exchange, usage = begun.response, running.exchange, running.usage
    passed = header_rules.downstream(response.headers)
    is_refusal = outcome_of(response.status) is AttemptOutcome.REFUSED
    first = begun.first
    usage.is_served = True
    if running.call.passing is not None and not is_refusal:
        first = _read_beside(begun, one, passed)
    elif not is_refusal:
        is_stripping = running.asks_for_usage(one.target)
        usage.read_with(reader_of(running.call.surface, is_stream=begun.is_event_stream, is_stripping=is_stripping))
        first = usage.feed(first)
    elif is_lasting(response.status) and not any(name == b"x-should-retry" for name, _ in passed):
        passed.append((b"x-should-retry", b"false"))
    if begun.events is not None:
        # The total timeout was for the way here.
        running.deadline = running.clock() + running.stream_timeout
    try:
        with running.limit.until(running.deadline):
            if begun.is_whole:
                if is_refusal or (begun.is_event_stream and _has_error(begun.first)):
                    usage.close(has_left=False)
                else:
                    usage.complete()
                await exchange.answer(response.status, passed, first)
                return
            if begun.events is not None:
                exchange.is_stream = True
                passed = _of_a_stream(passed)
            elif response.content_length is not None:
                passed.append((b"content-length", b"%d" % response.content_length))
            await exchange.start(response.status, passed)
            await _pass_on(begun, first, one)
    except (aiohttp.ClientError, OSError) as fault:
        usage.is_timed_out = isinstance(fault, TimeoutError)
        if running.clock() < running.deadline:
            raise AnswerCut from None
        raise (TotalTimeout if begun.events is None else StreamTimeout) from None


def _read_beside(begun: Begun, one: OneAttempt, passed: Headers) -> bytes:
    """Read the usage of a call beside the surfaces; a header says where there is none. Return what goes out first."""
    usage, passing = one.running.usage, one.running.call.passing
    first = begun.first
    is_metered = passing is not None and not passing.is_unmetered
    if is_metered and begun.response.header(b"content-type").startswith(_JSON):
        reader = reader_of(Surface.RESPONSES, is_stream=False)
        usage.read_with(reader)
        first = usage.feed(first)
        used = reader.used() if begun.is_whole else None
        is_metered = used is None or bool(used.input_tokens or used.output_tokens)
    else:
        is_metered = False
    if not is_metered:
        passed.append(_UNMETERED)
    return first


async def _pass_on(begun: Begun, first: bytes, one: OneAttempt) -> None:
    """Pass a body on as it comes. Before what its reader takes for the end, its usage is recorded."""
    running = one.running
    response, events = begun.response, begun.events
    exchange, content, usage, limit = running.exchange, response.content, running.usage, running.limit
    deadline, clock = running.deadline, running.clock
    whole, length = first, len(begun.first)
    is_framed = _is_framed(response)
    # Whether an event says why the model stopped. It is looked for where only the connection's end may be the end.
    has_stopped = has_failed = False
    while True:
        if events is not None and whole:
            if not has_failed and _has_error(whole):
                has_failed = True
                usage.close(has_left=False)
            has_stopped = has_stopped or (not is_framed and STOPPED.search(whole) is not None)
        if length == response.content_length or (events is not None and events.has_ended):
            usage.complete()
        if whole:
            # The time that a slow reader takes is not the upstream's; only the total bounds it.
            limit.move(deadline)
            await exchange.pass_on(whole)
        limit.move(min(deadline, clock() + running.per_request))
        chunk = await content.readany()
        if not chunk:
            break
        length += len(chunk)
        whole = usage.feed(chunk if events is None else events.feed(chunk))
    limit.move(running.deadline)
    rest = b"" if events is None else usage.feed(events.rest())
    if events is not None:
        has_failed = has_failed or _has_error(rest)
        has_stopped = has_stopped or has_failed or STOPPED.search(rest) is not None
        if not (events.has_ended or has_stopped or is_framed):
            raise AnswerCut
    if has_failed:
        usage.close(has_left=False)
    usage.complete()
    await exchange.end(rest)


def _has_error(events: bytes) -> bool:
    # Two searches for each chunk of every stream: nothing else is done with nearly all of them.
    rfind = events.rfind
    return (rfind(b'"error"') >= 0 or rfind(b"event: error") >= 0) and fails_within(events)


def _of_a_stream(passed: Headers) -> Headers:
    kept = [(name, value) for name, value in passed if name not in _STREAM_NAMES]
    kept = [
        (name, _EVENT_STREAM if name == b"content-type" and _EVENT_STREAM not in value.lower() else value)
        for name, value in kept
    ]
    return kept + _OF_A_STREAM


def _is_framed(response: Answer) -> bool:
    """Whether the answer itself says where it ends: by its length or by chunked coding."""
    return response.content_length is not None or response.is_chunked
