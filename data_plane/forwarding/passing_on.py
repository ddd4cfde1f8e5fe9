"""An answer's way to the caller, once its attempt counts: whole, or as it comes."""

import aiohttp

from data_plane.errors import AnswerCut, TotalTimeout
from data_plane.forwarding import headers as header_rules
from data_plane.forwarding.beginnings import Begun
from data_plane.forwarding.one_attempt import OneAttempt
from data_plane.forwarding.outcomes import AttemptOutcome, outcome_of
from data_plane.forwarding.upstream import Answer
from data_plane.usage.token_counting import reader_of


async def relay(begun: Begun, one: OneAttempt) -> None:
    """Pass an answer on.

    Args:
        begun: its beginning.
        one: the attempt whose answer it is.

    Raises:
        AnswerCut, TotalTimeout: it did not come to its end.
    """
    running = one.running
    response, exchange, usage = begun.response, running.exchange, running.usage
    passed = header_rules.downstream(response.raw_headers)
    is_refusal = outcome_of(response.status) is AttemptOutcome.REFUSED
    first = begun.first
    if not is_refusal:
        is_stripping = running.asks_for_usage(one.target)
        usage.read_with(reader_of(running.call.surface, is_stream=begun.is_event_stream, is_stripping=is_stripping))
        first = usage.feed(first)
    try:
        with running.limit.until(running.deadline):
            if begun.is_whole:
                if is_refusal:
                    usage.close(has_left=False)
                else:
                    usage.complete()
                await exchange.answer(response.status, passed, first)
                return
            exchange.is_stream = begun.events is not None
            if begun.events is None and response.content_length is not None:
                passed.append((b"content-length", b"%d" % response.content_length))
            await exchange.start(response.status, passed)
            await _pass_on(begun, first, one)
    except (aiohttp.ClientError, OSError) as fault:
        usage.is_timed_out = isinstance(fault, TimeoutError)
        raise (TotalTimeout if running.clock() >= running.deadline else AnswerCut) from None


async def _pass_on(begun: Begun, first: bytes, one: OneAttempt) -> None:
    """Pass a body on as it comes. Before what its reader takes for the end, its usage is recorded."""
    running = one.running
    response, events = begun.response, begun.events
    exchange, content, usage, limit = running.exchange, response.content, running.usage, running.limit
    whole, length = first, len(begun.first)
    while True:
        if length == response.content_length or (events is not None and events.has_ended):
            usage.complete()
        if whole:
            # The time that a slow reader takes is not the upstream's; only the total bounds it.
            limit.move(running.deadline)
            await exchange.pass_on(whole)
        limit.move(running.bound)
        chunk = await content.readany()
        if not chunk:
            break
        length += len(chunk)
        whole = usage.feed(chunk if events is None else events.feed(chunk))
    limit.move(running.deadline)
    rest = b"" if events is None else usage.feed(events.rest())
    if events is not None and not events.has_ended and not _is_framed(response):
        raise AnswerCut
    usage.complete()
    await exchange.end(rest)


def _is_framed(response: Answer) -> bool:
    """Whether the answer itself says where it ends: by its length or by chunked coding."""
    return response.content_length is not None or response.is_chunked
