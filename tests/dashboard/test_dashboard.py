"""Holds: dashboard.templatetags.dashboard

The frame of the dashboard: who may enter, which account they are in, what each role may do.
"""

import json
import re

import pytest
from django.test import Client

from accounts import services as accounts
from accounts.models import Account, Membership, User
from dashboard.error_pages import failed
from dashboard.site import site

pytestmark = pytest.mark.django_db

PASSWORD = "correct-horse-battery-staple"


def sign_in(account, username, role=Membership.Role.OWNER):
    user = accounts.create_user(
        username=username, email=f"{username}@example.com", password=PASSWORD, account=account, role=role
    )
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("path", ["", "access-keys", "settings/api-keys/new", "no/such/page", "jsi18n/"])
def test_who_is_not_signed_in_is_sent_to_the_sign_in_page(path):
    answer = Client().get(f"/dashboard/{path}")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/dashboard/login")
    assert Client().get(answer["Location"]).status_code == 200


def test_a_user_without_an_account_is_told_so_on_every_page(account):
    client = sign_in(account, "eve")
    Membership.objects.all().delete()

    for path in ("", "access-keys", "settings/api-keys/new"):
        answer = client.get(f"/dashboard/{path}")
        assert answer.status_code == 403
        assert b"You do not belong to any account." in answer.content


def test_none_of_the_admins_own_pages_exists(account):
    client = sign_in(account, "alice")

    for path in (
        "jsi18n/",
        "autocomplete/",
        "password_change/",
        "search/",
        "accounts/apikey/",
        "accounts/apikey/add/",
        "r/1/1/",
        "access_keys/",
        "no/such/page",
    ):
        answer = client.get(f"/dashboard/{path}")
        assert answer.status_code == 404, path
        assert b"There is nothing here" in answer.content
    assert not site._registry


def test_a_viewer_who_posts_is_told_why_not_and_changes_nothing(account):
    client = sign_in(account, "victor", Membership.Role.VIEWER)

    answer = client.post("/dashboard/settings/api-keys/new", {"name": "mine"})

    assert answer.status_code == 403
    assert b"Ask an owner of the account." in answer.content
    assert not account.apikey_set.filter(name="mine").exists()


def test_a_lowered_role_counts_from_the_next_request_on(account):
    client = sign_in(account, "alice")
    assert client.get("/dashboard/settings/api-keys/new").status_code == 200
    Membership.objects.filter(user__username="alice").update(role=Membership.Role.VIEWER)

    assert client.get("/dashboard/settings/api-keys/new").status_code == 403


def test_a_member_of_two_accounts_chooses_between_them(account, other_account):
    client = sign_in(account, "alice")
    Membership.objects.create(account=other_account, user=User.objects.get(username="alice"), role="viewer")

    client.post("/dashboard/accounts/choose", {"account": other_account.text_id})

    shown = client.get("/dashboard/").content.decode()
    assert re.search(rf'class="switcher-name">{re.escape("Charlie&#x27;s")}<', shown)
    assert client.get("/dashboard/settings/api-keys/new").status_code == 403, "a viewer there"


def test_a_form_of_one_account_writes_nothing_after_another_tab_entered_another(account, other_account):
    client = sign_in(account, "alice")
    Membership.objects.create(account=other_account, user=User.objects.get(username="alice"), role="owner")
    first = re.findall(
        r'name="(form-account)" value="(\w+)"', client.get("/dashboard/access-keys/new").content.decode()
    )
    client.post("/dashboard/accounts/choose", {"account": other_account.text_id})

    form = client.post("/dashboard/access-keys/new", {"name": "mine"} | dict(first))
    script = client.post(
        "/dashboard/configurations/new",
        {"name": "mine"},
        content_type="application/json",
        headers={"Form-Account": account.text_id},
    )

    assert dict(first) == {"form-account": account.text_id}
    assert (form.status_code, script.status_code) == (409, 409)
    assert script.json()["errorCode"] == "account_changed"
    assert not other_account.accesskey_set.exists()
    assert not other_account.configuration_set.exists()


@pytest.mark.parametrize(
    "path", ["access-keys/new", "settings/api-keys/new", "providers/keys/new", "settings/members/invite"]
)
def test_a_form_that_makes_something_asks_the_browser_to_send_it_once(account, path):
    assert (
        '<form method="post" novalidate data-sent-once'
        in sign_in(account, "alice").get(f"/dashboard/{path}").content.decode()
    )


@pytest.mark.parametrize("account_id", ["", "ac_01", "nonsense", "strangers"])
def test_nobody_enters_an_account_that_they_do_not_belong_to(account, other_account, account_id):
    client = sign_in(account, "alice")

    answer = client.post(
        "/dashboard/accounts/choose", {"account": account_id.replace("strangers", other_account.text_id)}
    )

    assert answer.status_code == 404
    assert "Alice&#x27;s" in client.get("/dashboard/").content.decode()


def test_a_removed_member_falls_out_of_the_account_that_was_chosen(account, other_account):
    client = sign_in(account, "alice")
    there = Membership.objects.create(account=other_account, user=User.objects.get(username="alice"), role="owner")
    client.post("/dashboard/accounts/choose", {"account": other_account.text_id})
    there.delete()

    assert "Charlie&#x27;s" not in client.get("/dashboard/").content.decode()


def test_the_operator_enters_any_account_and_nobody_else_sees_the_list_of_them(account, other_account):
    operator = User.objects.create_superuser(username="root", password=PASSWORD)
    client = Client()
    client.force_login(operator)
    assert client.get("/dashboard/")["Location"] == "/dashboard/accounts"
    assert other_account.text_id in client.get("/dashboard/accounts").content.decode()

    client.post("/dashboard/accounts/choose", {"account": other_account.text_id})

    assert client.get("/dashboard/settings/api-keys/new").status_code == 200
    assert sign_in(account, "alice").get("/dashboard/accounts").status_code == 404
    assert Account.objects.count() == 2


def test_what_nobody_foresaw_is_a_page_in_the_dashboard_and_the_apis_shape_elsewhere(rf):
    page, answer = (failed(rf.get(path)) for path in ("/dashboard/credits", "/access-keys"))

    assert page.status_code == answer.status_code == 500
    assert b"<h1>Something went wrong</h1>" in page.content
    assert json.loads(answer.content)["errorCode"] == "internal_error"
