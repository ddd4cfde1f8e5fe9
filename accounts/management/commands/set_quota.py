"""`manage.py set_quota <account> [name=limit …]`: show the quotas of an account, or set limits of its own."""

from argparse import ArgumentParser, ArgumentTypeError
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Account
from accounts.quota_limits import Quota, limit_of, quota_of
from accounts.quotas import set_limits, uses_of
from gateway_core import ids

_DEFAULT: Final = "default"


class Command(BaseCommand):
    """Sets limits for one account, and prints all of its quotas."""

    help = "Set how many objects one account may have, and print what it has. What is above a limit stays."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Add the account and the limits."""
        parser.add_argument("account", help="The account's ID (ac_…).")
        parser.add_argument(
            "limits",
            nargs="*",
            type=_limit,
            metavar="NAME=LIMIT",
            help="A quota and its limit, or `default` for the limit of the deployment (the setting QUOTAS).",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Find the account, set, print."""
        account = _account(options["account"])
        set_limits(account.id, dict(options["limits"]))
        for use in uses_of(account.id):
            used = "each" if use.used is None else use.used
            self.stdout.write(f"{use.name:26} {used:>12} of {use.limit}")


def _limit(text: str) -> tuple[Quota, int | None]:
    name, _, limit = text.partition("=")
    try:
        return quota_of(name), None if limit == _DEFAULT else limit_of(limit)
    except ValueError as fault:
        raise ArgumentTypeError(str(fault)) from None


def _account(text: str) -> Account:
    try:
        found = Account.objects.filter(id=ids.from_text(ids.Prefix.ACCOUNT, text)).first()
    except ids.InvalidId:
        found = None
    if found is None:
        raise CommandError("There is no such account.")
    return found
