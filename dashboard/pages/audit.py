"""The audit pages: who changed an object, when and from where."""

import json
from collections.abc import Iterator
from datetime import UTC, timedelta
from typing import Any, Final, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone

from audit.actions import Action
from audit.models import Event, EventQuerySet
from dashboard.kit.exports import csv_response
from dashboard.kit.lists import Filter, Filters, listing_of
from dashboard.kit.page import Page
from dashboard.navigation import AUDIT

_KINDS: Final = {
    "access_key": "Access key",
    "configuration": "Configuration",
    "provider_key": "Provider key",
    "provider": "Provider",
    "api_key": "API key",
    "gateway_configuration": "Gateway configuration",
    "member": "Member",
    "invitation": "Invitation",
    "account": "Account",
    "credits": "Credits",
    "managed_key": "Managed key",
    "audit": "Audit",
}
_RANGES: Final = {"24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
# The route of an object's page, by the kind of object.
_PAGES: Final = {
    "access_key": "access-key",
    "configuration": "configuration",
    "provider_key": "provider-key",
    "provider": "custom-provider",
    "api_key": "api-key",
}
FILTERS: Final = (
    Filter("object", "Object", placeholder="Object: aigk_…, aigac_…"),
    Filter("by", "By", placeholder="By: usr_…, aigapi_…"),
    Filter("kind", "Kind", tuple(_KINDS.items())),
    Filter("range", "Time", (("24h", "24 hours"), ("7d", "7 days"), ("30d", "30 days"))),
)
_ROWS_AT_ONCE: Final = 1000


class Difference(NamedTuple):
    """One changed field. `old` and `new` are texts, empty where the field had or has no value."""

    field: str
    old: str
    new: str


class ShownEvent(NamedTuple):
    """An audit event with the texts that the page shows."""

    event: Event
    action: str
    # The route name of the object's page; empty where it has no page, or was deleted.
    page: str
    differences: tuple[Difference, ...]

    @property
    def is_whole(self) -> bool:
        """Whether the event created or deleted the object. Its differences then list all fields."""
        return bool(self.differences) and self.event.action.endswith((".created", ".deleted", ".added", ".granted"))


class AuditPage(Page):
    """`/dashboard/audit`: the list of audit events."""

    path = "audit"
    name = "audit"
    section = AUDIT
    title = "Audit"
    template = "dashboard/audit.html"

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show one page of events."""
        filters = Filters(request, FILTERS)
        listing = listing_of(request, _narrowed(Event.objects.of_account(self.visit.account), filters), None)
        return self.render(
            listing=listing,
            events=[_shown(event) for event in listing.items],
            filters=filters,
            query=request.GET.urlencode(),
        )


class AuditExportPage(Page):
    """`/dashboard/audit.csv`: all events that match the filters."""

    path = "audit.csv"
    name = "audit-export"
    section = AUDIT
    title = "Audit"
    template = "dashboard/audit.html"

    def get(self, request: HttpRequest) -> HttpResponseBase:
        """Stream the CSV file."""
        events = _narrowed(Event.objects.of_account(self.visit.account), Filters(request, FILTERS))
        header = ("time", "action", "object", "object name", "by", "by name", "address", "source", "request", "changes")
        return csv_response(f"audit-{timezone.now():%Y-%m-%d}.csv", header, _rows(events))


def _narrowed(events: EventQuerySet, filters: Filters) -> EventQuerySet:
    if filters["object"]:
        events = events.on_object(filters["object"])
    if filters["by"]:
        events = events.by_principal(filters["by"])
    if filters["kind"]:
        events = events.with_actions(*(action for action in Action if action.object_kind == filters["kind"]))
    if filters["range"]:
        events = events.between(since=timezone.now() - _RANGES[filters["range"]])
    return events


def _shown(event: Event) -> ShownEvent:
    kind, _, verb = event.action.partition(".")
    page = "" if verb == "deleted" else _PAGES.get(kind, "")
    differences = tuple(Difference(field, _text(old), _text(new)) for field, (old, new) in event.changes.items())
    return ShownEvent(event, f"{_KINDS.get(kind, kind)} {verb.replace('_', ' ')}", page, differences)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _rows(events: EventQuerySet) -> Iterator[tuple[object, ...]]:
    while True:
        piece = list(events[:_ROWS_AT_ONCE])
        for event in piece:
            yield (
                event.at.astimezone(UTC).isoformat(),
                event.action,
                event.object_id,
                event.object_name,
                event.principal_id,
                event.principal_name,
                event.address,
                event.source,
                event.request_id,
                json.dumps(event.changes, ensure_ascii=False),
            )
        if len(piece) < _ROWS_AT_ONCE:
            return
        events = events.before(piece[-1].id)


PAGES: Final = (AuditPage, AuditExportPage)
