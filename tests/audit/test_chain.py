"""Holds: audit.chain

The chain: whatever is done to the audit behind the triggers' back is found, and named.
"""

import threading
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction

from accounts.models import Account
from audit import chain
from audit.actions import Action
from audit.models import Event, Link, PendingEvent
from audit.recording import record_act
from tests.rivals import in_background, uncommitted

pytestmark = pytest.mark.django_db


def write(account: Account, count: int) -> None:
    with transaction.atomic():
        for number in range(count):
            record_act(None, Action.API_KEY_UPDATED, account, changes={"name": [None, f"ü {number}"], "x": [1.5, {}]})


@pytest.fixture
def chained(db: None) -> Account:
    """An account with five chained events, and two that wait."""
    account = Account.objects.create(name="Alice's")
    write(account, 5)
    assert chain.extend() == 5
    write(account, 2)
    return account


def verify(*arguments: str) -> str:
    written = StringIO()
    call_command("verify_audit", *arguments, stdout=written, stderr=StringIO())
    return written.getvalue()


UNGUARDED = """
SET CONSTRAINTS ALL IMMEDIATE;
ALTER TABLE audit_event DISABLE TRIGGER USER;
ALTER TABLE audit_link DISABLE TRIGGER USER;
DO $$ DECLARE reference record; BEGIN
    FOR reference IN SELECT conname, conrelid::regclass AS place FROM pg_constraint
        WHERE contype = 'f' AND conrelid IN ('audit_link'::regclass, 'audit_pending'::regclass)
    LOOP EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', reference.place, reference.conname); END LOOP;
END $$;
"""


def behind_the_triggers(statement: str) -> None:
    """As the tables' owner could do it: no trigger, and no foreign key, in the way."""
    with connection.cursor() as cursor:
        cursor.execute(UNGUARDED)
        cursor.execute(statement)


def test_what_nobody_touched_is_proven_and_what_waits_is_counted(chained: Account) -> None:
    head = chain.head()

    told = verify()

    assert head.number == 5
    assert told.splitlines() == [
        "5 events are chained and unchanged.",
        "2 events wait to be chained by the relay.",
        f"head {head}",
    ]


def test_an_empty_audit_is_whole(db: None) -> None:
    assert f"head 0:{'0' * 64}" in verify()
    assert verify("--head", str(chain.EMPTY))


def test_numbers_have_no_gaps_and_follow_the_order_of_the_events(chained: Account) -> None:
    chain.extend(1)
    chain.extend()

    assert list(Link.objects.order_by("number").values_list("number", flat=True)) == [1, 2, 3, 4, 5, 6, 7]
    assert list(Link.objects.order_by("number").values_list("event_id", flat=True)) == list(
        Event.objects.order_by("id").values_list("id", flat=True)
    )
    assert not PendingEvent.objects.exists()
    assert chain.extend() == 0


@pytest.mark.parametrize("column", [name for name in chain.COLUMNS if name != "id"])
def test_no_column_of_an_event_can_be_changed_unnoticed(chained: Account, column: str) -> None:
    other = Account.objects.create(name="Charlie's")
    value = {"account_id": f"'{other.id}'", "at": "at + interval '1 microsecond'", "changes": "'{\"name\": [null, 1]}'"}
    event = Link.objects.get(number=3).event_id

    behind_the_triggers(f"UPDATE audit_event SET {column} = {value.get(column, repr('forged'))} WHERE id = '{event}'")

    with pytest.raises(CommandError, match=f"link 3, event {event}: the event or its link was changed") as broken:
        verify()
    assert "last valid link is 2:" in str(broken.value)


def test_every_column_of_an_event_is_chained() -> None:
    assert set(chain.COLUMNS) == {field.attname for field in Event._meta.concrete_fields}


