"""Holds: audit.recording

What a service's write leaves in the audit, and what it never does.
"""

import pytest
import structlog
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction

from access_keys.services import create_access_key, delete_access_key, update_access_key
from account_settings.services import update_gateway_configuration
from accounts.models import Account, ApiKey
from accounts.principals import Principal
from accounts.services import create_user
from audit import origin
from audit.actions import Action
from audit.models import Event, PendingEvent
from audit.recording import NotInTransaction, record
from provider_keys.services import create_provider_key, rotate_provider_key
from provider_keys.values import PlainValue
from providers import managed
from tests.fixtures import Api
from usage import ledger

pytestmark = pytest.mark.django_db

VALUE = "sk-audited-0123456789abcdefghijklmnop"
OTHER = "sk-rotated-0123456789abcdefghijklmnop"


def newest() -> Event:
    event = Event.objects.order_by("-id").first()
    assert event is not None
    return event


def test_a_change_is_told_as_old_and_new(account: Account, principal: Principal) -> None:
    access_key = create_access_key(account=account, by=principal, name="before").access_key

    update_access_key(access_key=access_key, by=principal, name="after", metadata="m", disabled=None)

    event = newest()
    assert event.changes == {"name": ["before", "after"], "metadata": [None, "m"]}
    assert (event.account, event.action, event.object_kind) == (account, "access_key.updated", "access_key")
    assert (event.object_id, event.object_name) == (access_key.text_id, "after")
    assert (event.principal_id, event.principal_kind, event.principal_name) == (principal.id, "api_key", "first")
    assert (event.address, event.user_agent, event.request_id) == (None, None, None)
    assert PendingEvent.objects.filter(event=event).exists()


def test_a_deleted_object_is_told_with_all_that_it_was(account: Account, principal: Principal) -> None:
    access_key = create_access_key(account=account, by=principal, name="gone").access_key

    delete_access_key(access_key=access_key, by=principal)

    event = newest()
    assert (event.action, event.object_id) == ("access_key.deleted", access_key.text_id)
    assert event.changes["name"] == ["gone", None]
    assert event.changes["keyRedacted"] == [access_key.key_redacted, None]


def test_a_request_is_told_with_address_browser_and_the_id_that_the_log_has(api: Api) -> None:
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        api.post("access-keys", {}, user_agent="curl/8.5")

    event = newest()
    assert (event.source, event.address, event.user_agent) == ("request", "127.0.0.1", "curl/8.5")
    assert event.request_id
    assert event.request_id in {line.get("request_id") for line in lines}


def test_what_a_client_says_of_itself_cannot_break_a_write(api: Api) -> None:
    answer = api.post("access-keys", {}, user_agent="a\x00b" + "x" * 10_000)

    assert answer.status_code == 201
    event = newest()
    assert event.user_agent is not None
    assert event.user_agent.startswith("abxx")
    assert len(event.user_agent) == 255


def test_a_trusted_proxy_tells_the_address_and_nobody_else(api: Api, settings) -> None:
    api.post("access-keys", {}, x_forwarded_for="203.0.113.9")
    assert newest().address == "127.0.0.1"

    settings.TRUSTED_PROXIES = ["127.0.0.1", "10.0.0.0/8"]
    api.post("access-keys", {}, x_forwarded_for="198.51.100.1, 203.0.113.9, 10.1.2.3")
    assert newest().address == "203.0.113.9"

    api.post("access-keys", {}, x_forwarded_for="198.51.100.1, nonsense, 10.1.2.3")
    assert newest().address == "10.1.2.3"


def test_what_follows_a_request_does_not_come_from_it(api: Api, account: Account, principal: Principal) -> None:
    api.post("access-keys", {})

    create_access_key(account=account, by=principal)

    assert newest().source != "request"
    assert newest().address is None


@pytest.mark.parametrize("body", [{}, {"name": "same"}, {"metadata": None}])
def test_a_patch_that_changes_nothing_is_not_told(api: Api, body) -> None:
    made = api.post("access-keys", {"name": "same"}).json()
    before = Event.objects.count()

    assert api.patch(f"access-keys/{made['id']}", body).status_code == 200

    assert Event.objects.count() == before


def test_a_rotation_is_told_even_when_name_and_mask_stay(account: Account, principal: Principal) -> None:
    def rotate(value: str) -> Event:
        rotate_provider_key(provider_key=key, by=principal, name="team key", value=PlainValue(value))
        return newest()

    key = create_provider_key(
        account=account, by=principal, provider_id="openai", name="team key", value=PlainValue(VALUE)
    )

    assert rotate(OTHER).changes == {"keyRedacted": ["sk-audited***mnop", "sk-rotated***mnop"]}
    same = rotate(OTHER)
    assert (same.action, same.changes) == ("provider_key.rotated", {})


