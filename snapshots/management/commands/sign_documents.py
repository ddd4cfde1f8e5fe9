"""`manage.py sign_documents`: sign the documents in Redis with the first of DOCUMENT_KEYS, to withdraw another key."""

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
    """Signs documents, or only counts which key has signed how many."""

    help = (
        "Sign every document in Redis with the first of DOCUMENT_KEYS. Workers and writers are not disturbed. It signs "
        "only documents that one of DOCUMENT_KEYS has signed: if a key has leaked, run rebuild_snapshots instead. Exit "
        "status 1: some documents are signed with another key, or Redis did not answer. It may be run again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --check."""
        parser.add_argument(
            "--check",
            action="store_true",
            help="change nothing; count the signatures of each key; exit status 1 if one is not the first key",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Sign, or count with --check."""
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
                self.stdout.write(f"{seen} documents seen, {signed} signed again …")
                self.stdout.flush()

        became = signing.sign_anew(patient_store(), report=report)
        self.stdout.write(self.style.SUCCESS(f"{became.signed} documents were signed with {document_keys().ids[0]}."))
        if became.refused:
            raise CommandError(
                f"{became.refused} documents are signed with none of DOCUMENT_KEYS and stay as they are. "
                "`rebuild_snapshots` writes them again."
            )
