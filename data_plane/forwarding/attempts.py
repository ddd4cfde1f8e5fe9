"""The attempt machine: carries a plan out, one attempt after the other, until an answer has begun to go to the caller.

An attempt ends in one of three ways. It **answers**: its answer goes to the caller and nothing else is tried. It
**fails** (no connection, no first byte in time, 401, 402, 403, 408, 429, 5xx, a redirect): the next attempt is made. It
**refuses the request** (any other 4xx): the next candidate is tried, or the refusal is the answer if there is none.

An answer without events is held back until it is whole, up to a limit, so that one that breaks off is a failure like
any other. A stream begins to pass with its first event; from then on it can only end well, or in an error event.

Source: contract, section 9; docs/decisions/0051-attempts.md.
"""

import asyncio
from typing import Final, NamedTuple

import aiohttp

from data_plane.errors import AnswerCut, AttemptsFailed, GatewayError, KeysUnusable, RateLimited, TotalTimeout
from data_plane.forwarding import headers as header_rules
from data_plane.forwarding.bodies import Body
from data_plane.forwarding.exchange import Exchange
from data_plane.forwarding.limits import estimated_input_tokens, lowered_maxima
from data_plane.forwarding.outcomes import AttemptOutcome, Failure, listed_failures, outcome_of, retry_after_of
from data_plane.forwarding.sse import EventStream
from data_plane.forwarding.targets import Target, Targets
from data_plane.forwarding.time_limit import TimeLimit
from data_plane.forwarding.upstream import Answer, Upstream
from data_plane.metrics import Metrics
from data_plane.state.held import HeldAccount
from data_plane.state.store import WorkerState
from data_plane.usage.attempt_record import Record, RequestUsage
from data_plane.usage.token_counting import asking_for_usage, reader_of
from gateway_core.catalog import Format, Surface
from gateway_core.policy import Attempt, KeySource, Plan
from gateway_core.sealing import Keyring
from gateway_core.snapshot import CATALOG, MANAGED_DOCUMENT, provider_key_document

LOOP_HEADER: Final = b"gateway-loop"
_RATE_LIMITED: Final = 429
_HELD_BYTES: Final = 1024 * 1024
_DISCARDED_BYTES: Final = 64 * 1024
_DISCARD_SECONDS: Final = 0.25
_SHORTEST_VALUE: Final = 8
# With a key of the operator's these are not the caller's to choose.
_OF_THE_KEYS_OWNER: Final = (b"openai-organization", b"openai-project")
_ANTHROPIC_VERSION: Final = b"2023-06-01"


class AttemptCall(NamedTuple):
    """What a caller asked for, as far as every attempt needs it."""

    account: HeldAccount
    # Its `aigk_…` ID.
    access_key: str
    surface: Surface
    body: Body
    query: bytes
    # The caller's headers that may pass.
    headers: dict[bytes, bytes]


class Machinery(NamedTuple):
    """What every request shares."""

    store: WorkerState
    keyring: Keyring
    targets: Targets
    upstream: Upstream
    metrics: Metrics
    loop_marker: bytes
    record_usage: Record


