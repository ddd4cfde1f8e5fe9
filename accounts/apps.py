"""Accounts, their members and API keys, and the recorded answers to requests with an Idempotency-Key."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """Names the app for Django."""

    name = "accounts"
