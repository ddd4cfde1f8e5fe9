"""`manage.py verify_audit`: prove that the audit is what it was when it was written."""

import time
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from audit.chain import ChainHead, Verification

_PROGRESS_SECONDS: Final = 5.0


class Command(BaseCommand):
    """Exits with 1 where the chain does not hold."""

    help = (
        "Walk the chain of audit events from its beginning, name the first break, and print the head. Note the head "
        "elsewhere, and give it as --head next time: then the end of the chain cannot be cut off unnoticed either."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        parser.add_argument("--head", type=_head, metavar="NUMBER:HASH", help="a head that was printed earlier")

    def handle(self, *args: Any, **options: Any) -> None:
        """Walk, and tell."""
        walk = Verification(noted=options["head"])
        told = time.monotonic()
        for number in walk.run():
            if time.monotonic() - told >= _PROGRESS_SECONDS:
                told = time.monotonic()
                self.stderr.write(f"{number} links …")
        if walk.broken is not None:
            raise CommandError(f"The audit is broken. {walk.broken}. The chain holds as far as {walk.head}.")
        self.stdout.write(f"{walk.head.number} events are chained and unchanged.")
        self.stdout.write(f"{walk.waiting} wait to be chained by the relay.")
        self.stdout.write(f"head {walk.head}")


def _head(text: str) -> ChainHead:
    try:
        return ChainHead.parse(text)
    except ValueError:
        raise ArgumentTypeError("a head is NUMBER:HASH, as this command prints it") from None
