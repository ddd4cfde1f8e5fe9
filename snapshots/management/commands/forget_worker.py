"""`manage.py forget_worker ID …`: take workers that are gone for good out of the count."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from snapshots.redis_client import patient_store
from snapshots.workers import forget_worker


class Command(BaseCommand):
    """A worker that was killed stays in the count until its staleness limit; this is for who does not want to wait."""

    help = "Take workers that are gone for good out of the count that writes wait for. One that lives comes back."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """The workers."""
        parser.add_argument("id", nargs="+", help="as manage.py workers lists it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Forget them."""
        unknown = [worker for worker in options["id"] if not forget_worker(worker, patient_store())]
        if unknown:
            raise CommandError(f"not in the count: {', '.join(unknown)}")
