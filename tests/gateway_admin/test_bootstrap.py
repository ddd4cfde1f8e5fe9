"""Holds: gateway_admin.management.commands.bootstrap

`manage.py bootstrap`.
"""

from io import StringIO

import pytest
from django.core.management import call_command

from accounts.models import Account, ApiKey, Membership, User
from gateway_core import tokens

pytestmark = pytest.mark.django_db


def bootstrap(**options):
    written = StringIO()
    call_command("bootstrap", stdout=written, **options)
    return dict(line.split("=", 1) for line in written.getvalue().splitlines())


def test_it_makes_an_account_with_an_owner_and_an_api_key_and_prints_their_secrets():
    printed = bootstrap()

    account = Account.objects.get()
    user = User.objects.get(username=printed["DASHBOARD_USER"])
    assert set(printed) == {"AI_GATEWAY_ACCOUNT_ID", "AI_GATEWAY_API_KEY", "DASHBOARD_USER", "DASHBOARD_PASSWORD"}
    assert printed["AI_GATEWAY_ACCOUNT_ID"] == account.text_id
    assert user.check_password(printed["DASHBOARD_PASSWORD"])
    assert Membership.objects.get(user=user, account=account).role == "owner"
    assert ApiKey.objects.get(account=account).digest == tokens.digest(printed["AI_GATEWAY_API_KEY"])


def test_once_more_it_gives_the_user_a_new_password_and_the_same_account_another_key():
    first = bootstrap()

    again = bootstrap()

    assert Account.objects.count() == 1
    assert ApiKey.objects.count() == 2
    user = User.objects.get()
    assert not user.check_password(first["DASHBOARD_PASSWORD"])
    assert user.check_password(again["DASHBOARD_PASSWORD"])


def test_a_user_who_owns_no_account_gets_one():
    User.objects.create_user(username="alice", password="before")

    bootstrap(username="alice", account="Alice's")

    assert Account.objects.get(memberships__user__username="alice").name == "Alice's"
