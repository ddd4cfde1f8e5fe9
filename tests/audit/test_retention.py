"""Holds: audit.retention

What is older than the retention goes from the chain's beginning, and what is kept is still proven.
"""

from typing import Any

import pytest
from django.core.management import CommandError
from django.db import IntegrityError, connection, transaction

from accounts.models import Account
from audit import chain, retention
from audit.actions import Action
from audit.models import Event, Link, PendingEvent
from audit.tasks import forget_events
from tests.audit.test_chain import behind_the_triggers, verify, write

pytestmark = pytest.mark.django_db


AGED = """
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE audit_event DISABLE TRIGGER USER;
UPDATE audit_event SET at = at - make_interval(days => {}) WHERE id IN (SELECT event_id FROM audit_pending);
ALTER TABLE audit_event ENABLE TRIGGER USER;
ALTER TABLE audit_event DISABLE TRIGGER audit_events_are_not_truncated;
"""


def aged(events: int, *, days: int) -> None:
    """Make events of an account that are so old, and chain them."""
    write(Account.objects.create(name="Alice's"), events)
    with connection.cursor() as cursor:
        cursor.execute(AGED.format(days))
    while chain.extend():
        pass


def numbers() -> list[int]:
    return list(Link.objects.order_by("number").values_list("number", flat=True))


def test_old_events_go_and_the_others_are_still_proven(settings: Any) -> None:
    settings.AUDIT_RETENTION_DAYS = 100
    aged(4, days=101)
    aged(3, days=99)
    last = Link.objects.get(number=4)

    assert forget_events() == 4

    assert numbers() == [5, 6, 7]
    told = Event.objects.get(action=Action.AUDIT_FORGOTTEN)
    assert told.changes == {"head": [None, f"4:{bytes(last.hash).hex()}"]}
    assert verify().splitlines()[:2] == [
        "3 events are chained and unchanged.",
        f"4 events before them were deleted by age, up to 4:{bytes(last.hash).hex()}.",
    ]
    assert chain.extend() == 1
    assert numbers() == [5, 6, 7, 8]
    assert "4 events are chained" in verify()
    assert forget_events() == 0


def test_the_chain_goes_on_after_every_event_was_old(settings: Any) -> None:
    settings.AUDIT_RETENTION_DAYS = 100
    aged(5, days=101)

    assert forget_events() == 4
    chain.extend()

    assert numbers() == [5, 6]
    assert "2 events are chained" in verify()


def test_it_goes_in_small_transactions_and_the_newest_mark_counts(settings: Any) -> None:
    settings.AUDIT_RETENTION_DAYS = 100
    aged(7, days=101)
    aged(1, days=1)

    assert [retention.forget(3) for _ in range(4)] == [3, 3, 1, 0]

    assert "1 events are chained" in verify()
    assert Event.objects.filter(action=Action.AUDIT_FORGOTTEN).count() == 3
    assert PendingEvent.objects.count() == 3


def test_zero_keeps_everything(settings: Any) -> None:
    settings.AUDIT_RETENTION_DAYS = 0
    aged(2, days=9999)

    assert forget_events() == 0
    assert numbers() == [1, 2]


def test_no_event_of_the_last_thirty_days_goes_whatever_the_setting_says(settings: Any) -> None:
    settings.AUDIT_RETENTION_DAYS = 1
    aged(2, days=29)
    aged(1, days=0)

    assert forget_events() == 0
    for rows in (Link.objects.all(), Event.objects.all()):
        with pytest.raises(IntegrityError, match="the audit only grows"), transaction.atomic():
            rows._raw_delete(rows.db)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        # A beginning that went without its mark, and a mark that does not fit.
        ("DELETE FROM audit_event WHERE action = 'audit.forgotten'", "link 1: the link is missing"),
        (
            """UPDATE audit_event SET changes = jsonb_set(changes, '{head,1}', to_jsonb('3:' || repeat('0', 64)))
            WHERE action = 'audit.forgotten'""",
            "link 4, event .*: the event or its link was changed",
        ),
        ("UPDATE audit_event SET object_id = '2' WHERE action = 'audit.forgotten'", "link 1: the link is missing"),
        ("UPDATE audit_event SET changes = '[]' WHERE action = 'audit.forgotten'", "link 1: the link is missing"),
        ("DELETE FROM audit_link WHERE number = 4", "link 1: the link is missing"),
    ],
)
def test_a_beginning_that_did_not_go_by_age_is_named(settings: Any, statement: str, told: str) -> None:
    settings.AUDIT_RETENTION_DAYS = 100
    aged(3, days=101)
    aged(3, days=1)
    forget_events()

    behind_the_triggers(statement)

    with pytest.raises(CommandError, match=told):
        verify()


def test_a_noted_head_that_is_kept_is_found_and_an_older_one_is_named(settings: Any) -> None:
    settings.AUDIT_RETENTION_DAYS = 100
    aged(3, days=101)
    aged(3, days=1)
    heads = [
        str(chain.ChainHead(number, bytes(digest))) for number, digest in Link.objects.values_list("number", "hash")
    ]
    forget_events()

    assert all(verify("--head", head) for head in heads[2:])
    with pytest.raises(CommandError, match="link 2: the noted head is older than the events that are kept"):
        verify("--head", heads[1])
    with pytest.raises(CommandError, match="link 3: the noted head is not in the chain"):
        verify("--head", f"3:{'0' * 64}")
