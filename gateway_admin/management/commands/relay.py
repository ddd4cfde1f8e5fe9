"""`manage.py relay`: publish what no request could, and keep Redis what PostgreSQL says. One small process, or two."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from gateway_admin.relay import Relay
from snapshots.redis_client import patient_store


class Command(BaseCommand):
    """Runs until SIGTERM or SIGINT."""

    help = (
        "Publish pending changes to Redis, rebuild it where something is lost, and chain the audit. Runs until "
        "SIGTERM; one is enough, two are safe."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Run one relay."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Relay(patient_store(), stop).run()