class _Failed(Exception):
    """This attempt is over without an answer."""

    def __init__(self, status: str, retry_after: int | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after = retry_after


class _Unusable(_Failed):
    """This attempt's provider key cannot be opened here."""


class _RefusedRequest(_Failed):
    """The upstream takes the key and not the request; another candidate may take it."""


class _Begun(NamedTuple):
    """An answer whose beginning is here."""

    response: Answer
    first: bytes
    # None where the whole answer is in `first`, or where it is no stream of events.
    events: EventStream | None
    is_whole: bool
    is_event_stream: bool = False


class AttemptMachine:
    """One request's way through its plan."""

    def __init__(self, machinery: Machinery, call: AttemptCall, exchange: Exchange, limit: TimeLimit) -> None:
        settings = call.account.snapshot.settings
        self._shared = machinery
        self._call = call
        self._exchange = exchange
        self._limit = limit
        self._per_request = settings.per_request_timeout
        self._clock = asyncio.get_running_loop().time
        self._deadline = self._clock() + settings.total_timeout
        self._failures: list[Failure] = []
        self._unusable = 0
        members = call.body.members
        # What to ask an OpenAI stream for, if its caller did not: its usage.
        self._usage_option = asking_for_usage(call.surface, members)
        self._usage = RequestUsage(
            machinery.record_usage,
            request_id=exchange.request_id,
            account=call.account.id,
            access_key=call.access_key,
            requested_model=call.body.requested[0],
            is_streaming=call.body.is_streaming,
            estimate_input=lambda: estimated_input_tokens(call.surface, members),
        )

    async def run(self, plan: Plan) -> None:
        """Answer the caller by the first attempt that answers, and tell the usage of all.

        Raises:
            GatewayError: none did, or the answer broke off; nothing more may be sent but this error.
        """
        try:
            await self._answer_by(plan)
        finally:
            self._usage.close(has_left=self._exchange.has_left)

    async def _answer_by(self, plan: Plan) -> None:
        exchange = self._exchange
        last_candidate = plan.attempts[-1].candidate
        refused_candidate = -1
        for attempt in plan.attempts:
            if attempt.candidate == refused_candidate:
                continue
            exchange.provider, exchange.model = attempt.provider, attempt.model
            value = ""
            try:
                target = self._target(attempt)
                value = self._value(attempt)
                begun = await self._begin(attempt, target, value, is_last=attempt.candidate == last_candidate)
            except _Failed as failed:
                self._note(attempt, failed)
                if isinstance(failed, _RefusedRequest):
                    refused_candidate = attempt.candidate
            else:
                self._shared.metrics.answered.inc()
                try:
                    await self._relay(begun, value, attempt, filters=self._is_asking(target))
                finally:
                    _close(begun.response)
                return
        raise self._exhausted()

    # ── one attempt ──

    def _target(self, attempt: Attempt) -> Target:
        try:
            return self._shared.targets.find(self._call.account, attempt.provider, self._call.surface)
        except (KeyError, ValueError):
            # Deleted since the plan was made, or an address that is none.
            raise _Failed("no_target") from None

    def _value(self, attempt: Attempt) -> str:
        """The secret that this attempt shows; "" for none."""
        if attempt.source is KeySource.NONE:
            return ""
        store, keyring = self._shared.store, self._shared.keyring
        account, key = self._call.account, attempt.provider_key
        if attempt.source is KeySource.MANAGED:
            value, is_news = store.managed_value(attempt.provider, keyring)
            place = CATALOG, MANAGED_DOCUMENT
        elif key is not None and key in account.snapshot.provider_keys:
            value, is_news = account.value_of(key, keyring)
            place = account.id, provider_key_document(key)
        else:
            raise _Unusable("key_unusable")
        if value is None:
            if is_news:
                store.refuse_document(*place, "its value does not open")
            raise _Unusable("key_unusable")
        return value

    def _mask(self, attempt: Attempt) -> str | None:
        known = self._call.account.snapshot.provider_keys.get(attempt.provider_key or "")
        return None if known is None else known.mask

    def _is_asking(self, target: Target) -> bool:
        return self._usage_option is not None and target.takes_stream_options

    def _body(self, attempt: Attempt, target: Target) -> bytes:
        body, changes = self._call.body, {}
        if self._usage_option is not None and target.takes_stream_options:
            changes["stream_options"] = self._usage_option
        limit = self._call.account.snapshot.settings.max_output_tokens
        if limit is not None:
            changes |= lowered_maxima(
                self._call.surface, body.members, limit, provider=attempt.provider, parameters=target.parameters
            )
        return body.forwarded(attempt.model, target.parameters, changes)

    def _headers(self, attempt: Attempt, target: Target, value: str) -> dict[bytes, bytes]:
        sent = header_rules.for_provider(self._call.headers, attempt.provider)
        if attempt.source is KeySource.MANAGED:
            for name in _OF_THE_KEYS_OWNER:
                sent.pop(name, None)
        if value:
            sent[target.key_header.name.encode()] = (target.key_header.prefix + value).encode("ascii")
        sent[b"content-type"] = b"application/json"
        # An error event can only follow plain text, and the answer's usage must be readable.
        sent[b"accept-encoding"] = b"identity"
        sent[LOOP_HEADER] = self._shared.loop_marker
        if self._call.surface is Surface.MESSAGES:
            sent.setdefault(b"anthropic-version", _ANTHROPIC_VERSION)
        return sent

    async def _begin(self, attempt: Attempt, target: Target, value: str, *, is_last: bool) -> _Begun:
        """Send an attempt and wait for the beginning of its answer."""
        response: Answer | None = None
        is_kept = False
        self._exchange.attempts += 1
        self._usage.begin(attempt, self._mask(attempt))
        try:
            with self._limit.until(self._bound()):
                response = await self._shared.upstream.send(
                    target.way,
                    self._headers(attempt, target, value),
                    self._body(attempt, target),
                    self._call.query,
                )
                self._usage.status = response.status
                verdict = outcome_of(response.status)
                if verdict is AttemptOutcome.FAILED:
                    retry_after = retry_after_of(response) if response.status == _RATE_LIMITED else None
                    await _discard(response)
                    raise _Failed(str(response.status), retry_after)
                if verdict is AttemptOutcome.REFUSED and not is_last:
                    await _discard(response)
                    raise _RefusedRequest(str(response.status))
                begun = await _first_bytes(response, self._call.surface)
                is_kept = True
                return begun
        except TimeoutError:
            self._usage.is_timed_out = True
            if self._clock() >= self._deadline:
                raise TotalTimeout from None
            raise _Failed("timeout") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise _Failed("connection_failed") from None
        finally:
            if response is not None and not is_kept:
                _close(response)

    def _bound(self) -> float:
        return min(self._deadline, self._clock() + self._per_request)

    def _note(self, attempt: Attempt, failed: _Failed) -> None:
        mask = self._mask(attempt) or ("the operator's key" if attempt.source is KeySource.MANAGED else "no key")
        self._failures.append(Failure(attempt.provider, attempt.model, mask, failed.status, failed.retry_after))
        self._unusable += isinstance(failed, _Unusable)
        self._shared.metrics.failed.inc()

    def _exhausted(self) -> GatewayError:
        failures = self._failures
        if len(failures) == self._unusable:
            return KeysUnusable()
        if all(failure.status == str(_RATE_LIMITED) for failure in failures):
            waits = [failure.retry_after for failure in failures if failure.retry_after is not None]
            return RateLimited(listed_failures(RateLimited.__doc__, failures), retry_after=min(waits, default=1))
        return AttemptsFailed(listed_failures(AttemptsFailed.__doc__, failures))

    # ── the answer ──

    async def _relay(self, begun: _Begun, value: str, attempt: Attempt, *, filters: bool) -> None:
        """Pass an answer on.

        Args:
            begun: its beginning.
            value: the secret that its attempt showed.
            attempt: whose answer it is.
            filters: whether a stream's usage chunk is for the gateway alone.
        """
        response, exchange, usage = begun.response, self._exchange, self._usage
        passed = header_rules.downstream(response.raw_headers)
        is_refusal = outcome_of(response.status) is AttemptOutcome.REFUSED
        first = begun.first
        if not is_refusal:
            usage.read_with(reader_of(self._call.surface, is_stream=begun.is_event_stream, is_stripping=filters))
            first = usage.feed(first)
        try:
            with self._limit.until(self._deadline):
                if begun.is_whole:
                    if is_refusal:
                        if len(value) >= _SHORTEST_VALUE:
                            # Some upstreams repeat the key that they were shown.
                            first = first.replace(value.encode(), (self._mask(attempt) or "***").encode())
                        usage.close(has_left=False)
                    else:
                        usage.complete()
                    await exchange.answer(response.status, passed, first)
                    return
                exchange.is_stream = begun.events is not None and not _is_encoded(response)
                if begun.events is None and response.content_length is not None:
                    passed.append((b"content-length", b"%d" % response.content_length))
                await exchange.start(response.status, passed)
                await self._pass_on(begun, first)
        except (aiohttp.ClientError, OSError) as fault:
            usage.is_timed_out = isinstance(fault, TimeoutError)
            raise (TotalTimeout if self._clock() >= self._deadline else AnswerCut) from None

    async def _pass_on(self, begun: _Begun, first: bytes) -> None:
        """Pass a body on as it comes. Before what its reader takes for the end, its usage is told."""
        response, events = begun.response, begun.events
        exchange, content, usage, limit = self._exchange, response.content, self._usage, self._limit
        whole, length = first, len(begun.first)
        while True:
            if length == response.content_length or (events is not None and events.has_ended):
                usage.complete()
            if whole:
                # The time that a slow reader takes is not the upstream's; only the total bounds it.
                limit.move(self._deadline)
                await exchange.pass_on(whole)
            limit.move(self._bound())
            chunk = await content.readany()
            if not chunk:
                break
            length += len(chunk)
            whole = usage.feed(chunk if events is None else events.feed(chunk))
        limit.move(self._deadline)
        rest = b"" if events is None else usage.feed(events.rest())
        if events is not None and not events.has_ended and not _is_framed(response):
            raise AnswerCut
        usage.complete()
        await exchange.end(rest)


async def _first_bytes(response: Answer, surface: Surface) -> _Begun:
    """The first whole event of a stream; all of any other answer, if it is not too large to hold."""
    content = response.content
    if response.is_event_stream and outcome_of(response.status) is AttemptOutcome.ANSWERED:
        events = EventStream(surface)
        first = b""
        while not first:
            chunk = await content.readany()
            if not chunk:
                first = events.rest()
                if not first:
                    raise _Failed("empty_answer")
                return _Begun(response, first, None, is_whole=True, is_event_stream=True)
            first = events.feed(chunk)
        return _Begun(response, first, events, is_whole=False, is_event_stream=True)
    pieces: list[bytes] = []
    length = 0
    while not content.at_eof():
        chunk = await content.readany()
        pieces.append(chunk)
        length += len(chunk)
        if length > _HELD_BYTES:
            return _Begun(response, b"".join(pieces), None, is_whole=False)
    return _Begun(response, pieces[0] if len(pieces) == 1 else b"".join(pieces), None, is_whole=True)


async def _discard(response: Answer) -> None:
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


def _close(response: Answer) -> None:
    """Give the connection back if the answer was read to its end; else cut it, so that the upstream stops."""
    if response.content.at_eof():
        response.release()
    else:
        response.close()


def _is_encoded(response: Answer) -> bool:
    return response.headers.get("content-encoding", "identity").lower() != "identity"


def _is_framed(response: Answer) -> bool:
    """Whether the answer itself says where it ends: by its length or by chunked coding."""
    return response.content_length is not None or response.is_chunked


def format_of(surface: Surface) -> Format:
    """Whose format a surface's answers and errors have."""
    return Format.ANTHROPIC if surface is Surface.MESSAGES else Format.OPENAI
