"""`manage.py grant_credits <account> <cents>`: give credits to an account, as a line in its ledger."""

from argparse import ArgumentParser
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Account
from gateway_core import ids
from rest.errors import GatewayError
from usage import ledger
from usage.models import LedgerEntry


class Command(BaseCommand):
    """Asks before it writes: an entry of the ledger cannot be taken back."""

    help = (
        "Give credits to an account, to pay managed inference with. It asks first: an entry of the ledger cannot be "
        "taken back."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the account, the cents and the options."""
        parser.add_argument("account", help="The account's ID (ac_…), or its name where only one has it.")
        parser.add_argument("cents", type=int, help="How many cents, at least 1.")
        parser.add_argument(
            "--category",
            choices=LedgerEntry.Category.values,
            default=LedgerEntry.Category.PURCHASE,
            help="How the account's transactions call them (%(default)s).",
        )
        parser.add_argument(
            "--expires",
            type=datetime.fromisoformat,
            help="When what is left is lost: 2027-01-31, or with a time; never, if not given.",
        )
        parser.add_argument("--reference", help="What they are for; the same reference grants once.")
        parser.add_argument("--yes", action="store_true", help="Do not ask.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Find the account, ask, grant."""
        account = _account(options["account"])
        cents, category, expires = options["cents"], options["category"], options["expires"]
        if expires is not None:
            expires = expires if expires.tzinfo else expires.replace(tzinfo=UTC)
        until = f", until {expires.isoformat()}" if expires else ""
        self.stdout.write(f"{cents} cents ({category}{until}) for {account.name}, {account.text_id}")
        if not options["yes"] and input("An entry of the ledger cannot be taken back. Grant? [y/N] ").lower() != "y":
            raise CommandError("Nothing was granted.")
        try:
            ledger.grant(
                account=account, cents=cents, category=category, expires_at=expires, reference=options["reference"]
            )
        except GatewayError as refusal:
            raise CommandError(str(refusal)) from None
        balance = ledger.whole_cents(ledger.balance_of(account))
        self.stdout.write(self.style.SUCCESS(f"Granted. The balance is {balance} cents."))


def _account(text: str) -> Account:
    try:
        found = list(Account.objects.filter(id=ids.from_text(ids.Prefix.ACCOUNT, text)))
    except ids.InvalidId:
        found = list(Account.objects.filter(name=text)[:2])
    if not found:
        raise CommandError("There is no such account.")
    if len(found) > 1:
        raise CommandError("Several accounts have this name; give the ID.")
    return found[0]
