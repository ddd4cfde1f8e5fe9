"""Accounts, their members and API keys, and the recorded answers to requests with an Idempotency-Key."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The app."""

    name = "accounts"
