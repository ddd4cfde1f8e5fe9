"""Rows for tests of rooms that need things of another room, made without that room's services."""

from typing import Any

from accounts.models import Account
from gateway_core import ids
from providers.models import Provider


def make_provider(account: Account, slug: str = "my-ollama", **columns: Any) -> Provider:
    """A custom provider of the account."""
    nobody = ids.to_text(ids.Prefix.USER, ids.new_id())
    return Provider.objects.create(
        account=account,
        slug=slug,
        **{
            "name": slug,
            "base_url": "http://ollama.internal:11434/v1",
            "created_by": nobody,
            "last_updated_by": nobody,
            **columns,
        },
    )
