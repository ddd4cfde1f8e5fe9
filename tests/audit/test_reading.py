"""Holds: audit.models, audit.recording

Reading the audit: whose events, which of them, at what cost.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection, transaction

from access_keys.services import create_access_key, delete_access_key, update_access_key
from accounts.models import Account
from accounts.principals import Principal
from audit.actions import Action
from audit.models import Event, EventQuerySet
from audit.recording import record_act
from providers import managed

pytestmark = pytest.mark.django_db


def actions(events: EventQuerySet) -> list[str]:
    return list(events.values_list("action", flat=True))


def test_an_account_sees_its_own_events_and_no_others(account: Account, other_account: Account) -> None:
    managed.set_managed_key(provider="openai", value="sk-0123456789abcdefghijklmnop")

    found = Event.objects.of_account(account)

    assert actions(found) == ["api_key.created", "account.created"]
    assert actions(Event.objects.of_account(other_account)) == ["api_key.created", "account.created"]
    assert actions(Event.objects.of_operator()) == ["managed_key.set"]
    assert [event.object_name for event in found] == ["first", "Alice's"]


def test_events_are_narrowed_by_principal_action_object_and_time(account: Account, principal: Principal) -> None:
    bob = Principal(principal.id[:-1] + ("0" if principal.id[-1] != "0" else "1"), "bob")
    access_key = create_access_key(account=account, by=bob).access_key
    update_access_key(access_key=access_key, by=principal, name="n")
    delete_access_key(access_key=access_key, by=principal)
    found = Event.objects.of_account(account)
    deleted, updated, created, *_ = found

    assert actions(found.by_principal(bob.id)) == ["access_key.created"]
    assert actions(found.by_principal("")) == ["account.created"]
    assert actions(found.with_actions(Action.ACCESS_KEY_UPDATED, Action.API_KEY_CREATED)) == [
        "access_key.updated",
        "api_key.created",
    ]
    assert list(found.on_object(access_key.text_id)) == [deleted, updated, created]
    assert list(found.between(since=updated.at)) == [deleted, updated]
    assert deleted not in found.between(until=deleted.at)
    assert list(found.between(since=updated.at, until=deleted.at)) == [updated]
    assert list(found.between(until=created.at - timedelta(days=1))) == []
    assert next(iter(found.before(updated.id))) == created


QUERIES: dict[str, tuple[str, Callable[[EventQuerySet, Event], EventQuerySet]]] = {
    "a page": ("audit_newest_first", lambda found, event: found.before(event.id)),
    "a range of times": (
        "audit_newest_first",
        lambda found, event: found.between(event.at - timedelta(days=9), event.at - timedelta(days=8)),
    ),
    "an object": ("audit_of_an_object", lambda found, event: found.on_object("aigk_7")),
    "a principal": ("audit_of_a_principal", lambda found, event: found.by_principal("usr_7")),
}


@pytest.mark.parametrize("query", QUERIES)
def test_each_query_reads_its_index_in_order_and_sorts_nothing(account: Account, query: str) -> None:
    with transaction.atomic():
        record_act(None, Action.ACCOUNT_CREATED, account, changes={})
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO audit_event (id, account_id, at, principal_kind, principal_id, principal_name, action,"
            " object_id, object_name, changes, source) SELECT gen_random_uuid(), account_id, at, 'user',"
            " 'usr_' || n %% 50, '', action, 'aigk_' || n %% 500, '', changes, source"
            " FROM audit_event, generate_series(1, 5000) n WHERE action = 'account.created' AND account_id = %s",
            [account.id],
        )
        cursor.execute("ANALYZE audit_event")
    index, narrow = QUERIES[query]
    newest = Event.objects.of_account(account).first()
    assert newest is not None

    plan = narrow(Event.objects.of_account(account), newest)[:50].explain()

    assert index in plan
    assert "Sort" not in plan
