"""Buying credits: a payment page at Stripe, and Stripe's notice that it was paid.

Only the notice grants credits. A session is granted once, however often its notice is sent, and whether or not the
buyer comes back from the page. The session's metadata names the account; Stripe signs it.

Source: docs/decisions/0065-checkout.md.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

import msgspec
import stripe
import structlog
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts.models import Account
from accounts.principals import Principal
from audit.actions import Action
from audit.recording import record_act
from gateway_core import ids
from rest.errors import InvalidRequest, RequestMalformed, Unavailable
from usage import ledger
from usage.models import LedgerEntry

log: structlog.stdlib.BoundLogger = structlog.get_logger(__name__)

# Stripe's own bound: eight digits.
MAX_CENTS: Final = 99_999_999
_SECONDS: Final = 10.0
_CURRENCY: Final = "usd"
# A session is paid when it completes, or later if the bank needs more time.
_PAID: Final = frozenset({"checkout.session.completed", "checkout.session.async_payment_succeeded"})
# The charge of a payment says how much of it was given back, all refunds together.
_REFUNDED: Final = "charge.refunded"


class CheckoutNotConfigured(Unavailable):
    """This gateway does not sell credits: no payment provider is configured."""

    code = "checkout_not_configured"
    retry_after_seconds = 3600


class CheckoutUnavailable(Unavailable):
    """The payment provider does not answer at the moment."""

    code = "checkout_unavailable"
    retry_after_seconds = 5


class AmountRefused(InvalidRequest):
    """The payment provider does not take this amount."""

    code = "amount_refused"


class NoticeNotAuthentic(RequestMalformed):
    """The payment provider did not sign this notice, or the signature is too old."""

    code = "notice_not_authentic"


@dataclass(frozen=True)
class CheckoutSession:
    """A payment page that has not been paid yet."""

    session_id: str
    session_url: str


def start_checkout(*, account: Account, by: Principal, cents: int) -> CheckoutSession:
    """Create a payment page for this many cents of credits. The audit event is stored before the page is returned.

    Raises:
        CheckoutNotConfigured: there is no payment provider.
        AmountRefused: the amount is too small or too large, for this gateway or for the payment provider.
        CheckoutUnavailable: the payment provider does not answer, or its answer has no page.
    """
    if not settings.STRIPE_SECRET_KEY:
        raise CheckoutNotConfigured
    if cents < settings.CREDITS_LEAST_PURCHASE_CENTS:
        least = f"The least purchase is {settings.CREDITS_LEAST_PURCHASE_CENTS} cents."
        raise AmountRefused(details={"amount": least})
    client = stripe.StripeClient(
        settings.STRIPE_SECRET_KEY,
        base_addresses={"api": settings.STRIPE_API_BASE},
        http_client=stripe.RequestsClient(timeout=_SECONDS),
        # The package repeats a request with the same idempotency key, so it cannot make two sessions.
        max_network_retries=1,
    )
    try:
        session = client.v1.checkout.sessions.create(
            {
                "mode": "payment",
                "line_items": [
                    {
                        "quantity": 1,
                        "price_data": {
                            "currency": _CURRENCY,
                            "unit_amount": cents,
                            "product_data": {"name": "AI gateway credits"},
                        },
                    }
                ],
                "client_reference_id": account.text_id,
                "metadata": {"gateway_account": account.text_id},
                "success_url": settings.CHECKOUT_RETURN_URL,
                "cancel_url": settings.CHECKOUT_RETURN_URL,
            }
        )
    except stripe.InvalidRequestError as refusal:
        log.warning("the payment provider refuses a session", reason=refusal.code)
        raise AmountRefused(details={"amount": AmountRefused.message()}) from None
    except stripe.StripeError as fault:
        log.warning("the payment provider does not answer", fault=type(fault).__name__)
        raise CheckoutUnavailable from None
    if not session.id or not session.url:
        raise CheckoutUnavailable
    with transaction.atomic():
        changes: dict[str, list[Any]] = {"cents": [None, cents], "session": [None, session.id]}
        record_act(by, Action.CREDITS_CHECKOUT_STARTED, account, changes=changes)
    return CheckoutSession(session.id, session.url)


class _Session(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    payment_status: str = ""
    # Before taxes: what was bought.
    amount_subtotal: int | None = None
    currency: str | None = None
    metadata: dict[str, str] | None = None
    payment_intent: str | None = None


class _Charge(msgspec.Struct):
    payment_intent: str | None = None
    amount: int = 0
    amount_refunded: int = 0


class _Data(msgspec.Struct):
    object: msgspec.Raw


class _Notice(msgspec.Struct):
    type: str
    data: _Data


def check_notices_are_taken() -> None:
    """
    Raises:
        CheckoutNotConfigured: there is no secret to check a notice's signature with.
    """
    if not settings.STRIPE_WEBHOOK_SECRET:
        raise CheckoutNotConfigured


def take_notice(*, body: bytes, signature: str | None) -> None:
    """Grant the credits of a paid session, and take back those of a refunded payment.

    Any other notice is accepted and has no effect.

    Args:
        body: the request's body, unchanged.
        signature: its `Stripe-Signature`.

    Raises:
        CheckoutNotConfigured: there is no secret to check the signature with.
        NoticeNotAuthentic: the signature is wrong or older than five minutes.
    """
    check_notices_are_taken()
    try:
        text = body.decode("utf-8")
        stripe.WebhookSignature.verify_header(
            text, signature, settings.STRIPE_WEBHOOK_SECRET, stripe.Webhook.DEFAULT_TOLERANCE
        )
        notice = msgspec.json.decode(body, type=_Notice)
        if notice.type == _REFUNDED:
            _take_back(msgspec.json.decode(notice.data.object, type=_Charge))
            return
        if notice.type not in _PAID:
            return
        session = msgspec.json.decode(notice.data.object, type=_Session)
    except (stripe.SignatureVerificationError, UnicodeDecodeError, msgspec.DecodeError, ValueError):
        raise NoticeNotAuthentic from None
    account = _account_of(session)
    if session.payment_status != "paid" or account is None:
        return
    if session.currency != _CURRENCY or not session.amount_subtotal or session.amount_subtotal < 1:
        log.error("a paid session cannot be granted", session=session.id, currency=session.currency)
        return
    try:
        ledger.grant(
            account=account,
            cents=session.amount_subtotal,
            category=LedgerEntry.Category.PURCHASE,
            expires_at=_expiry(),
            reference=f"stripe:{session.id}",
            payment=session.payment_intent,
        )
    except ledger.AlreadyGranted:
        log.info("a notice of a granted session was repeated", session=session.id)


def _expiry() -> datetime | None:
    """When what is bought now is lost; None for never."""
    days = settings.CREDITS_EXPIRE_DAYS
    return timezone.now() + timedelta(days=days) if days else None


def _take_back(charged: _Charge) -> None:
    """Payments that this gateway knows nothing of are passed over: other software may use the same Stripe account."""
    if charged.payment_intent:
        taken = ledger.refund(
            payment=charged.payment_intent, refunded=charged.amount_refunded, of=max(charged.amount, 0)
        )
        log.info("a refund was booked", payment=charged.payment_intent, cents=str(taken))


def _account_of(session: _Session) -> Account | None:
    """None for a session that this gateway did not make: other software may use the same Stripe account."""
    text = (session.metadata or {}).get("gateway_account")
    if text is None:
        return None
    try:
        account = Account.objects.filter(id=ids.from_text(ids.Prefix.ACCOUNT, text)).first()
    except ids.InvalidId:
        account = None
    if account is None:
        log.error("a paid session is for an unknown account", session=session.id)
    return account
