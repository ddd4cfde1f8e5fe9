"""What was used, and what it cost."""

from django.apps import AppConfig


class UsageConfig(AppConfig):
    """Tells the account's settings whether it has credits."""

    name = "usage"

    def ready(self) -> None:
        """Register the ledger."""
        from account_settings import credits as settings_credits
        from usage.ledger import accounts_with_credits

        settings_credits.register(accounts_with_credits)
