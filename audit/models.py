"""The audit: events record who changed what, and a chain of hashes shows whether anybody changed the events.

An `Event` is written in the transaction of the change that it describes, with a `PendingEvent` row beside it. The relay
gives each pending event a `Link`, whose hash covers the event and the link before it (audit.chain). Rows of events and
links are only added, until they are deleted by age (audit.retention): triggers refuse UPDATE, TRUNCATE, and DELETE
within 30 days, also in SQL written by hand.

Source: docs/decisions/0100-audit.md.
"""

import uuid
from datetime import UTC, datetime, timedelta

from django.db import models
from django.utils import timezone

from gateway_core import ids

# An event's ID is created a moment before or after its `at`, by the same clock.
_CLOCK_SLACK = timedelta(minutes=1)


class EventQuerySet(models.QuerySet["Event"]):
    """Named reads of events. They can be chained; a chain begins with `of_account` or `of_operator`."""

    def of_account(self, account: models.Model) -> "EventQuerySet":
        """Events of an account, newest first."""
        return self.filter(account_id=account.pk).order_by("-id")

    def of_operator(self) -> "EventQuerySet":
        """Events that belong to no account, such as those of the operator's own keys; newest first."""
        return self.filter(account=None).order_by("-id")

    def by_principal(self, principal_id: str) -> "EventQuerySet":
        """Events caused by one API key or user, by its ID; "" selects events without a signed-in principal."""
        return self.filter(principal_id=principal_id)

    def with_actions(self, *actions: str) -> "EventQuerySet":
        """Events of these actions (audit.actions)."""
        return self.filter(action__in=actions)

    def on_object(self, object_id: str) -> "EventQuerySet":
        """The history of one object, by its ID (`aigk_…`)."""
        return self.filter(object_id=object_id)

    def between(self, since: datetime | None = None, until: datetime | None = None) -> "EventQuerySet":
        """Events from `since` on and before `until`; None leaves that end open."""
        found = self
        if since is not None:
            found = found.filter(at__gte=since, id__gte=_first_id_at(since - _CLOCK_SLACK))
        if until is not None:
            found = found.filter(at__lt=until, id__lt=_first_id_at(until + _CLOCK_SLACK))
        return found

    def before(self, event_id: uuid.UUID) -> "EventQuerySet":
        """Events older than this one, for the next page."""
        return self.filter(id__lt=event_id)


class Event(models.Model):
    """One change of one object. It stores IDs and names as text, because it outlives the objects."""

    id = models.UUIDField(primary_key=True, default=ids.new_id, editable=False)
    # None for the operator's own objects. PROTECT: an account with events cannot be deleted.
    account = models.ForeignKey(
        "accounts.Account", null=True, on_delete=models.PROTECT, related_name="audit_events", db_index=False
    )
    at = models.DateTimeField(default=timezone.now)
    # The principal, with its name at that time. If nobody was signed in, the kind is `system`, the ID is empty, and the
    # name is the process.
    principal_kind = models.CharField(max_length=16)
    principal_id = models.CharField(max_length=64)
    principal_name = models.CharField(max_length=255)
    # One of audit.actions; it begins with the object's kind.
    action = models.CharField(max_length=64)
    object_id = models.CharField(max_length=64)
    object_name = models.CharField(max_length=255)
    # {field: [old, new]}; null means that the field had or has no value.
    changes = models.JSONField()
    # audit.origin.Origin
    source = models.CharField(max_length=255)
    address = models.CharField(max_length=255, null=True)
    user_agent = models.CharField(max_length=255, null=True)
    request_id = models.CharField(max_length=255, null=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        indexes = [
            # The audit page: the account's events, newest first; with a range of times too.
            models.Index("account", models.F("id").desc(), name="audit_newest_first"),
            # `on_object`: the history on an object's own page.
            models.Index("account", "object_id", models.F("id").desc(), name="audit_of_an_object"),
            # `by_principal`: what one API key or user did.
            models.Index("account", "principal_id", models.F("id").desc(), name="audit_of_a_principal"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.object_id}"

    @property
    def object_kind(self) -> str:
        """The kind of the object, for example `access_key`."""
        return self.action.partition(".")[0]


class PendingEvent(models.Model):
    """An event that no link holds yet. Deleted in the transaction that writes the link."""

    event = models.OneToOneField(Event, primary_key=True, on_delete=models.PROTECT, related_name="pending")

    class Meta:
        # The table keeps its first name.
        db_table = "audit_pending"

    def __str__(self) -> str:
        return str(self.event_id)


class Link(models.Model):
    """One link of the chain."""

    # 1, 2, 3 … without gaps, over all accounts.
    number = models.BigIntegerField(primary_key=True)
    event = models.OneToOneField(Event, on_delete=models.PROTECT, related_name="link")
    # SHA-256 over the previous link's hash and the event's canonical bytes (audit.chain).
    hash = models.BinaryField(max_length=32)

    def __str__(self) -> str:
        return str(self.number)


def _first_id_at(moment: datetime) -> uuid.UUID:
    """The lowest UUIDv7 of this moment, so that a range of times becomes a range of the index on IDs."""
    milliseconds = max(int((moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000), 0)
    return uuid.UUID(int=milliseconds << 80)
