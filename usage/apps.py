"""The app of usage, costs and credits."""

from django.apps import AppConfig


class UsageConfig(AppConfig):
    """Provides the ledger. The settings of an account in its snapshot say whether it has credits."""

    name = "usage"

    def ready(self) -> None:
        """Register the ledger once the models are loaded."""
        from account_settings.credits import LEDGER
        from usage.ledger import accounts_with_credits

        LEDGER.provide(accounts_with_credits)
