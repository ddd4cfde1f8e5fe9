"""Periodic tasks that delete expired rows. They may run late: expired rows are not used any more."""

from typing import Final

from celery import shared_task
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts.models import IdempotencyRecord, Invitation

# A row contains a whole answer; a limited batch keeps the transaction short.
BATCH: Final = 1000


@shared_task(name="accounts.forget_expired_answers")
def forget_expired_answers() -> int:
    """Delete expired idempotency records. accounts.idempotency already ignores them.

    Returns:
        The number of deleted records.
    """
    forgotten = 0
    while True:
        expired = IdempotencyRecord.objects.filter(expires_at__lte=timezone.now()).values("pk")[:BATCH]
        count, _ = IdempotencyRecord.objects.filter(pk__in=expired).delete()
        forgotten += count
        if count < BATCH:
            return forgotten


@shared_task(name="accounts.forget_expired_sessions")
def forget_expired_sessions() -> int:
    """Delete the dashboard's expired sessions and expired invitations.

    Returns:
        The number of deleted sessions and invitations.
    """
    now = timezone.now()
    sessions, _ = Session.objects.filter(expire_date__lte=now).delete()
    invitations, _ = Invitation.objects.filter(expires_at__lte=now).delete()
    return sessions + invitations
