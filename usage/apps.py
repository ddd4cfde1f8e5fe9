"""What was used, and what it cost."""

from django.apps import AppConfig


class UsageConfig(AppConfig):
    """Provides the ledger: whether an account has credits is one of its settings."""

    name = "usage"

    def ready(self) -> None:
        """Provide it, once the models are there."""
        from account_settings.credits import LEDGER
        from usage.ledger import accounts_with_credits

        LEDGER.provide(accounts_with_credits)
