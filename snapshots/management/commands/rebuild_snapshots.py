"""`manage.py rebuild_snapshots`: write everything in Redis anew from PostgreSQL, or see what differs."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Account
from gateway_core import ids
from snapshots import comparison, rebuild
from snapshots.redis_client import patient_store

PROGRESS_SECONDS = 1.0


class Command(BaseCommand):
    """Rebuilds, repairs one account, or only compares."""

    help = (
        "Write everything in Redis anew from PostgreSQL. While this runs, publications wait and workers go on with "
        "what they hold; one that does not hold an account answers 503 for it. After PostgreSQL was restored from a "
        "backup run after_restore first: this forgets what was revoked since."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """The options."""
        parser.add_argument(
            "--compare",
            action="store_true",
            help="change nothing; list every document that differs, with exit status 1 where any does",
        )
        parser.add_argument("--account", metavar="ac_…", help="only this account; the others go on undisturbed")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what the options say."""
        account = self._account(options["account"]) if options["account"] else None
        if options["compare"]:
            self._compare(account)
        elif account is not None:
            documents = comparison.repair(patient_store(), [account])
            self.stdout.write(f"{documents} documents of {account.text_id} were published anew.")
        else:
            self._rebuild()

    def _account(self, text: str) -> Account:
        try:
            return Account.objects.get(id=ids.from_text(ids.Prefix.ACCOUNT, text))
        except (ids.InvalidId, Account.DoesNotExist):
            raise CommandError(f"There is no account {text}.") from None

    def _compare(self, account: Account | None) -> None:
        count = 0
        for difference in comparison.compare(patient_store(), None if account is None else [account]):
            count += 1
            self.stdout.write(str(difference))
        if count:
            raise CommandError(f"{count} documents differ.")
        self.stdout.write("Redis holds what PostgreSQL says.")

    def _rebuild(self) -> None:
        began = told = time.monotonic()

        def report(accounts: int, documents: int) -> None:
            nonlocal told
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                self.stdout.write(f"{accounts} accounts, {documents} documents …")
                self.stdout.flush()

        try:
            accounts, documents = rebuild.rebuild(patient_store(), report=report)
        except (rebuild.RebuildRunning, rebuild.RebuildOvertaken) as fault:
            raise CommandError(str(fault)) from None
        self.stdout.write(f"{accounts} accounts, {documents} documents in {time.monotonic() - began:.1f} s.")
