"""Accounts, their API keys, and the records of what was answered to them."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Makes this room the keeper of idempotency records."""

    name = "accounts"

    def ready(self) -> None:
        """Wire what rest leaves to this room."""
        from accounts.idempotency import answer_once
        from rest.idempotency import keep_records_with

        keep_records_with(answer_once)
