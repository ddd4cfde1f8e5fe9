"""The requests of apps, attempt by attempt."""

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone

from access_keys.models import AccessKey
from configurations.explain import Question, explain_stored
from configurations.models import Configuration
from dashboard.kit.exports import csv_response
from dashboard.kit.lists import Filter, Filters, link_to
from dashboard.kit.page import Page
from dashboard.navigation import ACTIVITY
from dashboard.wording import explain_text, trace_text
from dashboard.wording.scope_summary import ProviderNames
from gateway_core import ids
from gateway_core.failover import FAILOVER_STATUSES, NO_STATUS
from provider_keys.models import ProviderKey
from rest.errors import NotFound
from usage import activity, traces
from usage.models import Event, KeySource
from usage.reading import Place
from usage.traces import RequestTrace

PAGE_SIZE: Final = 50
_RANGES: Final = {
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
_DEFAULT_RANGE: Final = "24h"
_OUTCOMES: Final = {"well": False, "error": True}
# Common statuses, and last the attempts that got no answer.
_STATUSES: Final = tuple(
    str(status) for status in (*sorted({200, 400, 404, 413, 422, 500, 502, 503, 504} | FAILOVER_STATUSES), NO_STATUS)
)
# At most so many access keys with the same name are searched together.
_OF_ONE_NAME: Final = 20
_LONGEST_BAR: Final = 100
FILTERS: Final = (
    Filter(
        "range", "Time", (("1h", "1 hour"), ("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"), ("all", "ever"))
    ),
    Filter("access_key", "Access key", placeholder="Access key: aigk_… or its name"),
    Filter("provider", "Provider", placeholder="Provider: openai"),
    Filter("model", "Model", placeholder="Model: gpt-4o"),
    Filter("outcome", "Outcome", (("well", "went well"), ("error", "error"))),
    Filter("status", "Status", tuple((one, "no answer" if one == str(NO_STATUS) else one) for one in _STATUSES)),
    Filter("attempts", "Attempts", (("final", "final ones only"),)),
)


@dataclass(frozen=True)
class Row:
    """A usage event with the texts that the pages show."""

    event: Event
    access_key: str
    provider: str
    cost: str

    @property
    def outcome(self) -> tuple[str, str]:
        """Return (word, kind of badge)."""
        event = self.event
        if event.timed_out:
            return "timed out", "bad"
        if not event.status:
            return "no answer", "bad"
        return str(event.status), "bad" if event.is_error else "good"


@dataclass(frozen=True)
class Attempt:
    """One attempt of a request, with its start and length on the time line, in percent."""

    row: Row
    # The credentials that it used, in words.
    credentials: str
    key_page: str
    # How it ended and what followed, in words.
    course: str
    start: float
    length: float


class ActivityPage(Page):
    """`/dashboard/activity`: the list of usage events."""

    path = "activity"
    name = "activity"
    section = ACTIVITY
    title = "Activity"
    template = "dashboard/activity.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show one page of events."""
        filters = Filters(request, FILTERS)
        found = activity.find(
            self.visit.account,
            _search(self, filters),
            before=_place(request, "before"),
            after=_place(request, "after"),
            size=PAGE_SIZE,
        )
        return self.render(
            rows=rows_of(self, found.events),
            filters=filters,
            range=filters["range"] or _DEFAULT_RANGE,
            newer=link_to(request, after=found.newer.to_text()) if found.newer else "",
            older=link_to(request, before=found.older.to_text()) if found.older else "",
            is_cut_short=found.is_cut_short,
            looked_at=activity.LOOKED_AT,
            query=request.GET.urlencode(),
        )


class ActivityExportPage(Page):
    """`/dashboard/activity.csv`: all events that match the filters."""

    path = "activity.csv"
    name = "activity-export"
    section = ACTIVITY
    title = "Activity"
    template = "dashboard/activity.html"

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Stream the CSV file."""
        events = activity.every(self.visit.account, _search(self, Filters(request, FILTERS)))
        return csv_response(f"activity-{timezone.now():%Y-%m-%d}.csv", _HEADER, map(_cells, events))


class RequestPage(Page):
    """`/dashboard/activity/<aigue_…>`: the request that an event belongs to, with all its attempts."""

    path = "activity/<str:text_id>"
    name = "request"
    section = ACTIVITY
    title = "Request"
    template = "dashboard/request.html"

    def get(self, _request: HttpRequest, text_id: str) -> HttpResponse:
        """Show the attempts on a time line, and the plan that a request with this access key would get now."""
        try:
            event_id = ids.from_text(ids.Prefix.USAGE_EVENT, text_id)
        except ids.InvalidId:
            raise NotFound from None
        trace = traces.of_event(self.visit.account, event_id)
        if trace is None:
            raise NotFound
        events = [one.event for one in trace.attempts]
        access_key = self.owned(AccessKey).filter(id=events[0].access_key_id).first()
        names = ProviderNames.of(self.visit.account)
        return self.render(
            attempts=list(self._attempts(trace, names)),
            passed_over=self._passed_over(trace, names),
            trace=trace,
            configuration=self._configuration(trace),
            last=trace.last,
            cost=_cost(sum((event.cost for event in events), Decimal(0))),
            access_key=access_key,
            access_key_id=events[0].access_key_text_id,
            plan=self._plan(access_key, events[0], names) if access_key else None,
        )

    def _attempts(self, trace: RequestTrace, names: ProviderNames) -> Iterator[Attempt]:
        events = [one.event for one in trace.attempts]
        used = [event.provider_key_id for event in events if event.provider_key_id]
        stored = {key.id: key for key in self.owned(ProviderKey).filter(id__in=used).only("name")}
        first = events[0].event_time
        ends = [(event.event_time - first).total_seconds() + event.duration_ms / 1000 for event in events]
        whole = max(*ends, 0.001)
        for traced in trace.attempts:
            event = traced.event
            start = (event.event_time - first).total_seconds() / whole * _LONGEST_BAR
            length = event.duration_ms / 1000 / whole * _LONGEST_BAR
            key = stored.get(event.provider_key_id) if event.provider_key_id else None
            yield Attempt(
                row=Row(event, "", names.called(event.provider), _cost(event.cost)),
                credentials=_credentials(event, key),
                key_page=key.text_id if key else "",
                course=trace_text.of_attempt(traced),
                start=round(max(0.0, min(start, _LONGEST_BAR - 1)), 2),
                length=round(max(1.0, min(length, _LONGEST_BAR - start)), 2),
            )

    def _configuration(self, trace: RequestTrace) -> Configuration | None:
        """The configuration that decided, if it is still there."""
        found = _uuid(ids.Prefix.CONFIGURATION, trace.configuration)
        return self.owned(Configuration).filter(id=found).only("name").first() if found else None

    def _passed_over(self, trace: RequestTrace, names: ProviderNames) -> list[trace_text.ShownNotTried]:
        keys = [found for one in trace.passed_over if (found := _uuid(ids.Prefix.PROVIDER_KEY, one.provider_key_id))]
        named = (
            {key.text_id: key.name for key in self.owned(ProviderKey).filter(id__in=keys).only("name")} if keys else {}
        )
        return [trace_text.not_tried(one, names, named) for one in trace.passed_over]

    def _plan(self, access_key: AccessKey, event: Event, names: ProviderNames) -> explain_text.ShownPlan:
        configurations = Configuration.objects.filter(account=self.visit.account).with_named()
        linked = access_key.configuration_id
        configuration = configurations.filter(id=linked).first() if linked else None
        explanation = explain_stored(
            account=self.visit.account,
            configuration=configuration,
            question=Question(requested=[event.requested_model]),
        )
        return explain_text.shown_plan(explanation, names)


def rows_of(page: Page, events: Iterable[Event]) -> list[Row]:
    """Rows for events, with the names of their access keys and provider keys. Two queries."""
    events = list(events)
    wanted = {event.access_key_id for event in events}
    named = {
        key.id: key.name or key.key_redacted
        for key in page.owned(AccessKey).filter(id__in=wanted).only("name", "key_redacted")
    }
    providers = ProviderNames.of(page.visit.account)
    return [
        Row(
            event=event,
            access_key=named.get(event.access_key_id, ""),
            provider=providers.called(event.provider),
            cost=_cost(event.cost),
        )
        for event in events
    ]


def _search(page: Page, filters: Filters) -> activity.Search:
    range_ = filters["range"] or _DEFAULT_RANGE
    return activity.Search(
        since=timezone.now() - _RANGES[range_] if range_ in _RANGES else None,
        access_keys=_access_keys(page, filters["access_key"]),
        provider=filters["provider"],
        model=filters["model"],
        is_error=_OUTCOMES.get(filters["outcome"]),
        status=int(filters["status"]) if filters["status"] else None,
        with_retries=filters["attempts"] != "final",
    )


def _access_keys(page: Page, text: str) -> tuple[uuid.UUID, ...] | None:
    """The IDs of the access keys that a typed text means: an ID, which may be of a deleted key, or a name."""
    if not text:
        return None
    try:
        return (ids.from_text(ids.Prefix.ACCESS_KEY, text),)
    except ids.InvalidId:
        named = page.owned(AccessKey).filter(name=text).order_by("-id")
        return tuple(named.values_list("id", flat=True)[:_OF_ONE_NAME])


def _place(request: HttpRequest, name: str) -> Place | None:
    try:
        return Place.from_text(request.GET[name])
    except (KeyError, ValueError):
        return None


def _uuid(prefix: ids.Prefix, text: str | None) -> uuid.UUID | None:
    try:
        return ids.from_text(prefix, text or "")
    except ids.InvalidId:
        return None


def _credentials(event: Event, key: ProviderKey | None) -> str:
    if event.key_source == KeySource.MANAGED:
        return "managed inference"
    if event.provider_key_id is None:
        return "without credentials"
    return key.name or "provider key" if key else "a deleted provider key"


def _cost(cost: Decimal) -> str:
    return f"${cost:.5f}" if cost else "—"


_HEADER: Final = (
    "time", "request", "attempt", "final", "access key", "provider", "model", "requested model", "status", "timed out",
    "error", "streaming", "stop reason", "input tokens", "output tokens", "cache read tokens", "reasoning tokens",
    "cost in US dollars", "key source", "provider key", "duration in ms", "first byte in ms", "latency in ms", "event",
)  # fmt: skip


def _cells(event: Event) -> tuple[Any, ...]:
    key = event.provider_key_id
    return (
        event.event_time.astimezone(UTC).isoformat(),
        event.request_id,
        event.attempt,
        event.is_final,
        event.access_key_text_id,
        event.provider,
        event.model,
        event.requested_model,
        event.status,
        event.timed_out,
        event.is_error,
        event.is_streaming,
        event.stop_reason,
        event.input_tokens,
        event.output_tokens,
        event.cache_read_tokens,
        event.reasoning_tokens,
        f"{event.cost:f}",
        event.key_source,
        ids.to_text(ids.Prefix.PROVIDER_KEY, key) if key else "",
        event.duration_ms,
        event.first_byte_ms,
        event.latency_ms,
        event.text_id,
    )


PAGES: Final = (ActivityPage, ActivityExportPage, RequestPage)
