"""Holds: gateway_admin.urls, audit.recording

Every mutating endpoint of the URL map: it leaves its event, and where the audit cannot be written it writes nothing.

The endpoints come from the table that test_every_route holds against the URL map, so a new one is walked by itself.
"""

from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from accounts.models import Account
from accounts.principals import Principal
from audit.models import Event
from tests.contract.test_every_route import ROUTES, path_of
from tests.fixtures import Api
from tests.payments import StandIn, notice, send

# They answer a question; nothing is written.
QUESTIONS = {"access-keys/<str:id>/explain", "access-key-configurations/explain"}
# The payment provider acts, not the principal.
NOTICES = "webhooks/stripe"
# A PATCH that changes something.
CHANGES: dict[str, Any] = {"gateway-config": {"maxInputTokens": 10}}

WRITES = [
    pytest.param(method, route, id=f"{method} {route}")
    for route, told in sorted(ROUTES.items())
    for method in told.methods
    if method not in {"GET", "HEAD"} and route not in QUESTIONS
]


def request(method: str, route: str, path: str, api: Api, account: Account) -> Any:
    """Make a change that the endpoint accepts."""
    if route == NOTICES:
        return send(notice(account))
    body = {
        "POST": ROUTES[route].body,
        "PATCH": CHANGES.get(route, {"name": "changed"}),
    }
    return api.request(method, path, body.get(method), user_agent="a client")


def everything() -> dict[str, list[Any]]:
    """Every row of the database, the outbox and the idempotency records among them."""
    return {model._meta.label: sorted(model._default_manager.values_list(), key=repr) for model in apps.get_models()}


def break_table(table: str) -> None:
    """Let the database itself refuse every insert from now on."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT broken CHECK (false) NOT VALID")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


@pytest.mark.parametrize(("method", "route"), WRITES)
def test_a_write_leaves_an_event_with_who_and_from_where(
    method: str, route: str, api: Api, account: Account, principal: Principal, payments: StandIn
) -> None:
    path = path_of(route, api)
    before = set(Event.objects.values_list("id", flat=True))

    answer = request(method, route, path, api, account)

    assert answer.status_code < 300, answer.content
    [event] = Event.objects.exclude(id__in=before)
    assert event.account == account
    assert event.address == "127.0.0.1"
    if route == NOTICES:
        assert (event.principal_kind, event.principal_id) == ("system", "")
    else:
        assert (event.principal_kind, event.principal_id, event.user_agent) == ("api_key", principal.id, "a client")


@pytest.mark.parametrize("table", ["audit_event", "audit_pending"])
@pytest.mark.parametrize(("method", "route"), WRITES)
def test_a_write_that_the_audit_cannot_note_is_none(
    method: str, route: str, table: str, api: Api, account: Account, payments: StandIn
) -> None:
    # Notes the use of the API key, which it does once a minute.
    api.get("api-keys")
    path = path_of(route, api)
    before = everything()
    break_table(table)

    answer = request(method, route, path, api, account)

    assert answer.status_code == 500, answer.content
    assert everything() == before
