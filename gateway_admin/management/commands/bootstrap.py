"""Makes the first account of a new installation, with a user and an API key."""

import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from accounts.models import Membership, User
from accounts.principals import Principal
from accounts.services import add_member, create_account, create_api_key, create_user, reset_password


class Command(BaseCommand):
    """Writes NAME=value lines to standard output. They are secrets and cannot be shown again."""

    help = (
        "Make an account, a dashboard user who owns it, and an API key, and print AI_GATEWAY_ACCOUNT_ID, "
        "AI_GATEWAY_API_KEY, DASHBOARD_USER and DASHBOARD_PASSWORD. A user that exists already gets a new "
        "password, and its account another API key."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--account", default="Default", help="the new account's name (%(default)s)")
        parser.add_argument("--username", default="admin", help="the user's name in the dashboard (%(default)s)")
        parser.add_argument("--email", default="", help="the user's address; may stay empty")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        password = secrets.token_urlsafe(18)
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            account = create_account(name=options["account"])
            user = create_user(
                username=options["username"],
                email=options["email"],
                password=password,
                account=account,
                role=Membership.Role.OWNER,
            )
        else:
            member = self._membership_of(user, name=options["account"])
            account = member.account
            reset_password(user=user, password=password)
        issued = create_api_key(account=account, by=Principal.of(user), name="First API key")
        for name, value in (
            ("AI_GATEWAY_ACCOUNT_ID", account.text_id),
            ("AI_GATEWAY_API_KEY", issued.token),
            ("DASHBOARD_USER", user.username),
            ("DASHBOARD_PASSWORD", password),
        ):
            self.stdout.write(f"{name}={value}")

    @staticmethod
    def _membership_of(user: User, *, name: str) -> Membership:
        """The user's membership in the oldest account that they own, or in a new account called `name`."""
        owned = user.memberships.filter(role=Membership.Role.OWNER).select_related("account").order_by("account_id")
        return owned.first() or add_member(account=create_account(name=name), user=user, role=Membership.Role.OWNER)
