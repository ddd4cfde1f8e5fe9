"""The periodic task that deletes revisions beyond those that are kept."""

import uuid
from collections.abc import Iterator
from typing import Final

from celery import shared_task
from django.db.models import Count, Max

from accounts.quota_limits import Quota
from accounts.quotas import limit_of
from configurations.models import Configuration, Revision
from configurations.revisions import FORGOTTEN_AT_ONCE, forget

# Configurations that are looked at in one statement.
_CHUNK: Final = 500


@shared_task(name="configurations.forget_revisions")
def forget_revisions() -> int:
    """Delete the oldest revisions of each configuration that has more than its account keeps.

    A write deletes few of them by itself (configurations.revisions); more are left only where an operator has lowered
    the limit. Each statement deletes few rows and is a transaction of its own.

    Returns:
        The number of deleted revisions.
    """
    forgotten = 0
    limits: dict[uuid.UUID, int] = {}
    for configuration, account, kept, newest in _counts():
        if account not in limits:
            limits[account] = max(limit_of(account, Quota.REVISIONS_OF_A_CONFIGURATION), 1)
        expired = kept - limits[account]
        while expired > 0:
            revisions = Revision.objects.filter(configuration=configuration)
            count = forget(revisions, newest=newest, most=limits[account])
            forgotten += count
            expired = expired - count if count == FORGOTTEN_AT_ONCE else 0
    return forgotten


def _counts() -> Iterator[tuple[uuid.UUID, uuid.UUID, int, int]]:
    """Yield each configuration's ID, its account's, the number of its revisions and the newest one's number."""
    after = uuid.UUID(int=0)
    while True:
        rows = Configuration.objects.filter(id__gt=after).order_by("id")
        counted = rows.annotate(kept=Count("revisions"), newest=Max("revisions__number"))
        chunk = list(counted.values_list("id", "account_id", "kept", "newest")[:_CHUNK])
        yield from chunk
        if len(chunk) < _CHUNK:
            return
        after = chunk[-1][0]
