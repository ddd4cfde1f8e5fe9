"""`manage.py export_sealed`: write the sealed values that must still be moved to SEALING_PUBLIC_KEY."""

import sys
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction

from gateway_core.resealing import Ending, Heading, encode
from provider_keys import resealing


class Command(BaseCommand):
    """Writes one line per value for `python -m data_plane reseal`."""

    help = (
        "Write every stored value that is not sealed to the current SEALING_PUBLIC_KEY to standard output, for "
        "`python -m data_plane reseal`. The output is not secret. Exit status 0: it was written, even if it is empty."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--check",
            action="store_true",
            help="only count the values, by sealing key; exit status 1 if any must be moved",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            if options["check"]:
                self._check()
                return
            try:
                self._export()
            except BrokenPipeError:
                raise CommandError("The next command does not read the output any more; see its messages.") from None

    def _check(self) -> None:
        found = Counter(resealing.sealing_key_of(value.sealed) for value in resealing.values_to_move())
        present = resealing.present_key().id
        for key, count in sorted(found.items()):
            self.stdout.write(f"{count} values are sealed to {key}.")
        if found:
            raise CommandError(f"{found.total()} values have to be moved to {present}.")
        self.stdout.write(f"Every value is sealed to {present}.")

    def _export(self) -> None:
        if sys.stdout.isatty():
            raise CommandError("The output is for `python -m data_plane reseal`: pipe it there, or into a file.")
        output = sys.stdout.buffer
        output.write(encode(Heading(resealing.present_key().id)))
        count = 0
        for value in resealing.values_to_move():
            output.write(encode(value))
            count += 1
        output.write(encode(Ending(count)))
        output.flush()
        self.stderr.write(f"export_sealed: {count} values to move to {resealing.present_key().id}.")
