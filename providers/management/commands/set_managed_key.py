"""`manage.py set_managed_key <provider>`: the operator's own upstream key, for managed inference."""

import getpass
import sys
from argparse import SUPPRESS
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from providers import managed
from providers.tasks import publish

_LONGEST: Final = 64 * 1024


class Command(BaseCommand):
    """Reads the key from standard input or a file, so that it is in no process list, shell history or log."""

    help = (
        "Store the operator's own key for a built-in provider, sealed for the data plane, and offer managed inference "
        f"with it ({', '.join(managed.MANAGED)}). The key comes from standard input or a file, never from an argument."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", help=f"the provider's ID: {' or '.join(managed.MANAGED)}")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--file", type=Path, help="read the key from this file instead of standard input")
        source.add_argument("--remove", action="store_true", help="forget the key; no more managed inference with it")
        # Caught here: the parser's own complaint would repeat what may be a key.
        parser.add_argument("value", nargs="*", help=SUPPRESS)

    def handle(self, *args: Any, **options: Any) -> None:
        if options["value"]:
            raise CommandError(
                "Do not pass a key as an argument: other users can see arguments. Give it on standard input or by "
                "--file. Treat the key that you typed as exposed."
            )
        provider = options["provider"]
        try:
            if options["remove"]:
                managed.remove_managed_key(provider=provider)
                done = f"The key for {provider} is removed."
            else:
                key = managed.set_managed_key(provider=provider, value=_read(options["file"]))
                done = f"The key for {provider} is stored: {key.key_redacted}"
        except managed.ManagedKeyRefused as refusal:
            raise CommandError(str(refusal)) from None
        publish()
        self.stdout.write(self.style.SUCCESS(done))


def _read(file: Path | None) -> str:
    """Read the key from the file, the terminal or standard input.

    Raises:
        CommandError: it cannot be read. The text names the file and does not contain its content.
    """
    try:
        if file is not None:
            with file.open(encoding="utf-8") as opened:
                return opened.read(_LONGEST)
        if sys.stdin.isatty():
            return getpass.getpass("Key: ")
        return sys.stdin.read(_LONGEST)
    except (OSError, UnicodeDecodeError) as fault:
        raise CommandError(f"{file or 'Standard input'} cannot be read: {type(fault).__name__}.") from None
