"""`manage.py sign_documents`: sign what lies in Redis with the first of DOCUMENT_KEYS, before another is withdrawn."""

import time
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser
from redis.exceptions import RedisError

from snapshots import signing
from snapshots.redis_client import document_keys, patient_store

_PROGRESS_SECONDS: Final = 1.0
_KINDS: Final = {
    "documents": "documents are signed with",
    "workers": "workers sign with",
    "usage": "batches of usage wait that are signed with",
}


class Command(BaseCommand):
    """Signs, or only says what is signed with which key."""

    help = (
        "Sign every document in Redis with the first of DOCUMENT_KEYS. Workers and writers notice nothing. It signs "
        "only what one of DOCUMENT_KEYS has signed: if a key has leaked, run rebuild_snapshots instead. Exit status 1: "
        "there were documents that no key of ours has signed, or Redis did not answer; it may be run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The option."""
        parser.add_argument(
            "--check",
            action="store_true",
            help="change nothing; count what each key has signed, with exit status 1 while there is any but the first",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the option says."""
        try:
            if options["check"]:
                self._check()
            else:
                self._sign()
        except RedisError as fault:
            raise CommandError(f"Redis does not answer: {type(fault).__name__}.") from None

    def _check(self) -> None:
        present = document_keys().ids[0]
        others = False
        for (kind, key), count in sorted(signing.count_by_key(patient_store()).items()):
            self.stdout.write(f"{count} {_KINDS[kind]} {key or 'none'}.")
            others |= key != present
        if others:
            raise CommandError(f"Not everything is signed with {present} yet.")
        self.stdout.write(f"Everything is signed with {present}.")

    def _sign(self) -> None:
        told = time.monotonic()

        def report(seen: int, signed: int) -> None:
            nonlocal told
            if time.monotonic() - told >= _PROGRESS_SECONDS:
                told = time.monotonic()
                self.stdout.write(f"{seen} documents seen, {signed} signed anew …")
                self.stdout.flush()

        became = signing.sign_anew(patient_store(), report=report)
        self.stdout.write(self.style.SUCCESS(f"{became.signed} documents were signed with {document_keys().ids[0]}."))
        if became.refused:
            raise CommandError(
                f"{became.refused} documents are signed with none of DOCUMENT_KEYS and stay as they are. "
                "`rebuild_snapshots` writes them anew."
            )
