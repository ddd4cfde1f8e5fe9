"""What may be late: forgetting what nobody may use again."""

from typing import Final

from celery import shared_task
from django.contrib.sessions.models import Session
from django.utils import timezone

from accounts.models import IdempotencyRecord, Invitation

# A row holds a whole answer; so many at a time keep the transaction short.
BATCH: Final = 1000


@shared_task(name="accounts.forget_expired_answers")
def forget_expired_answers() -> int:
    """Delete expired idempotency records. They are not used any more in any case (accounts.idempotency).

    Returns:
        How many there were.
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
    """Delete the dashboard's expired sessions, and invitations that nobody used.

    Returns:
        How many there were.
    """
    now = timezone.now()
    sessions, _ = Session.objects.filter(expire_date__lte=now).delete()
    invitations, _ = Invitation.objects.filter(expires_at__lte=now).delete()
    return sessions + invitations
