"""One request: its attempts in their order, and what each of them says of how the request went.

Source: docs/decisions/0067-traces.md.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from django.db.models import QuerySet

from accounts.models import Account
from gateway_core.traces import Completion, PassedOver, RetryAction, Trace
from gateway_core.usage_events import time_of
from usage.models import Event

# Longer than the attempts of any usual request lie apart.
_REQUEST_SPAN: Final = timedelta(minutes=15)
_MOST_ATTEMPTS: Final = 100
_ACTIONS: Final = frozenset(RetryAction)
_COMPLETIONS: Final = frozenset(Completion)
_OK: Final = range(200, 300)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class TracedAttempt:
    """One attempt, and its part of the trace."""

    event: Event
    # None where the worker was of an older release.
    trace: Trace | None

    @classmethod
    def of(cls, event: Event) -> "TracedAttempt":
        """An attempt with its stored trace."""
        return cls(event, None if event.trace is None else msgspec.convert(event.trace, Trace))

    @property
    def served(self) -> bool:
        """Whether the caller got its answer, or a part of it."""
        if self.trace is None:
            return self.event.is_final and self.event.status in _OK
        return self.trace.served

    @property
    def completion(self) -> Completion:
        """How it ended. Of an older worker's attempt only failures are known."""
        if self.trace is not None:
            word = self.trace.completion
            return Completion(word) if word in _COMPLETIONS else Completion.UNKNOWN
        if self.event.timed_out:
            return Completion.TIMED_OUT
        return Completion.FAILED if self.event.is_error else Completion.UNKNOWN

    @property
    def retry_action(self) -> RetryAction | None:
        """What the gateway did next; None where the worker did not say, or says what only a newer release knows."""
        if self.trace is None or self.trace.retry_action not in _ACTIONS:
            return None
        return RetryAction(self.trace.retry_action)

    @property
    def upstream_duration_ms(self) -> int:
        """From its start to its end."""
        return self.event.duration_ms

    @property
    def first_byte_ms(self) -> int | None:
        """From its start to the beginning of its answer."""
        return self.event.first_byte_ms

    @property
    def credentials_from(self) -> str | None:
        """The JSON path of the step that gave its credentials."""
        return self.trace.credentials_from or None if self.trace else None


@dataclass(frozen=True)
class NotTried:
    """A candidate or a key that was passed over, and the attempt that was made instead."""

    before_attempt: int
    told: PassedOver

    @property
    def provider(self) -> str | None:
        """The provider; None where the name means no known one."""
        return self.told.provider or None

    @property
    def model(self) -> str:
        """The model, or the requested name."""
        return self.told.model

    @property
    def provider_key_id(self) -> str | None:
        """The key, of a key that cools."""
        return self.told.provider_key

    @property
    def reason(self) -> str:
        """`cooling`, or the slug of the policy's denial."""
        return self.told.reason

    @property
    def cause(self) -> str | None:
        """Why the key cools."""
        return self.told.cause or None

    @property
    def since(self) -> datetime | None:
        """Since when the key cools."""
        return _EPOCH + timedelta(microseconds=self.told.since) if self.told.since else None


@dataclass(frozen=True)
class RequestTrace:
    """A request with at least one attempt."""

    attempts: tuple[TracedAttempt, ...]

    @property
    def last(self) -> Event:
        """The newest of its attempts."""
        return self.attempts[-1].event

    @property
    def snapshot_version(self) -> int | None:
        """The version of the account's snapshot that decided."""
        return self._trace.snapshot_version or None if self._trace else None

    @property
    def configuration(self) -> str | None:
        """The `aigac_…` ID of the configuration that decided."""
        return self._trace.configuration if self._trace else None

    @property
    def passed_over(self) -> list[NotTried]:
        """What was not tried, in the order of the attempts that were made instead."""
        return list(self._not_tried())

    @property
    def _trace(self) -> Trace | None:
        return self.attempts[-1].trace

    def _not_tried(self) -> Iterator[NotTried]:
        for attempt in self.attempts:
            for told in attempt.trace.passed_over if attempt.trace else ():
                yield NotTried(attempt.event.attempt, told)


def of_request(account: Account, request_id: str) -> RequestTrace | None:
    """The newest request with this ID; None where the account has none. Two queries."""
    # PostgreSQL refuses this character in a text, so no event has it.
    if "\0" in request_id:
        return None
    newest = _events(account, request_id).order_by("-event_time").first()
    return None if newest is None else _beside(newest)


def of_event(account: Account, event_id: uuid.UUID) -> RequestTrace | None:
    """The request that an event belongs to; None where the account has no such event. Two queries."""
    # The ID holds the event's time, and the table is indexed by that.
    try:
        moment = datetime.fromtimestamp(time_of(event_id) / 1000, UTC)
    except (ValueError, OverflowError):
        return None
    one = Event.objects.filter(
        account_id=account.id, event_time__gte=moment, event_time__lt=moment + timedelta(milliseconds=1), id=event_id
    ).first()
    return None if one is None else _beside(one)


def _events(account: Account, request_id: str) -> QuerySet[Event]:
    return Event.objects.filter(account_id=account.id, request_id=request_id)


def _beside(one: Event) -> RequestTrace:
    """The request of an event: its first hundred attempts.

    Callers may send an ID as often as they like. They differ in the moment at which a request had been read.
    """
    beside = Event.objects.filter(
        account_id=one.account_id,
        request_id=one.request_id,
        access_key_id=one.access_key_id,
        event_time__gte=one.requested_at or one.event_time - _REQUEST_SPAN,
        event_time__lte=one.event_time + _REQUEST_SPAN,
        requested_at=one.requested_at,
    )
    found = sorted(beside.order_by("event_time")[:_MOST_ATTEMPTS], key=lambda event: event.attempt)
    return RequestTrace(tuple(map(TracedAttempt.of, found)))
