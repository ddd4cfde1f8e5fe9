"""The balance for managed inference, and the transactions that changed it."""

from decimal import Decimal
from typing import Any, Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from dashboard.kit.forms import Field, Form
from dashboard.kit.page import Page
from dashboard.navigation import CREDITS
from rest.serializers import StrictSerializer
from usage import checkout, ledger, reading
from usage.models import LedgerEntry
from usage.serializers import CheckoutSessionForm

_CENTS: Final = Decimal(100)
_AMOUNT: Final = Field(
    "amount",
    "Amount in US dollars",
    required=True,
    placeholder="50",
    hint="You pay at the payment provider's own page.",
)


class CreditsPage(Page):
    """`/dashboard/credits`: the balance and the transactions."""

    path = "credits"
    name = "credits"
    section = CREDITS
    title = "Credits"
    template = "dashboard/credits.html"

    def get(self, _request: HttpRequest) -> HttpResponse:
        """Show the balance, the purchases and the cost of each month."""
        return self._shown(_AmountForm())

    def post(self, request: HttpRequest) -> HttpResponse:
        """Show a link to the payment page, because the content security policy lets no form lead to another host.

        Credits are added when the payment provider confirms the payment, whatever page the buyer opens afterwards.
        """
        form = _AmountForm(submitted=request.POST)
        with form.faults_shown():
            session = checkout.start_checkout(
                account=self.visit.account, by=self.visit.principal, cents=form.values()["amount"]
            )
            return self._shown(form, payment_page=session.session_url)
        return self._shown(form)

    def _shown(self, form: Form, payment_page: str = "") -> HttpResponse:
        balance = ledger.balance_of(self.visit.account)
        moved = [_row(entry) for entry in reading.transactions(self.visit.account)]
        return self.render(
            balance=_dollars(ledger.whole_cents(balance)),
            is_debt=balance < 0,
            has_credits=balance > 0,
            moved=moved,
            can_buy=bool(settings.STRIPE_SECRET_KEY),
            form=form,
            payment_page=payment_page,
            status=form.status,
        )


class _AmountForm(Form):
    """The form for an amount. Users type dollars; the API takes cents."""

    def __init__(self, submitted: Any = None, serializer: type[StrictSerializer] = CheckoutSessionForm) -> None:
        super().__init__(serializer, (_AMOUNT,), submitted=submitted)

    def wire(self) -> dict[str, Any]:
        """The amount in cents. A text that is not an amount is passed on unchanged, so that the API refuses it."""
        body = super().wire()
        text = str(body.get("amount", "")).strip().removeprefix("$")
        whole, _, part = text.partition(".")
        if whole.isascii() and whole.isdigit() and (not part or (part.isascii() and part.isdigit() and len(part) <= 2)):  # noqa: PLR2004 -- a dollar has two places
            body["amount"] = int(Decimal(text) * _CENTS)
        return body


def _row(entry: LedgerEntry | reading.Invoice) -> dict[str, Any]:
    if isinstance(entry, LedgerEntry):
        return {"grant": entry, "at": entry.created_at, "amount": _dollars(int(entry.amount))}
    return {
        "invoice": entry,
        "at": entry.created_at,
        "total": _dollars(entry.total_cents),
        "applied": _dollars(entry.applied_credits_cents),
        "remaining": _dollars(entry.amount_remaining_cents),
    }


def _dollars(cents: int) -> str:
    sign = "−" if cents < 0 else ""
    return f"{sign}${abs(cents) // 100:,}.{abs(cents) % 100:02}"


PAGES: Final = (CreditsPage,)
