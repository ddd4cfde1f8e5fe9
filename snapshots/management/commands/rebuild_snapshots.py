"""`manage.py rebuild_snapshots`: write everything in Redis again from PostgreSQL, or list the differences."""

import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import Account
from gateway_core import ids
from snapshots import comparison, rebuild
from snapshots.redis_client import patient_store

PROGRESS_SECONDS = 1.0


class Command(BaseCommand):
    """Rebuilds Redis, publishes one account again, or only compares."""

    help = (
        "Write everything in Redis again from PostgreSQL. Meanwhile publications wait, and workers use the documents "
        "that they hold; a worker that does not hold an account answers 503 for it. If PostgreSQL was restored from a "
        "backup, run after_restore first: this command loses the keys that were revoked since the backup."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add --compare and --account."""
        parser.add_argument(
            "--compare",
            action="store_true",
            help="change nothing; list every document that differs; the exit status is 1 if any does",
        )
        parser.add_argument("--account", metavar="ac_…", help="only this account; the others are not disturbed")

    def handle(self, *args: Any, **options: Any) -> None:
        """Compare, publish one account again, or rebuild."""
        account = self._account(options["account"]) if options["account"] else None
        if options["compare"]:
            self._compare(account)
        elif account is not None:
            documents = comparison.repair(patient_store(), [account])
            self.stdout.write(f"{documents} documents of {account.text_id} were published again.")
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
        self.stdout.write("Redis and PostgreSQL agree.")

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
