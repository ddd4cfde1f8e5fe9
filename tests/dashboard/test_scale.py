"""Holds: dashboard.pages

No page asks more questions of the database because there is more in it.
"""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access_keys.models import AccessKey
from accounts import services
from configurations.services import create_configuration
from dashboard.pages import PAGES
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from tests.events import an_event
from tests.rows import make_provider
from usage import ingest

pytestmark = pytest.mark.django_db

MOST_QUERIES = 15
# Pages of one object, and what only takes a POST or leads on, are walked in test_every_page.
LISTS = sorted(page.path for page in PAGES if "<" not in page.path and not page.path.endswith(".csv"))


def fill(account, principal, count):
    """So many more of everything that a list shows."""
    now = datetime.now(UTC)
    for number in range(count):
        name = f"{count}-{number}"
        make_provider(account, f"own-{name}")
        create_provider_key(
            account=account, by=principal, provider_id="openai", name=name, value=PlainValue("sk-" + "x" * 30)
        )
        configuration = create_configuration(
            account=account, by=principal, name=name, access={"providers": {"allow": ["openai", f"own-{name}"]}}
        )
        AccessKey.objects.create(
            account=account,
            configuration=configuration,
            name=name,
            digest=f"{count:032x}{number:032x}",
            key_redacted="gwk_abc***wxyz",
            created_by=principal.id,
            last_updated_by=principal.id,
        )
        services.create_api_key(account=account, by=principal, name=name)
        services.create_user(username=f"user-{name}", email="", password="x", account=account, role="viewer")
    keys = list(AccessKey.objects.filter(account=account))
    ingest.write(
        [
            an_event(
                account, at=now - timedelta(hours=n % 700), access_key=keys[n % len(keys)].text_id, provider=provider
            )
            for n in range(count * 20)
            for provider in ("openai", "groq")
        ]
    )
    with connection.cursor() as cursor:
        # What bounds ingest's own transaction would here end the test's.
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")


def queries(client, path):
    with CaptureQueriesContext(connection) as captured:
        answer = client.get(f"/dashboard/{path}")
    assert answer.status_code in {200, 302, 404, 405}, path
    return len(captured)


def test_no_lists_queries_grow_with_its_table(account, principal):
    services.create_user(username="alice", email="", password="x", account=account, role="owner")
    client = Client()
    client.force_login(account.memberships.get(user__username="alice").user)
    fill(account, principal, 3)
    few = {path: queries(client, path) for path in LISTS}

    fill(account, principal, 30)
    many = {path: queries(client, path) for path in LISTS}

    assert {path: count for path, count in many.items() if count > few[path]} == {}
    assert max(many.values()) <= MOST_QUERIES, many
