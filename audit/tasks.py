"""The periodic task that forgets old events."""

from celery import shared_task

from audit import retention


@shared_task(name="audit.forget_events")
def forget_events() -> int:
    """Delete events that are older than AUDIT_RETENTION_DAYS, in transactions of 1,000.

    Returns:
        The number of deleted events.
    """
    forgotten = 0
    while True:
        count = retention.forget()
        forgotten += count
        if count < retention.BATCH:
            return forgotten