EVENT_3 = "(SELECT event_id FROM audit_link WHERE number = 3)"
WAITING = "(SELECT event_id FROM audit_pending ORDER BY 1 LIMIT 1)"
EXCHANGED = """
UPDATE audit_link SET number = -number WHERE number IN (2, 3);
UPDATE audit_link SET number = 5 + number WHERE number < 0;
"""
INSERTED = (
    "INSERT INTO audit_event SELECT gen_random_uuid(), at, principal_kind, principal_id, principal_name, action,"
    " object_id, object_name, changes, source, address, user_agent, request_id, account_id FROM audit_event"
)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (f"DELETE FROM audit_event WHERE id = {EVENT_3}", "link 3: its event is missing"),
        ("DELETE FROM audit_link WHERE number = 3", "link 3: the link is missing"),
        ("DELETE FROM audit_link WHERE number = 1", "link 1: the link is missing"),
        ("UPDATE audit_link SET hash = sha256('x') WHERE number = 3", "link 3, event .*: the event or its link"),
        (
            f"UPDATE audit_link SET event_id = {WAITING} WHERE number = 3",
            "link 3, event .*: the event or its link",
        ),
        (
            f"INSERT INTO audit_link SELECT 6, hash, {WAITING} FROM audit_link WHERE number = 5",
            "link 6, event .*: the ev",
        ),
        (
            f"INSERT INTO audit_link SELECT 0, hash, {WAITING} FROM audit_link WHERE number = 5",
            "link 0, event .*: the ev",
        ),
        (f"{INSERTED} LIMIT 1", "event .*: the event is in the table, but was not recorded"),
        # Two places of the chain, each whole in itself, exchanged.
        (EXCHANGED, "link 2, event .*: the event or its link"),
        # Nothing of it shows but that the event is not chained any more.
        ("DELETE FROM audit_link WHERE number = 5", "event .*: the event is in the table, but was not recorded"),
        ("DELETE FROM audit_pending", "event .*: the event is in the table, but was not recorded"),
    ],
)
def test_whatever_was_done_the_first_break_is_named(chained: Account, statement: str, told: str) -> None:
    behind_the_triggers(statement)

    with pytest.raises(CommandError, match=told):
        verify()


def test_a_chain_that_was_cut_off_or_made_anew_misses_the_head_that_was_noted(chained: Account) -> None:
    noted = str(chain.head())
    chain.extend()
    assert "7 events" in verify("--head", noted)

    behind_the_triggers(
        f"DELETE FROM audit_event WHERE id = {EVENT_3}; DELETE FROM audit_link; DELETE FROM audit_pending"
    )
    behind_the_triggers("INSERT INTO audit_pending SELECT id FROM audit_event")
    chain.extend()

    assert "6 events are chained and unchanged." in verify()
    with pytest.raises(CommandError, match="link 5: the noted head is not in the chain"):
        verify("--head", noted)
    with pytest.raises(CommandError, match="link 9: the noted head is not in the chain"):
        verify("--head", f"9:{'0' * 64}")


@pytest.mark.parametrize("text", ["", "5", "5:xyz", "x:00", "5:00", f"-1:{'0' * 64}"])
def test_what_is_no_head_is_refused(db: None, text: str) -> None:
    with pytest.raises(CommandError, match="a head is NUMBER:HASH"):
        verify(f"--head={text}")


@pytest.mark.django_db(transaction=True)
def test_an_event_that_commits_late_is_chained_late_and_nobody_waits_for_it() -> None:
    account = Account.objects.create(name="Alice's")
    with uncommitted(lambda: write(account, 1)):
        write(account, 1)
        assert chain.extend() == 1

    assert chain.extend() == 1
    assert "2 events are chained and unchanged." in verify()


@pytest.mark.django_db(transaction=True)
def test_two_relays_at_once_make_one_chain() -> None:
    account = Account.objects.create(name="Alice's")
    done = threading.Event()

    def relay() -> int:
        chained = 0
        while not done.is_set() or PendingEvent.objects.exists():
            chained += chain.extend(3)
        return chained

    relays = [in_background(relay) for _ in range(2)]
    for _ in range(40):
        write(account, 2)
    done.set()

    assert sum(one.result(60) for one in relays) == 80
    assert "80 events are chained and unchanged." in verify()


@pytest.mark.django_db(transaction=True)
def test_while_one_relay_chains_the_other_does_not_wait() -> None:
    account = Account.objects.create(name="Alice's")
    write(account, 1)

    with uncommitted(chain.extend):
        assert chain.extend() == 0

    assert chain.head().number == 1
