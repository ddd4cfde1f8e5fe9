"""Holds: dashboard.pages.audit

The audit page: who changed what, told to those whose account it is.
"""

import csv
import io

import pytest
from django.test import Client

from access_keys.services import create_access_key, delete_access_key, update_access_key
from accounts import services
from accounts.models import Membership

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/audit"


def signed_in(account, username="alice", role=Membership.Role.VIEWER):
    user = services.create_user(username=username, email="", password="x" * 20, account=account, role=role)
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def changed(account, principal):
    access_key = create_access_key(account=account, by=principal, name="before").access_key
    return update_access_key(access_key=access_key, by=principal, name="after")


def test_a_change_is_told_with_what_was_and_what_is(account, changed):
    shown = signed_in(account).get(PAGE).content.decode()

    assert "Access key updated" in shown
    assert "<del>before</del>" in shown
    assert "<ins>after</ins>" in shown
    assert changed.digest not in shown


def test_one_objects_history_is_a_link_away(account, principal, changed):
    create_access_key(account=account, by=principal, name="something else")

    shown = signed_in(account).get(f"{PAGE}?object={changed.text_id}").content.decode()

    assert "something else" not in shown
    assert shown.count('<li class="card happening">') == 2


def test_what_is_gone_is_told_without_a_link_to_it(account, principal, changed):
    delete_access_key(access_key=changed, by=principal)

    shown = signed_in(account).get(f"{PAGE}?kind=access_key").content.decode()

    first = shown.split('<li class="card happening">')[1]
    assert "Access key deleted" in first
    assert f"access-keys/{changed.text_id}" not in first


def test_filters_that_mean_nothing_show_a_page(account, changed):
    client = signed_in(account)

    for query in ("range=9y", "kind=;", "by=%00", "object=aigk_x", "before=nonsense", "after=" + "f" * 32):
        assert client.get(f"{PAGE}?{query}").status_code == 200


def test_pages_lead_to_older_events_and_back(account, principal):
    for number in range(60):
        create_access_key(account=account, by=principal, name=f"key {number:02}")
    client = signed_in(account)

    first = client.get(f"{PAGE}?kind=access_key")
    second = client.get(first.context["listing"].older)

    assert "key 59" in first.content.decode()
    assert "key 00" in second.content.decode()
    assert "key 59" in client.get(second.context["listing"].newer).content.decode()


def test_the_export_holds_what_the_filters_leave_and_no_formula(account, principal, changed):
    create_access_key(account=account, by=principal, name="=1+1")

    answer = signed_in(account).get(f"{PAGE}.csv?kind=access_key")

    rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [row[1] for row in rows[1:]] == ["access_key.created", "access_key.updated", "access_key.created"]
    assert rows[1][3] == "'=1+1"
    assert "attachment" in answer["Content-Disposition"]


def test_another_accounts_history_is_nowhere(other_account, changed):
    charlie = signed_in(other_account, "charlie")

    assert changed.text_id not in charlie.get(f"{PAGE}?object={changed.text_id}").content.decode().split("</form>")[-1]
    exported = b"".join(charlie.get(f"{PAGE}.csv").streaming_content).decode()
    assert changed.text_id not in exported
