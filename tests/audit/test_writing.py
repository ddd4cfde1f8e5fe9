"""Holds: audit.writing, snapshots.writing

A write locks, compares, publishes and records by itself, in one order.
"""

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from access_keys.models import AccessKey
from access_keys.services import create_access_key
from accounts.models import Account
from accounts.owned.services import apply_changes
from accounts.principals import Principal
from audit.actions import Action
from audit.models import Event
from configurations.models import Configuration
from configurations.services import create_configuration
from rest.errors import Conflict, NotFound, PreconditionFailed
from rest.preconditions import ANY, IfMatch
from snapshots.models import Change
from snapshots.writing import published

pytestmark = pytest.mark.django_db


@pytest.fixture
def access_key(account: Account, principal: Principal) -> AccessKey:
    return create_access_key(account=account, by=principal, name="before").access_key


def written() -> tuple[int, int]:
    """How many changes the outbox holds, and how many events the audit."""
    return Change.objects.count(), Event.objects.count()


def test_a_change_locks_before_it_reads_and_records_after_it_writes(
    access_key: AccessKey, principal: Principal
) -> None:
    with (
        CaptureQueriesContext(connection) as queries,
        published.changing(access_key, by=principal, action=Action.ACCESS_KEY_UPDATED) as row,
    ):
        apply_changes(row, by=principal, changes={"name": "after"})

    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    marks = ["FOR NO KEY UPDATE", 'UPDATE "access_keys', 'INSERT INTO "snapshots_change"', 'INSERT INTO "audit_event"']
    places = [next(place for place, sql in enumerate(statements) if mark in sql) for mark in marks]
    assert places == sorted(places)


def test_a_row_that_the_body_leaves_as_it_was_is_neither_published_nor_recorded(
    access_key: AccessKey, principal: Principal
) -> None:
    before = written()

    with published.changing(access_key, by=principal, action=Action.ACCESS_KEY_UPDATED, is_always_event=True):
        pass

    assert written() == before


def test_the_body_gets_the_row_as_it_is_now(access_key: AccessKey, principal: Principal) -> None:
    AccessKey.objects.update(name="changed meanwhile")

    with published.changing(access_key, by=principal, action=Action.ACCESS_KEY_UPDATED) as row:
        apply_changes(row, by=principal, changes={"name": "after"})

    event = Event.objects.order_by("-id")[0]
    assert event.changes == {"name": ["changed meanwhile", "after"]}


def rename(access_key: AccessKey, by: Principal, if_match: IfMatch = ANY, fault: Exception | None = None) -> None:
    """A service that may fail after its write."""
    with published.changing(access_key, by=by, action=Action.ACCESS_KEY_UPDATED, if_match=if_match) as row:
        apply_changes(row, by=by, changes={"name": "after"})
        if fault:
            raise fault


def delete(access_key: AccessKey, by: Principal, if_match: IfMatch) -> None:
    """A service that deletes."""
    published.delete(access_key, by=by, action=Action.ACCESS_KEY_DELETED, if_match=if_match)


def test_a_body_that_fails_leaves_nothing(access_key: AccessKey, principal: Principal) -> None:
    before = written()

    with pytest.raises(Conflict):
        rename(access_key, principal, fault=Conflict())

    access_key.refresh_from_db()
    assert (access_key.name, written()) == ("before", before)


@pytest.mark.parametrize("write", [rename, delete])
def test_another_state_than_the_expected_one_is_not_written(
    access_key: AccessKey, principal: Principal, write: Callable[..., None]
) -> None:
    before = written()

    with pytest.raises(PreconditionFailed):
        write(access_key, principal, IfMatch(frozenset({'"other"'})))

    access_key.refresh_from_db()
    assert (access_key.name, written()) == ("before", before)


def test_what_was_deleted_meanwhile_is_not_found(access_key: AccessKey, principal: Principal) -> None:
    published.delete(access_key, by=principal, action=Action.ACCESS_KEY_DELETED)

    with pytest.raises(NotFound):
        published.delete(access_key, by=principal, action=Action.ACCESS_KEY_DELETED)


def test_what_is_used_stays_with_neither_change_nor_event(account: Account, principal: Principal) -> None:
    configuration = create_configuration(account=account, by=principal, name="used")
    create_access_key(account=account, by=principal, configuration_id=configuration.id)
    before = written()

    with pytest.raises(Conflict):
        published.delete_unless_used(
            configuration,
            by=principal,
            action=Action.CONFIGURATION_DELETED,
            users=[AccessKey],
            in_use=Conflict,
        )

    assert (Configuration.objects.count(), written()) == (1, before)
