"""`manage.py verify_audit`: check that the audit is unchanged since it was written."""

import time
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from audit.chain import EMPTY, ChainHead, Verification

_PROGRESS_SECONDS: Final = 5.0


class Command(BaseCommand):
    """Checks the chain; the exit status is 1 if it is broken."""

    help = (
        "Check the chain of audit events from its beginning, report the first break, and print the head. Note the head "
        "elsewhere and give it as --head next time: then the end of the chain cannot be removed unnoticed either."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add --head."""
        parser.add_argument("--head", type=_head, metavar="NUMBER:HASH", help="a head that was printed earlier")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check the chain, and report progress every few seconds."""
        walk = Verification(noted=options["head"])
        reported_at = time.monotonic()
        for number in walk.run():
            if time.monotonic() - reported_at >= _PROGRESS_SECONDS:
                reported_at = time.monotonic()
                self.stderr.write(f"{number} links …")
        if walk.broken is not None:
            raise CommandError(f"The audit is broken. {walk.broken}. The last valid link is {walk.head}.")
        self.stdout.write(f"{walk.head.number - walk.start.number} events are chained and unchanged.")
        if walk.start != EMPTY:
            self.stdout.write(f"{walk.start.number} events before them were deleted by age, up to {walk.start}.")
        self.stdout.write(f"{walk.waiting} events wait to be chained by the relay.")
        self.stdout.write(f"head {walk.head}")


def _head(text: str) -> ChainHead:
    try:
        return ChainHead.parse(text)
    except ValueError:
        raise ArgumentTypeError("a head is NUMBER:HASH, as this command prints it") from None
