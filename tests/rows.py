"""Rows for tests of rooms that need things of another room, made without that room's services."""

from typing import Any

from django.db import connection

from accounts.models import Account
from gateway_core import ids
from providers.models import Provider
from tests.events import an_event
from usage import ingest
from usage.models import Event


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


def make_event(account: Account, **given: Any) -> Event:
    """A usage event of the account, ingested."""
    told = an_event(account, **given)
    ingest.write([told])
    with connection.cursor() as cursor:
        # What bounds ingest's own transaction would here end the test's, which may take its time.
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    return Event.objects.get(id=ids.from_text(ids.Prefix.USAGE_EVENT, told.id))
