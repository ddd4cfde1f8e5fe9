"""Holds: dashboard.pages.credits

Credits: what is left, what moved it, and the way to the payment page.
"""

from decimal import Decimal

import pytest
from django.conf import settings
from django.test import Client

from accounts import services
from accounts.models import Membership
from usage import ledger

pytestmark = pytest.mark.django_db

PAGE = "/dashboard/credits"


def signed_in(account, username="alice", role=Membership.Role.OWNER):
    user = services.create_user(username=username, email="", password="x" * 20, account=account, role=role)
    client = Client()
    client.force_login(user)
    return client


def test_the_page_tells_the_balance_and_what_came_in(account):
    ledger.grant(account=account, cents=12_345, category="promotional")

    shown = signed_in(account).get(PAGE).content.decode()

    assert "$123.45" in shown
    assert "Credits granted" in shown
    assert "Managed inference is served" in shown


def test_debt_is_told_as_such(account):
    ledger.charge({account.id: Decimal(250)})

    shown = signed_in(account).get(PAGE).content.decode()

    assert "−$2.50" in shown
    assert "Owed" in shown


def test_without_a_payment_provider_the_page_says_how_credits_come_in(account):
    shown = signed_in(account).get(PAGE).content.decode()

    assert "grant_credits" in shown
    assert "Continue to payment" not in shown


@pytest.mark.parametrize(("typed", "told"), [("0", "amount"), ("1.234", "amount"), ("-5", "amount"), ("", "amount")])
def test_what_is_no_amount_is_refused_at_its_field(account, monkeypatch, typed, told):
    monkeypatch.setattr(settings, "STRIPE_SECRET_KEY", "sk_test_never_asked")

    answer = signed_in(account).post(PAGE, {"amount": typed})

    assert answer.status_code == 422
    assert f'id="field-{told}-fault"' in answer.content.decode()


def test_without_a_payment_provider_nothing_can_be_bought(account):
    assert signed_in(account).post(PAGE, {"amount": "5"}).status_code == 503


def test_a_viewer_buys_nothing_and_another_account_sees_nothing(account, other_account):
    ledger.grant(account=account, cents=12_345, category="promotional")

    assert signed_in(account, "bob", Membership.Role.VIEWER).post(PAGE, {"amount": "5"}).status_code == 403
    assert "$123.45" not in signed_in(other_account, "charlie").get(PAGE).content.decode()


def test_a_buyer_is_shown_the_way_to_the_payment_page(account, payments):
    answer = signed_in(account).post(PAGE, {"amount": "25.50"})

    assert answer.status_code == 200
    assert 'href="https://checkout.example/c/pay/cs_test_1"' in answer.content.decode()
    assert payments.asked[0][2]["line_items[0][price_data][unit_amount]"] == "2550"
