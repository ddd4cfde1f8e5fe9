"""Whether the relay, Celery's workers and beat do their work: each success leaves its time in PostgreSQL.

Requests publish what they write, so a dead relay does not show in any queue. A scrape of `/metrics` reads how long each
has been silent (docs/operations.md).
"""

import time
from collections.abc import Callable
from typing import Any, Final

import structlog
from django.conf import settings
from django.db import Error as DatabaseFault
from django.db import connection, models
from django.db.migrations.recorder import MigrationRecorder
from django.db.models.functions import Extract, Now

from gateway_admin.models import Heartbeat

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# The threads of the relay.
RELAY: Final = ("relay.publishing", "relay.repairing", "relay.comparing", "relay.chaining")
# A process writes a heartbeat at most as often.
EVERY_SECONDS: Final = 5.0

_written: dict[str, float] = {}


def expected() -> list[str]:
    """Every name that should beat: the relay's threads, and the tasks of beat's schedule."""
    return [*RELAY, *sorted(entry["task"] for entry in settings.CELERY_BEAT_SCHEDULE.values())]


def beat(name: str) -> None:
    """Note a success.

    Raises:
        DatabaseFault: PostgreSQL does not answer, or takes no writes.
    """
    now = time.monotonic()
    if now - _written.get(name, -EVERY_SECONDS) < EVERY_SECONDS:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO gateway_admin_heartbeat (name, beat_at) VALUES (%s, clock_timestamp())"
            " ON CONFLICT (name) DO UPDATE SET beat_at = excluded.beat_at",
            [name],
        )
    _written[name] = now


def beating(name: str) -> Callable[[], None]:
    """A look of the relay that notes that the looks before it have succeeded."""

    def look() -> None:
        beat(name)

    return look


def beat_of_task(*, sender: Any, **_signal: Any) -> None:
    """Celery's signal `task_success`: note that a periodic task was done."""
    if sender.name in expected():
        try:
            beat(sender.name)
        except DatabaseFault as fault:
            log.warning("a heartbeat was not written", task=sender.name, fault=type(fault).__name__)


def silent_seconds() -> dict[str, float]:
    """The seconds since the last success, by name. Where there was none yet: since heartbeats can be stored.

    So a task that is done once a day raises no alarm on the first day of a deployment.
    """
    found = dict(Heartbeat.objects.annotate(age=_age_of("beat_at")).values_list("name", "age"))
    migrations = MigrationRecorder.Migration.objects.filter(app="gateway_admin")
    first = migrations.order_by("id").annotate(age=_age_of("applied")).values_list("age", flat=True)[0]
    return {name: max(0.0, found.get(name, first)) for name in expected()}


def _age_of(column: str) -> Extract:
    return Extract(Now() - models.F(column), "epoch", output_field=models.FloatField())
