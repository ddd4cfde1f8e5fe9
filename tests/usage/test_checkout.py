"""Holds: usage.checkout

Buying credits: against a stand-in of the payment provider's API on loopback.
"""

import json
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import stripe
from django.db import transaction
from django.utils import timezone

from accounts.models import Account
from tests.fixtures import Api
from tests.payments import SECRET, StandIn, notice, send
from tests.usage.test_ledger import at, check_the_books
from usage import ledger
from usage.models import LedgerEntry

PATH = "/credits/checkout-session"


def test_without_a_payment_provider_there_is_no_checkout_but_the_body_is_judged_first(api: Api) -> None:
    assert api.post(PATH, {"amount": 0}).status_code == 422

    answer = api.post(PATH, {"amount": 500})

    assert answer.status_code == 503
    assert answer.json()["errorCode"] == "checkout_not_configured"
    assert int(answer.headers["Retry-After"]) > 0
    assert "Location" not in answer.headers


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"amount": 0},
        {"amount": -1},
        {"amount": "500"},
        {"amount": 5.5},
        {"amount": True},
        {"amount": None},
        {"amount": 10**8},
        {"amount": 500, "currency": "eur"},
        {"cents": 500},
        [],
    ],
)
def test_an_amount_is_whole_cents_above_zero(api: Api, payments: StandIn, body: Any) -> None:
    assert api.post(PATH, body).status_code == 422
    assert payments.asked == []


def test_a_checkout_is_a_page_of_the_payment_providers(account: Account, api: Api, payments: StandIn) -> None:
    answer = api.post(PATH, {"amount": 2500})

    assert answer.status_code == 200
    assert answer.json() == {"sessionId": "cs_test_1", "sessionUrl": "https://checkout.example/c/pay/cs_test_1"}
    assert "Location" not in answer.headers
    ((path, authorization, fields),) = payments.asked
    assert (path, authorization) == ("/v1/checkout/sessions", "Bearer sk_test_operator")
    assert fields["mode"] == "payment"
    assert fields["line_items[0][price_data][unit_amount]"] == "2500"
    assert fields["line_items[0][price_data][currency]"] == "usd"
    assert fields["metadata[gateway_account]"] == account.text_id
    assert not LedgerEntry.objects.exists()


@pytest.mark.parametrize(
    ("given", "status", "code"),
    [
        ((400, {"error": {"type": "invalid_request_error", "code": "amount_too_small"}}), 422, "amount_refused"),
        ((401, {"error": {"type": "authentication_error"}}), 503, "checkout_unavailable"),
        ((500, {"error": {"type": "api_error"}}), 503, "checkout_unavailable"),
        ((200, {"id": "cs_1", "object": "checkout.session", "url": None}), 503, "checkout_unavailable"),
    ],
)
def test_a_payment_provider_that_refuses_is_told_in_our_words(
    api: Api, payments: StandIn, given: tuple[int, dict[str, Any]], status: int, code: str
) -> None:
    payments.answer = given

    answer = api.post(PATH, {"amount": 10})

    assert (answer.status_code, answer.json()["errorCode"]) == (status, code)
    assert "sk_test" not in answer.content.decode()


def test_a_payment_provider_that_is_away_is_503(api: Api, payments: StandIn, settings: Any) -> None:
    settings.STRIPE_API_BASE = "http://127.0.0.1:1"

    assert api.post(PATH, {"amount": 10}).json()["errorCode"] == "checkout_unavailable"


# ── notices ──


def test_who_has_paid_gets_the_credits_once(account: Account, api: Api, payments: StandIn) -> None:
    for _ in range(3):
        assert send(notice(account)).status_code == 204

    assert api.get("/credits/balance").json() == {"balanceCents": 2500}
    (entry,) = LedgerEntry.objects.all()
    assert (entry.category, entry.expires_at, entry.reference) == ("purchase", None, "stripe:cs_test_1")


def refunded(amount_refunded: int, **charge: Any) -> str:
    told = {"id": "ch_1", "object": "charge", "payment_intent": "pi_1", "amount": 2975} | charge
    told["amount_refunded"] = amount_refunded
    return json.dumps({"id": "evt_2", "type": "charge.refunded", "data": {"object": told}})


