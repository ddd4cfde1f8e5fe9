"""`manage.py workers`: list the data-plane workers in the count, with their hosts."""

from typing import Any

from django.core.management.base import BaseCommand

from snapshots.redis_client import patient_store
from snapshots.workers import read_workers


class Command(BaseCommand):
    """Prints one line for each worker."""

    help = "List the data-plane workers that a write waits for, with their hosts. forget_worker removes one."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the workers and the newest change."""
        workers = read_workers(patient_store())
        for report in workers.reports:
            lag = workers.lag_of(report)
            self.stdout.write(
                f"{report.id}  {report.host}:{report.process}  release {report.release or '-'}  "
                f"position {report.position} ({'in another epoch' if lag is None else f'{lag} behind'})  "
                f"{'in sync' if report.is_in_sync else 'NOT IN SYNC'}  "
                f"last report {workers.seconds_since(report.heartbeat_at):.1f} s ago  "
                f"{report.requests} requests  {report.refusals} refusals  {len(report.behind)} behind"
            )
        self.stdout.write(f"{len(workers.reports)} in the count; the newest change is {workers.epoch.number}")
