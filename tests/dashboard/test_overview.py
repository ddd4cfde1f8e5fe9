"""Holds: dashboard.pages.overview

Overview: what went on, told from the sums, and the first steps.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.test import Client

from access_keys.services import create_access_key
from accounts import services
from accounts.models import Membership
from dashboard.kit.charts import HEIGHT
from dashboard.pages.overview import GROUPS, charts_of
from provider_keys.services import create_provider_key
from provider_keys.values import PlainValue
from tests.events import an_event
from usage import ingest
from usage.latencies import latencies
from usage.models import Rollup

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/"
NOW = datetime.now(UTC).replace(minute=30)
BY_PROVIDER, BY_KEY = Rollup.Dimension.PROVIDER, Rollup.Dimension.ACCESS_KEY


def signed_in(account, username="alice", role=Membership.Role.VIEWER):
    user = services.create_user(username=username, email="", password="x" * 20, account=account, role=role)
    client = Client()
    client.force_login(user)
    return client


def test_every_chart_has_the_sums_of_its_time_and_nothing_older(account):
    ingest.write(
        [
            an_event(account, at=NOW - timedelta(hours=1)),
            an_event(account, at=NOW - timedelta(hours=2), provider="anthropic", is_error=True),
            an_event(account, at=NOW - timedelta(hours=30), input_tokens=7),
        ]
    )

    day = {chart.title: chart for chart in charts_of(account, range_="24h", by=BY_PROVIDER, now=NOW)}
    month = {chart.title: chart for chart in charts_of(account, range_="30d", by=BY_PROVIDER, now=NOW)}

    assert (day["Requests"].total, day["Errors"].total, day["Tokens"].total) == ("2", "1", "2,200")
    assert month["Requests"].total == "3"
    assert [one.label for one in day["Requests"].series] == ["Anthropic", "OpenAI"]
    assert len(day["Requests"].bars) == 2
    assert day["Errors"].bars[0].title.endswith("Anthropic: 1")


def test_more_groups_than_colours_are_one_group_of_others(account, principal):
    keys = [create_access_key(account=account, by=principal, name=f"app {n}").access_key for n in range(GROUPS + 2)]
    ingest.write(
        [
            an_event(account, at=NOW - timedelta(minutes=31), access_key=key.text_id)
            for place, key in enumerate(keys)
            for _ in range(place + 1)
        ]
    )

    requests = charts_of(account, range_="7d", by=BY_KEY, now=NOW)[0]

    assert [one.label for one in requests.series][-1] == "Others"
    assert len(requests.series) == GROUPS + 1
    assert "Others: 3" in [bar.title.split(", ", 1)[1] for bar in requests.bars]
    assert sum(int(row.total.replace(",", "")) for row in requests.rows) == sum(range(1, GROUPS + 3))


def test_bars_fill_the_height_and_never_leave_it(account):
    ingest.write(
        [an_event(account, at=NOW - timedelta(days=n), provider=p) for n in range(6) for p in ("openai", "groq")]
    )

    for chart in charts_of(account, range_="7d", by=BY_PROVIDER, now=NOW):
        assert all(bar.y >= 0 and bar.y + bar.height <= HEIGHT + 0.01 for bar in chart.bars)


def test_a_deleted_access_key_keeps_its_usage(account):
    ingest.write([an_event(account)])

    assert (
        charts_of(account, range_="7d", by=BY_KEY, now=datetime.now(UTC))[0]
        .series[0]
        .label.startswith("deleted (aigk_")
    )


def test_another_accounts_usage_is_nowhere(account, other_account):
    ingest.write([an_event(other_account, input_tokens=987_000)])

    shown = signed_in(account).get(PAGE).content.decode()

    assert "Nothing in this time." in shown
    assert "987" not in shown


def test_the_first_steps_go_one_by_one_and_end_with_the_first_request(account, principal):
    client = signed_in(account)
    assert client.get(PAGE).content.decode().count("To do: ") == 4

    create_provider_key(
        account=account, by=principal, provider_id="openai", name="team", value=PlainValue("sk-" + "x" * 30)
    )
    access_key = create_access_key(account=account, by=principal, name="app").access_key
    shown = client.get(PAGE).content.decode()
    assert (shown.count("To do: "), shown.count("Done: ")) == (2, 2)

    ingest.write([an_event(account, access_key=access_key.text_id)])
    assert "First steps" not in client.get(PAGE).content.decode()


def test_a_refused_provider_key_comes_first_with_its_status(account, principal):
    good, bad = (
        create_provider_key(
            account=account, by=principal, provider_id="openai", name=n, value=PlainValue("sk-" + n * 30)
        )
        for n in ("good", "badd")
    )
    ingest.write(
        [
            an_event(account, key_source="user", provider_key=good.text_id, mask=good.key_redacted),
            an_event(
                account, key_source="user", provider_key=bad.text_id, mask=bad.key_redacted, status=401, is_error=True
            ),
        ]
    )

    shown = signed_in(account).get(PAGE).content.decode()

    assert shown.index(">badd<") < shown.index(">good<")
    assert "with 401" in shown


def test_what_cannot_be_chosen_shows_the_default(account):
    assert signed_in(account).get(f"{PAGE}?range=9y&by=;drop").status_code == 200


def test_costs_are_told_to_the_cent(account):
    ingest.write([an_event(account) for _ in range(4)])

    assert charts_of(account, range_="24h", by=BY_PROVIDER, now=datetime.now(UTC))[2].total == f"${Decimal('0.0140')}"


def test_how_fast_upstreams_answered_is_shown_by_provider_and_model(account, other_account):
    at = NOW - timedelta(hours=1)
    timed = [
        an_event(account, at=at, duration_ms=1000 * second, first_byte_ms=100 * second) for second in range(1, 101)
    ]
    ingest.write(
        [
            *timed,
            # Neither failures, nor attempts that another followed, nor what is older, nor a neighbour's.
            an_event(account, at=at, is_error=True, status=500, duration_ms=900_000),
            an_event(account, at=at, is_final=False, duration_ms=900_000),
            an_event(account, at=NOW - timedelta(days=8), duration_ms=900_000),
            an_event(other_account, at=at, duration_ms=900_000),
            an_event(account, at=at, provider="groq", model="llama", duration_ms=40),
        ]
    )

    (slow, fast) = latencies(account, since=NOW - timedelta(days=7), most=5)
    shown = signed_in(account).get(PAGE).content.decode()

    assert (slow.provider, slow.model, slow.answered) == ("openai", "gpt-4o", 100)
    assert slow.whole == [50_500, pytest.approx(95_050)]
    assert slow.first_byte == [5_050, pytest.approx(9_505)]
    assert (fast.provider, fast.answered, fast.whole, fast.first_byte) == ("groq", 1, [40, 40], None)
    assert "How fast upstreams answer" in shown
    for text in ("50.50 s", "95.05 s", "5.05 s", "40 ms"):
        assert text in shown


def test_without_an_answer_there_is_no_table_of_times(account):
    ingest.write([an_event(account, at=NOW, is_error=True, status=500)])

    assert "How fast upstreams answer" not in signed_in(account).get(PAGE).content.decode()