@pytest.mark.parametrize(
    ("spent", "refunds", "balance"),
    [
        (0, [2975], 0),
        (0, [1190], 1500),
        # Notices come twice, and out of order.
        (0, [1190, 1190, 2975, 1190], 0),
        (600, [2975], -600),
        (600, [1190], 900),
        (2400, [1190], -900),
        (0, [9999], 0),
        (0, [0], 2500),
    ],
)
def test_a_refund_takes_back_what_is_left_and_charges_what_was_spent(
    account: Account, payments: StandIn, spent: int, refunds: list[int], balance: int
) -> None:
    send(notice(account, payment_intent="pi_1"))
    with transaction.atomic():
        ledger.charge({account.id: Decimal(spent)})

    for amount in refunds:
        assert send(refunded(amount)).status_code == 204

    assert ledger.balance_of(account) == balance
    check_the_books(account)


def test_a_refund_does_not_take_what_expired(account: Account, payments: StandIn, settings: Any) -> None:
    settings.CREDITS_EXPIRE_DAYS = 30
    send(notice(account, payment_intent="pi_1"))
    with transaction.atomic():
        ledger.charge({account.id: Decimal(100)})

    with at(timezone.now() + timedelta(days=31)):
        assert ledger.balance_of(account) == 0
        for amount in (1190, 2975, 2975):
            send(refunded(amount))

        assert ledger.balance_of(account) == -100
        check_the_books(account)


def test_a_refund_of_somebody_elses_payment_moves_nothing(account: Account, payments: StandIn) -> None:
    send(notice(account, payment_intent="pi_1"))

    for body in (refunded(2975, payment_intent="pi_2"), refunded(2975, payment_intent=None), refunded(2975, amount=0)):
        assert send(body).status_code == 204

    assert ledger.balance_of(account) == 2500


def test_a_purchase_expires_where_the_operator_wants_it(account: Account, payments: StandIn, settings: Any) -> None:
    settings.CREDITS_EXPIRE_DAYS = 365

    send(notice(account))

    (entry,) = LedgerEntry.objects.all()
    assert entry.expires_at is not None
    assert entry.expires_at - entry.created_at > timedelta(days=364)


def test_less_than_the_least_purchase_is_refused(api: Api, payments: StandIn, settings: Any) -> None:
    settings.CREDITS_LEAST_PURCHASE_CENTS = 500

    refused = api.post(PATH, {"amount": 499})

    assert (refused.status_code, refused.json()["errorCode"]) == (422, "amount_refused")
    assert "500 cents" in json.dumps(refused.json())
    assert api.post(PATH, {"amount": 500}).status_code == 200


def test_a_slow_bank_pays_later(account: Account, payments: StandIn) -> None:
    assert send(notice(account, payment_status="unpaid")).status_code == 204
    assert ledger.balance_of(account) == 0

    send(notice(account, kind="checkout.session.async_payment_succeeded"))

    assert ledger.balance_of(account) == 2500


@pytest.mark.parametrize(
    "session",
    [
        {"payment_status": "unpaid"},
        {"payment_status": "no_payment_required"},
        {"currency": "eur"},
        {"amount_subtotal": 0},
        {"amount_subtotal": None},
        {"amount_subtotal": -5},
        {"metadata": {}},
        {"metadata": None},
        {"metadata": {"gateway_account": "ac_01h455vb4pex5vsknk084sn02q"}},
        {"metadata": {"gateway_account": "somebody"}},
        {"kind": "checkout.session.expired"},
        {"kind": "charge.refunded"},
    ],
)
def test_a_notice_of_anything_else_grants_nothing(account: Account, payments: StandIn, session: dict[str, Any]) -> None:
    assert send(notice(account, **session)).status_code == 204
    assert not LedgerEntry.objects.exists()


def test_a_notice_that_the_payment_provider_did_not_sign_is_refused(account: Account, payments: StandIn) -> None:
    body = notice(account)
    answers = [
        send(body, secret="whsec_of_another"),
        send(body, at=time.time() - 3600),
        send(body, header="t=1"),
        send(body, header="nonsense"),
        send(body, header="t=x,v1=y"),
        Api().post("/webhooks/stripe", json.loads(body)),
        send("not json"),
        send('{"type": "checkout.session.completed"}'),
    ]

    assert {(one.status_code, one.json()["errorCode"]) for one in answers} == {(400, "notice_not_authentic")}
    assert not LedgerEntry.objects.exists()


def test_an_altered_notice_is_refused(account: Account, payments: StandIn) -> None:
    body = notice(account)
    signature = stripe.WebhookSignature.generate_signature_header(body, SECRET)

    assert send(body.replace("2500", "9500"), header=signature).status_code == 400


def test_without_a_secret_no_notice_is_believed(account: Account, payments: StandIn, settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRET = ""

    assert send(notice(account), secret="").json()["errorCode"] == "checkout_not_configured"


def test_notices_are_posted(payments: StandIn) -> None:
    answer = Api().get("/webhooks/stripe")

    assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
