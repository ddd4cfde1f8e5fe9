"""Forget the oldest events, so that the chain of those that are kept can still be verified.

Whole events go from the chain's beginning, with their links. The transaction that deletes them records an event whose
`head` is the last deleted link. That event is chained like any other, and the verification begins at the head that it
names (audit.chain).

Source: docs/decisions/0104-audit-retention.md.
"""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from audit import chain
from audit.actions import Action
from audit.models import Event, Link
from audit.recording import record_act

BATCH: Final = 1000
# The database refuses to delete younger events (migration 0003).
MINIMUM_DAYS: Final = 30


class _Forgotten:
    """The deleted beginning of the chain, as the object of an event of the operator's."""

    account_id: uuid.UUID | None = None

    def __init__(self, last: chain.ChainHead) -> None:
        self.text_id = str(last.number)
        self.audit_name = "oldest events"

    def audit_state(self) -> Mapping[str, Any]:
        """It has no fields."""
        return {}


@transaction.atomic
def forget(limit: int = BATCH) -> int:
    """Delete the oldest events that are older than AUDIT_RETENTION_DAYS, at most `limit`, and record that.

    The newest link always stays: the chain goes on from it.

    Returns:
        The number of deleted events. If it equals `limit`, there may be more.
    """
    if not settings.AUDIT_RETENTION_DAYS or not chain.lock():
        return 0
    horizon = timezone.now() - timedelta(days=max(settings.AUDIT_RETENTION_DAYS, MINIMUM_DAYS))
    newest = chain.head().number
    expired = []
    links = Link.objects.filter(number__lt=newest).order_by("number")
    for number, digest, event, at in links.values_list("number", "hash", "event_id", "event__at")[:limit]:
        if at >= horizon:
            break
        expired.append(event)
        last = chain.ChainHead(number, bytes(digest))
    if not expired:
        return 0
    record_act(None, Action.AUDIT_FORGOTTEN, _Forgotten(last), changes={"head": [None, str(last)]})
    # Links first: the database looks at their events to see whether they may go.
    Link.objects.filter(number__lte=last.number).delete()
    Event.objects.filter(id__in=expired).delete()
    return len(expired)
