"""`manage.py import_sealed`: store the values that `python -m data_plane reseal` has sealed again."""

import itertools
import sys
import time
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from gateway_core import resealing as stream
from provider_keys import resealing
from providers.tasks import publish

_PROGRESS_SECONDS: Final = 1.0


class Command(BaseCommand):
    """Reads lines of `python -m data_plane reseal`. Values that it has stored stay stored, so it may be run again."""

    help = (
        "Read the values that `python -m data_plane reseal` has sealed again from standard input. Each replaces the "
        "blob that it was made from. A value that was rotated or deleted meanwhile is not changed. Exit status 1: the "
        "input was refused or incomplete; values that were stored stay stored, and the command may be run again."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        moved = passed_over = 0
        told = time.monotonic()
        try:
            _, values = stream.read(iter(lambda: sys.stdin.buffer.readline(stream.MAX_LINE + 1), b""))
            while chunk := list(itertools.islice(values, resealing.CHUNK)):
                became = resealing.take_back(chunk)
                moved += became.moved
                passed_over += became.passed_over
                if time.monotonic() - told >= _PROGRESS_SECONDS:
                    told = time.monotonic()
                    self.stderr.write(f"import_sealed: {moved} values moved …")
        except stream.StreamRefused as refusal:
            raise CommandError(f"{refusal} ({moved} values were moved.)") from None
        finally:
            publish()
        self.stdout.write(self.style.SUCCESS(f"{moved} values were moved to {resealing.present_key().id}."))
        if passed_over:
            self.stdout.write(f"{passed_over} were changed or deleted meanwhile and stay as they are.")