def test_each_provider_key_that_a_router_brings_along_has_its_event(api: Api) -> None:
    keys = [{"name": f"key {number}", "value": f"{VALUE}{number}"} for number in range(2)]
    rules = [{"provider": "openai", "steps": [{"type": "user", "keys": keys}]}]

    made = api.post("access-key-configurations", {"name": "c", "router": {"rules": rules}})

    assert made.status_code == 201
    told = list(Event.objects.order_by("id").values_list("action", "object_name"))[-3:]
    assert told == [
        ("provider_key.created", "key 0"),
        ("provider_key.created", "key 1"),
        ("configuration.created", "c"),
    ]
    [(old, new)] = [newest().changes["router"]]
    assert old is None
    assert [set(key) for key in new["rules"][0]["steps"][0]["keys"]] == [{"id"}, {"id"}]


def test_no_secret_stands_in_an_event(api: Api, account: Account, principal: Principal) -> None:
    access_key = api.post("access-keys", {"name": f"my {VALUE}", "metadata": f'{{"token": "{OTHER}"}}'}).json()
    api_key = api.post("api-keys", {"description": f"Bearer {VALUE}"}, user_agent=f"agent {OTHER}").json()
    made = api.post("provider-keys", {"providerId": "openai", "name": "k", "value": VALUE}).json()
    api.post(f"provider-keys/{made['id']}/rotate", {"name": "k", "value": OTHER})
    managed.set_managed_key(provider="openai", value=VALUE)
    create_user(username="bob", email="", password="correct-horse-battery", account=account, role="viewer")

    with connection.cursor() as cursor:
        cursor.execute("SELECT audit_event::text FROM audit_event")
        told = "\n".join(row[0] for row in cursor.fetchall())

    secrets = [VALUE, OTHER, access_key["token"], api_key["token"], "correct-horse-battery", "pbkdf2", "argon2"]
    secrets += ApiKey.objects.values_list("digest", flat=True)
    assert [secret for secret in secrets if secret in told] == []
    assert "sk-audited***mnop" in told


def test_a_command_is_told_as_the_system(account: Account) -> None:
    call_command("grant_credits", account.text_id, "500", "--yes", "--reference", "invoice 7")

    event = newest()
    assert (event.principal_kind, event.principal_id, event.action) == ("system", "", "credits.granted")
    assert event.changes["cents"] == [None, 500]
    assert event.object_name == "invoice 7"


def test_what_usage_takes_is_the_ledgers_business_and_not_the_audits(account: Account) -> None:
    ledger.grant(account=account, cents=500, category="purchase")
    before = Event.objects.count()

    with transaction.atomic():
        ledger.charge({account.id: ledger.balance_of(account)})

    assert Event.objects.count() == before


def test_the_operators_keys_belong_to_no_account(db: None) -> None:
    managed.set_managed_key(provider="openai", value=VALUE)
    managed.set_managed_key(provider="openai", value=OTHER)
    managed.remove_managed_key(provider="openai")

    told = [(event.account, event.action, event.object_id) for event in Event.objects.order_by("id")]
    assert told == [(None, f"managed_key.{verb}", "openai") for verb in ("set", "set", "removed")]


def test_the_first_write_of_a_gateway_configuration_is_told_from_the_defaults(
    account: Account, principal: Principal
) -> None:
    update_gateway_configuration(account=account, by=principal, max_input_tokens=10)

    assert newest().changes == {"maxInputTokens": [None, 10]}
    assert newest().object_id == account.text_id


def test_bootstrap_tells_of_the_account_its_owner_and_the_new_password(db: None) -> None:
    call_command("bootstrap")
    call_command("bootstrap")

    assert list(Event.objects.order_by("id").values_list("action", flat=True)) == [
        "account.created",
        "member.added",
        "api_key.created",
        "member.password_reset",
        "api_key.created",
    ]


@pytest.mark.django_db(transaction=True)
def test_an_event_is_refused_outside_a_transaction(account: Account, principal: Principal) -> None:
    with pytest.raises(NotInTransaction):
        record(principal, Action.ACCOUNT_CREATED, account)


@pytest.mark.parametrize("table", ["audit_event", "audit_link"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_the_database_refuses_to_change_the_audit(account: Account, table: str, statement: str) -> None:
    event = newest()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO audit_link VALUES (1, %s, %s)", [b"0" * 32, event.id])
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE audit_event ENABLE TRIGGER audit_events_are_not_truncated")
        cursor.execute("ALTER TABLE audit_link ENABLE TRIGGER audit_links_are_not_truncated")
    change = "action = 'x'" if table == "audit_event" else "number = 2"

    with pytest.raises(DatabaseError, match="the audit only grows"), transaction.atomic():
        connection.cursor().execute(statement.format(table, change))

    assert newest() == event


@pytest.mark.parametrize(
    ("command_line", "source"),
    [
        (["/srv/manage.py", "grant_credits", "ac_1", "500"], "manage.py grant_credits"),
        (["manage.py"], "manage.py"),
        # What follows another program's name may be anything.
        (["/usr/bin/celery", "--broker=redis://:secret@host"], "celery"),
        (["-c", "secret"], "-c"),
        ([], "process"),
        ([""], "process"),
    ],
)
def test_a_process_is_told_by_its_command(
    command_line: list[str], source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", command_line)

    assert origin.current().source == source
