"""Holds: dashboard.pages.activity

Activity: events found by what people remember of them, and one request from beginning to end.
"""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from access_keys.services import create_access_key
from accounts import services
from accounts.models import Membership
from gateway_core import ids
from gateway_core.traces import PassedOver, Trace
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from tests.events import an_event
from usage import activity, ingest
from usage.models import Event

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/activity"
ROW = '<th scope="row" data-label="When">'


def signed_in(account, username="alice", role=Membership.Role.VIEWER):
    user = services.create_user(username=username, email="", password="x" * 20, account=account, role=role)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def access_key(account, principal):
    return create_access_key(account=account, by=principal, name="shop").access_key


def ago(**of):
    return datetime.now(UTC) - timedelta(**of)


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 4),
        ("range=1h", 3),
        ("range=30d", 5),
        ("range=all", 5),
        ("provider=anthropic", 1),
        ("provider=unknown", 0),
        ("model=SONNET", 1),
        ("outcome=error", 2),
        ("outcome=well", 2),
        ("status=429", 1),
        ("status=0", 1),
        ("attempts=final", 3),
        ("access_key=shop", 1),
        ("access_key=nobody", 0),
        ("range=9y&status=x&access_key=%00&before=nonsense&after=%FF", 4),
    ],
)
def test_events_are_found_by_what_is_remembered_of_them(account, access_key, query, count):
    ingest.write(
        [
            an_event(account, at=ago(minutes=5), access_key=access_key.text_id),
            an_event(account, at=ago(minutes=6), status=429, is_error=True, is_final=False),
            an_event(account, at=ago(minutes=7), provider="anthropic", model="claude-sonnet-4-5"),
            an_event(account, at=ago(hours=3), status=0, is_error=True),
            an_event(account, at=ago(days=3)),
        ]
    )

    assert signed_in(account).get(f"{PAGE}?{query}").content.decode().count(ROW) == count


def test_an_access_key_that_is_gone_is_still_found_by_its_id(account):
    gone = ids.to_text(ids.Prefix.ACCESS_KEY, ids.new_id())
    ingest.write([an_event(account, access_key=gone), an_event(account)])

    shown = signed_in(account).get(f"{PAGE}?access_key={gone}").content.decode()

    assert shown.count(ROW) == 1
    assert "deleted" in shown


def test_pages_lead_to_older_events_and_back_without_one_lost(account):
    events = [an_event(account, at=ago(minutes=number)) for number in range(1, 131)]
    ingest.write(events)
    client = signed_in(account)

    pages = [client.get(PAGE)]
    while pages[-1].context["older"]:
        pages.append(client.get(pages[-1].context["older"]))
    seen = [row.event.id for page in pages for row in page.context["rows"]]
    back = client.get(pages[-1].context["newer"])

    assert seen == list(Event.objects.order_by("-event_time").values_list("id", flat=True))
    assert [row.event.id for row in back.context["rows"]] == [row.event.id for row in pages[1].context["rows"]]
    assert pages[0].context["newer"] == ""


def test_a_page_looks_at_so_many_and_goes_on_where_it_ended(account, monkeypatch):
    monkeypatch.setattr(activity, "LOOKED_AT", 10)
    ingest.write([an_event(account, at=ago(minutes=n)) for n in range(1, 26)])
    ingest.write([an_event(account, at=ago(minutes=30), provider="groq")])
    client = signed_in(account)

    first = client.get(f"{PAGE}?provider=groq")
    second = client.get(first.context["older"])
    third = client.get(second.context["older"])

    assert first.context["is_cut_short"]
    assert "Go on searching" in first.content.decode()
    assert [len(page.context["rows"]) for page in (first, second, third)] == [0, 0, 1]
    assert third.context["older"] == ""


