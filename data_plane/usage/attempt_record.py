"""What the attempts of one request used. Each attempt is recorded once, as soon as its result is certain.

A failed attempt is the final one only if no other follows, so it is recorded when the next one begins or when the
request ends. An attempt that answers is recorded before the last piece of its answer is sent: a caller that has the
answer also finds it in the usage, even if this worker is killed (data_plane.usage.spool).

Source: docs/decisions/0080-recording-attempts.md.
"""

import time
from collections.abc import Callable
from typing import Final

from data_plane.usage.token_counting import UsageReader
from gateway_core.dialects.usage import USUAL_TIERS, Used, count, tier_of
from gateway_core.plans import Attempt, KeySource
from gateway_core.traces import MOST_PASSED_OVER, Completion, PassedOver, RetryAction, Trace
from gateway_core.usage_events import MAX_COUNT, UsageEvent, event_id, fit

Record = Callable[[UsageEvent], None]

_NAMELESS: Final = "?"
_MILLISECONDS: Final = 1000
_OK: Final = range(200, 300)
_NO_ERRORS: Final = frozenset({Completion.SUCCEEDED, Completion.UNKNOWN})


class RequestUsage:
    """One request's attempts, one after the other."""

    __slots__ = (
        "_access_key",
        "_account",
        "_asked_tier",
        "_attempt",
        "_began",
        "_began_at",
        "_configuration",
        "_estimate_input",
        "_first_byte",
        "_is_streaming",
        "_mask",
        "_most_output",
        "_number",
        "_passed_over",
        "_reader",
        "_record",
        "_request_id",
        "_requested_at",
        "_requested_model",
        "_snapshot_version",
        "is_exhausted",
        "is_served",
        "is_timed_out",
        "meant_status",
        "status",
        "was_refused",
        "was_sent",
    )

    def __init__(
        self,
        record: Record,
        *,
        request_id: str,
        account: str,
        access_key: str,
        configuration: str | None,
        snapshot_version: int,
        requested_model: str,
        is_streaming: bool,
        estimate_input: Callable[[], int],
        most_output: Callable[[], int] = lambda: 0,
        asked_tier: object = None,
    ) -> None:
        """
        Args:
            record: takes an event; never waits, never raises.
            request_id, account, access_key, requested_model, is_streaming: as the events hold them.
            configuration, snapshot_version: as the traces hold them.
            estimate_input: estimates the request's tokens. Called only for an answer that did not report them.
            most_output: how many output tokens the request may have at most. Called only for an attempt with the
                operator's key that did not report them.
            asked_tier: the service tier that the request names.
        """
        self._record = record
        self._request_id = request_id
        self._account = account
        self._access_key = access_key
        self._configuration = configuration
        self._snapshot_version = snapshot_version
        self._requested_at = time.time_ns() // 1000
        self._requested_model = _named(requested_model)
        self._is_streaming = is_streaming
        self._estimate_input = estimate_input
        self._most_output = most_output
        self._asked_tier = tier_of(asked_tier)
        self._number = 0
        # The attempt that is not recorded yet, if there is one.
        self._attempt: Attempt | None = None
        self._mask: str | None = None
        self._began_at = 0
        self._began = 0.0
        self._first_byte = 0.0
        # What was passed over since the attempt before that one.
        self._passed_over: list[PassedOver] = []
        self._reader: UsageReader | None = None
        # Of that attempt: the upstream's status, 0 until there is one; and whether its time ran out.
        self.status = 0
        self.is_timed_out = False
        # The status that the upstream's answer means, where that is another one; else 0.
        self.meant_status = 0
        # Whether the caller gets that attempt's answer, and whether the plan has no further attempt.
        self.is_served = False
        self.is_exhausted = False
        # False where the upstream was not reached, and so did nothing; and whether it says that it did nothing.
        self.was_sent = True
        self.was_refused = False

    def pass_over(self, one: PassedOver) -> None:
        """A candidate or a key is not tried. Only the first few before an attempt are recorded."""
        if len(self._passed_over) < MOST_PASSED_OVER:
            self._passed_over.append(one)

    def begin(self, attempt: Attempt, mask: str | None) -> None:
        """An attempt is about to be sent; the one before it was not the last.

        Args:
            attempt: of the plan.
            mask: of its provider key as it is now, if it uses one.
        """
        if self._attempt is not None:
            self._record_attempt(self._failed(), _way_on(self._attempt, attempt), is_final=False)
        self._number += 1
        self._attempt = attempt
        self._mask = mask
        self._began_at = time.time_ns() // 1000
        self._began = time.perf_counter()
        self._first_byte = 0.0
        self._reader = None
        self.status = 0
        self.is_timed_out = False
        self.meant_status = 0
        self.was_sent = True
        self.was_refused = False

    def note_first_byte(self) -> None:
        """The attempt's answer begins now. Of several calls the last one counts."""
        self._first_byte = time.perf_counter()

    def read_with(self, reader: UsageReader) -> None:
        """This attempt answers. Pass each piece of its answer to `feed`."""
        self._reader = reader

    def feed(self, chunk: bytes) -> bytes:
        """Read the next piece of the answer. Return the part of it that is for the caller."""
        return chunk if self._reader is None else self._reader.feed(chunk)

    def complete(self) -> None:
        """Record that the answer is whole. Call it before the last piece is sent. Further calls do nothing."""
        self._record_attempt(Completion.SUCCEEDED, RetryAction.SUCCEEDED)

    def close(self, *, has_left: bool) -> None:
        """The request has ended. Record the last attempt, if it is not recorded yet.

        Args:
            has_left: whether the caller ended it. That does not count as an error.
        """
        action = RetryAction.EXHAUSTED if self.is_exhausted else RetryAction.FAIL_FAST
        self._record_attempt(Completion.UNKNOWN if has_left else self._failed(), action)

    def _failed(self) -> Completion:
        if self.is_served and self.status in _OK:
            return Completion.STREAM_FAILED
        return Completion.TIMED_OUT if self.is_timed_out else Completion.FAILED

    def _record_attempt(self, completion: Completion, action: RetryAction, *, is_final: bool = True) -> None:
        attempt = self._attempt
        if attempt is None:
            return
        self._attempt = None
        used = self._used(attempt, is_whole=completion is Completion.SUCCEEDED)
        is_users = attempt.source is KeySource.USER
        passed_over, self._passed_over = tuple(self._passed_over), []
        self._record(
            UsageEvent(
                id=event_id(self._began_at),
                time=self._began_at,
                request_id=self._request_id,
                account=self._account,
                access_key=self._access_key,
                provider=attempt.provider,
                model=_named(attempt.model),
                requested_model=self._requested_model,
                attempt=self._number,
                is_final=is_final,
                key_source=attempt.source.value,
                status=self.status,
                meant_status=self.meant_status,
                timed_out=self.is_timed_out,
                is_error=completion not in _NO_ERRORS,
                is_streaming=self._is_streaming,
                stop_reason=used.stop_reason,
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
                cache_read_tokens=used.cache_read_tokens,
                cache_write_tokens=used.cache_write_tokens,
                reasoning_tokens=used.reasoning_tokens,
                cache_write_1h_tokens=used.cache_write_1h_tokens,
                input_audio_tokens=used.input_audio_tokens,
                cache_read_audio_tokens=used.cache_read_audio_tokens,
                output_audio_tokens=used.output_audio_tokens,
                input_image_tokens=used.input_image_tokens,
                cache_read_image_tokens=used.cache_read_image_tokens,
                output_image_tokens=used.output_image_tokens,
                web_searches=used.web_searches,
                service_tier=self._tier(used),
                usage_estimated=used.usage_estimated,
                provider_key=attempt.provider_key if is_users else None,
                mask=self._mask if is_users else None,
                duration_ms=_milliseconds(time.perf_counter() - self._began),
                first_byte_ms=_milliseconds(self._first_byte - self._began) if self._first_byte else None,
                requested_at=self._requested_at,
                trace=Trace(
                    completion=completion.value,
                    retry_action=action.value,
                    served=self.is_served,
                    snapshot_version=self._snapshot_version,
                    configuration=self._configuration,
                    credentials_from=attempt.credentials_from,
                    passed_over=passed_over,
                ),
            )
        )

    def _tier(self, used: Used) -> str:
        """The service tier that served the attempt; what was asked for, where the answer does not name one."""
        if not (used.input_tokens or used.output_tokens):
            return ""
        tier = used.service_tier or self._asked_tier
        return "" if tier in USUAL_TIERS else tier

    def _used(self, attempt: Attempt, *, is_whole: bool) -> Used:
        reader = self._reader
        if attempt.source is KeySource.MANAGED:
            return self._settled(reader)
        if reader is None:
            return Used()
        return reader.used() if is_whole else reader.estimated(self._estimate_input())

    def _settled(self, reader: UsageReader | None) -> Used:
        """What an attempt with the operator's key used. One that did not report it is settled at what was reserved.

        The upstream works on when a time limit ends or a caller leaves, and it charges for what nobody has seen.
        """
        used = reader.used() if reader is not None else Used()
        has_worked = self.was_sent and (not self.status or self.status in _OK)
        if (reader is not None and reader.has_usage) or not has_worked or (reader is None and self.was_refused):
            return used
        return used._replace(
            input_tokens=max(used.input_tokens, count(self._estimate_input())),
            output_tokens=max(used.output_tokens, count(self._most_output())),
            usage_estimated=True,
        )


def _way_on(failed: Attempt, following: Attempt) -> RetryAction:
    """What it means that one attempt follows another."""
    if following.candidate != failed.candidate:
        return RetryAction.NEXT_BACKEND
    return RetryAction.MANAGED_FALLBACK if following.source is KeySource.MANAGED else RetryAction.NEXT_KEY


def _milliseconds(seconds: float) -> int:
    return min(int(seconds * _MILLISECONDS + 0.5), MAX_COUNT)


def _named(model: str) -> str:
    return fit(model) or _NAMELESS
