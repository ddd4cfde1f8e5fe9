"""Gives a user a new password when the old one or the phone with the authenticator app is lost."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.models import User
from dashboard.sign_in import reset


class Command(BaseCommand):
    """Writes the new password to standard output. It cannot be shown again."""

    help = (
        "Give a dashboard user a new password and print it, forget the user's authenticator app, and end the user's "
        "sessions."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="as they sign in")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError("There is no such user.")
        self.stdout.write(f"DASHBOARD_PASSWORD={reset(user)}")