def test_an_export_holds_everything_that_matches(account, monkeypatch):
    monkeypatch.setattr(activity, "LOOKED_AT", 10)
    ingest.write([an_event(account, at=ago(minutes=n), model="=cmd()") for n in range(1, 26)])

    answer = signed_in(account).get(f"{PAGE}.csv?outcome=well")

    rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert len(rows) == 26
    assert rows[1][6] == "'=cmd()"
    assert rows[1][0] > rows[25][0]


def test_a_request_shows_its_attempts_in_order_with_what_decided_them(account, principal, access_key):
    key = create_provider_key(
        account=account, by=principal, provider_id="openai", name="team", value=PlainValue("sk-" + "x" * 30)
    )
    shared = {
        "request_id": "req_one",
        "access_key": access_key.text_id,
        "key_source": "user",
        "provider_key": key.text_id,
    }
    first = an_event(account, at=ago(seconds=9), status=503, is_error=True, is_final=False, mask="sk-1***", **shared)
    second = an_event(account, at=ago(seconds=8), attempt=2, mask="sk-2***", **shared)
    other = an_event(account, at=ago(seconds=8), access_key=access_key.text_id, request_id="req_two", mask="sk-3***")
    ingest.write([second, other, first])

    for event in (first, second):
        shown = signed_in(account, f"alice-{event.attempt}").get(f"{PAGE}/{event.id}").content.decode()
        assert shown.index("sk-1***") < shown.index("sk-2***")
        assert "sk-3***" not in shown
        assert "What this access key gets now" in shown
        assert "Allowed." in shown


def test_a_request_shows_how_each_attempt_ended_and_what_was_passed_over(account, principal, access_key):
    key = create_provider_key(
        account=account, by=principal, provider_id="openai", name="team", value=PlainValue("sk-" + "x" * 30)
    )
    cooled = PassedOver(
        provider="openai",
        model="gpt-4o",
        provider_key=key.text_id,
        reason="cooling",
        cause="rate_limited",
        since=1_700_000_000_000_000,
    )
    denied = PassedOver(provider="groq", model="llama", reason="provider_not_allowed")
    trace = Trace(
        completion="stream_failed",
        retry_action="fail_fast",
        served=True,
        snapshot_version=1_700_000_000_000_001,
        configuration=ids.to_text(ids.Prefix.CONFIGURATION, ids.new_id()),
        credentials_from="router.rules[1].steps[0]",
        passed_over=(cooled, denied),
    )
    event = an_event(account, access_key=access_key.text_id, trace=trace, requested_at=1, first_byte_ms=34)
    ingest.write([event])

    shown = signed_in(account).get(f"{PAGE}/{event.id}").content.decode()

    assert "Broke off after a part of the answer had gone to the caller, then nothing more was tried." in shown
    assert "Credentials: rule 2, step 1." in shown
    assert "First byte after 34 ms." in shown
    assert "Passed over" in shown
    assert "team" in shown
    assert 'datetime="2023-11-14T22:13:20+00:00"' in shown
    assert "the upstream asked to wait" in shown
    assert "Groq · llama" in shown
    assert "The configuration does not allow the provider." in shown
    assert "in snapshot version 1700000000000001" in shown
    assert "a deleted configuration" in shown


@pytest.mark.parametrize("path", ["aigue_zzz", "aigk_01h455vb4pex5vsknk084sn02q", "aigue_7zzzzzzzzzzzzzzzzzzzzzzzzz"])
def test_what_is_no_event_of_the_account_is_not_there(account, path):
    assert signed_in(account).get(f"{PAGE}/{path}").status_code == 404


def test_another_accounts_events_are_nowhere(account, other_account):
    theirs = an_event(other_account, model="their-model")
    ingest.write([theirs])
    client = signed_in(account)

    assert client.get(f"{PAGE}/{theirs.id}").status_code == 404
    assert "their-model" not in client.get(f"{PAGE}?range=all").content.decode()
    assert "their-model" not in client.get(f"{PAGE}?range=all&access_key={theirs.access_key}").content.decode()
    assert b"their-model" not in b"".join(client.get(f"{PAGE}.csv?range=all").streaming_content)
