"""What was used, and what it cost."""

from django.apps import AppConfig


class UsageConfig(AppConfig):
    """Tells the account's settings whether it has credits."""

    name = "usage"
