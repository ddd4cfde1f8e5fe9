"""The app of usage, costs and credits."""

from django.apps import AppConfig


class UsageConfig(AppConfig):
    """Provides the ledger: whether an account has credits is one of its settings."""

    name = "usage"

    def ready(self) -> None:
        """Register the ledger once the models are loaded."""
        from account_settings.credits import LEDGER
        from usage.ledger import accounts_with_credits

        LEDGER.provide(accounts_with_credits)
