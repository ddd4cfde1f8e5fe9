"""`manage.py forget_worker ID …`: remove workers that will not come back from the count."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from snapshots.redis_client import patient_store
from snapshots.workers import forget_worker


class Command(BaseCommand):
    """Removes workers from the count at once; a killed worker would stay in it until its staleness limit."""

    help = "Remove workers that will not come back from the count that writes wait for. A live worker enters it again."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the worker IDs."""
        parser.add_argument("id", nargs="+", help="as manage.py workers lists it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Remove the workers from the count, and report unknown IDs."""
        unknown = [worker for worker in options["id"] if not forget_worker(worker, patient_store())]
        if unknown:
            raise CommandError(f"not in the count: {', '.join(unknown)}")
