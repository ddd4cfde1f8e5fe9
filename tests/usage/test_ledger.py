"""Holds: usage.ledger

Credits: every movement is an entry, the sums agree with the entries, and a replay moves nothing.
"""

import io
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from account_settings.credits import accounts_with_credits
from accounts.models import Account
from snapshots.models import Change
from tests import tiers
from tests.events import an_event
from tests.usage.conftest import Emit
from usage import ledger, reading
from usage.ledger import AlreadyGranted, GrantInvalid
from usage.models import Balance, LedgerEntry, Lot, Period

Kind = LedgerEntry.Kind
PURCHASE, PROMOTIONAL = LedgerEntry.Category.PURCHASE, LedgerEntry.Category.PROMOTIONAL


@contextmanager
def at(moment: datetime) -> Iterator[None]:
    """Django's clock stands at a moment."""
    with mock.patch("django.utils.timezone.now", return_value=moment):
        yield


def charge(account: Account, cents: str | Decimal | int) -> None:
    with transaction.atomic():
        ledger.charge({account.id: Decimal(cents)})


def left(account: Account) -> list[Decimal]:
    return [lot.remaining for lot in Lot.objects.filter(account=account).order_by("grant_id")]


def movements(account: Account, kind: LedgerEntry.Kind) -> list[Decimal]:
    return list(LedgerEntry.objects.filter(account=account, kind=kind).order_by("id").values_list("amount", flat=True))


def check_the_books(account: Account) -> None:
    """What must hold between any two transactions (usage.ledger)."""
    entries = LedgerEntry.objects.filter(account=account)
    balance = Balance.objects.filter(account=account).first() or Balance(account=account)
    lots = {lot.grant_id: lot for lot in Lot.objects.filter(account=account)}

    assert balance.amount == (entries.aggregate(total=Sum("amount"))["total"] or 0)
    assert balance.amount == sum(lot.remaining for lot in lots.values()) - balance.debt
    assert all(lot.remaining >= 0 for lot in lots.values())
    assert balance.debt == 0 or not any(lot.remaining for lot in lots.values())
    for grant_id, lot in lots.items():
        grant = entries.get(id=grant_id)
        moved = entries.filter(lot=grant_id).aggregate(total=Sum("amount"))["total"] or Decimal(0)
        assert grant.amount + moved == lot.remaining
    without_lot = entries.filter(lot=None).exclude(kind=Kind.GRANT).aggregate(total=Sum("amount"))["total"] or 0
    assert without_lot == -balance.debt
    periods = Period.objects.filter(account=account)
    assert sum(period.charged - period.applied - period.paid for period in periods) == balance.debt
    assert sum(period.charged for period in periods) == -sum(movements(account, Kind.CHARGE))


def test_a_grant_is_worth_what_it_says(account: Account) -> None:
    ledger.grant(account=account, cents=500, category=PURCHASE)

    assert ledger.balance_of(account) == 500
    assert account.id in accounts_with_credits([account])
    check_the_books(account)


def test_without_credits_there_are_none(account: Account) -> None:
    assert ledger.balance_of(account) == 0
    assert account.id not in accounts_with_credits([account])


@pytest.mark.parametrize("given", [{"cents": 0}, {"cents": -5}, {"cents": 5, "expires_at": timezone.now()}])
def test_a_grant_that_is_none_is_refused(account: Account, given: dict[str, Any]) -> None:
    with pytest.raises(GrantInvalid):
        ledger.grant(account=account, category=PURCHASE, **given)

    assert not LedgerEntry.objects.exists()


def test_one_reference_grants_once(account: Account, other_account: Account) -> None:
    ledger.grant(account=account, cents=500, category=PURCHASE, reference="stripe:cs_1")

    for one in (account, other_account):
        with pytest.raises(AlreadyGranted):
            ledger.grant(account=one, cents=500, category=PURCHASE, reference="stripe:cs_1")

    assert ledger.balance_of(account) == 500
    assert ledger.balance_of(other_account) == 0
    check_the_books(account)


def test_what_expires_soonest_is_used_first(account: Account) -> None:
    now = timezone.now()
    ledger.grant(account=account, cents=100, category=PURCHASE)
    ledger.grant(account=account, cents=100, category=PROMOTIONAL, expires_at=now + timedelta(days=30))
    ledger.grant(account=account, cents=100, category=PROMOTIONAL, expires_at=now + timedelta(days=10))
    ledger.grant(account=account, cents=100, category=PURCHASE)

    charge(account, "150.5")
    assert left(account) == [100, Decimal("49.5"), 0, 100]

    charge(account, 100)
    assert left(account) == [Decimal("49.5"), 0, 0, 100]
    check_the_books(account)


def test_what_no_credits_are_left_for_is_debt_and_the_next_grant_pays_it(account: Account) -> None:
    ledger.grant(account=account, cents=10, category=PURCHASE)
    charge(account, "12.5")
    assert ledger.balance_of(account) == Decimal("-2.5")
    assert account.id not in accounts_with_credits([account])
    check_the_books(account)

    ledger.grant(account=account, cents=2, category=PURCHASE)
    assert ledger.balance_of(account) == Decimal("-0.5")
    assert account.id not in accounts_with_credits([account])

    ledger.grant(account=account, cents=2, category=PURCHASE)
    assert ledger.balance_of(account) == Decimal("1.5")
    assert account.id in accounts_with_credits([account])
    check_the_books(account)


def test_credits_are_lost_at_their_expiry_and_not_before(account: Account) -> None:
    now = timezone.now()
    expires = now + timedelta(hours=1)
    ledger.grant(account=account, cents=100, category=PROMOTIONAL, expires_at=expires)
    charge(account, 30)

    with at(expires - timedelta(seconds=1)):
        assert ledger.expire_due() == 0
        assert account.id in accounts_with_credits([account])
    with at(expires):
        # Nobody has written it off yet, and it counts no more all the same.
        assert ledger.balance_of(account) == 0
        assert account.id not in accounts_with_credits([account])
        assert ledger.expire_due() == 1
        assert ledger.expire_due() == 0
        assert ledger.balance_of(account) == 0

    assert movements(account, Kind.EXPIRY) == [-70]
    check_the_books(account)


def test_nothing_is_charged_to_what_has_expired(account: Account) -> None:
    expires = timezone.now() + timedelta(hours=1)
    ledger.grant(account=account, cents=100, category=PROMOTIONAL, expires_at=expires)

    with at(expires):
        charge(account, 5)

    assert movements(account, Kind.EXPIRY) == [-100]
    assert ledger.balance_of(account) == -5
    check_the_books(account)


@pytest.mark.parametrize(
    ("steps", "recorded"),
    [
        ([("grant", 100)], 1),
        ([("grant", 100), ("grant", 100)], 1),
        ([("grant", 100), ("charge", 50)], 1),
        ([("grant", 100), ("charge", 100)], 2),
        ([("grant", 100), ("charge", 150), ("grant", 20)], 2),
        ([("grant", 100), ("charge", 150), ("grant", 60)], 3),
        ([("charge", 5)], 0),
    ],
)
def test_the_data_plane_is_told_when_credits_come_or_go_and_only_then(
    account: Account, steps: list[tuple[str, int]], recorded: int
) -> None:
    for step, cents in steps:
        if step == "grant":
            ledger.grant(account=account, cents=cents, category=PURCHASE)
        else:
            charge(account, cents)

    assert Change.objects.filter(account=account, document="settings").count() == recorded


def test_an_expiry_that_takes_the_last_credits_is_told(account: Account) -> None:
    expires = timezone.now() + timedelta(hours=1)
    ledger.grant(account=account, cents=100, category=PROMOTIONAL, expires_at=expires)
    Change.objects.all().delete()

    with at(expires):
        ledger.expire_due()

    assert [change.document for change in Change.objects.filter(account=account)] == ["settings"]


def test_usage_is_charged_once_and_to_the_smallest_fraction(account: Account, emit: Emit) -> None:
    ledger.grant(account=account, cents=1, category=PURCHASE)
    event = an_event(account, input_tokens=3, output_tokens=0)

    emit([event])
    emit([event])

    # 3 tokens at 2.50 dollars a million.
    assert ledger.balance_of(account) == Decimal(1) - Decimal("0.00075")
    assert ledger.whole_cents(ledger.balance_of(account)) == 0
    assert account.id in accounts_with_credits([account])
    check_the_books(account)


@pytest.mark.parametrize(
    ("key_source", "fee", "cents"),
    [
        ("ngrok", "0", "0.35"),
        ("ngrok", "100", "0.46"),
        ("user", "0", "0"),
        ("user", "100", "0.11"),
        ("none", "100", "0.11"),
    ],
)
def test_the_operators_keys_cost_the_list_price_and_every_key_the_fee(
    account: Account, emit: Emit, settings: Any, key_source: str, fee: str, cents: str
) -> None:
    settings.PROCESSING_FEE_CENTS = Decimal(fee)
    key: dict[str, Any] = (
        {"provider_key": "aigpk_01m82s3ajbe7xswzcs8hg70ky3", "mask": "***"} if key_source == "user" else {}
    )

    emit([an_event(account, key_source=key_source, **key)])

    assert ledger.balance_of(account) == -Decimal(cents)
    check_the_books(account)


def test_every_account_pays_for_itself(account: Account, other_account: Account, emit: Emit) -> None:
    emit([an_event(account), an_event(other_account), an_event(other_account)])

    assert ledger.balance_of(account) == Decimal("-0.35")
    assert ledger.balance_of(other_account) == Decimal("-0.70")


# ── months ──


def test_a_closed_month_is_an_invoice_and_later_credits_pay_it(account: Account) -> None:
    september, october, november = (datetime(2026, month, 15, tzinfo=UTC) for month in (9, 10, 11))
    with at(september):
        ledger.grant(account=account, cents=100, category=PURCHASE)
        charge(account, "130.4")
    with at(october):
        charge(account, 20)
        ledger.grant(account=account, cents=40, category=PROMOTIONAL)
    with at(november):
        charge(account, 3)
        found = reading.transactions(account)

    invoices = [one for one in found if isinstance(one, reading.Invoice)]
    assert [
        (
            one.period_start.month,
            one.is_preview,
            one.total_cents,
            one.applied_credits_cents,
            one.amount_due_cents,
            one.amount_paid_cents,
            one.amount_remaining_cents,
        )
        for one in invoices
    ] == [
        (11, True, 3, 0, 3, 0, 3),
        # October's grant paid September first, then its own month: as credits applied.
        (10, False, 20, 10, 10, 0, 10),
        (9, False, 130, 100, 30, 30, 0),
    ]
    assert [type(one).__name__ for one in found] == ["Invoice", "Invoice", "LedgerEntry", "Invoice", "LedgerEntry"]
    check_the_books(account)


# ── histories ──

CENTS = st.decimals(min_value="0.0000000001", max_value=300, places=10)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("grant"), st.integers(1, 300), st.one_of(st.none(), st.integers(1, 60))),
        st.tuples(st.just("charge"), CENTS),
        st.tuples(st.just("wait"), st.integers(1, 40)),
        st.tuples(st.just("expire")),
        st.tuples(st.just("replay")),
    ),
    max_size=25,
)


class Histories(TestCase):
    """Random histories, each in a transaction of its own."""

    @settings(max_examples=tiers.number(8, full=30))
    @given(STEPS)
    def test_whatever_happens_the_books_agree_with_the_entries(self, steps: list[Any]) -> None:
        account = Account.objects.create(name="a")
        now = datetime(2026, 1, 1, tzinfo=UTC)
        granted = charged = Decimal(0)
        references: list[str] = []
        for step in steps:
            with at(now):
                match step:
                    case ("grant", cents, days):
                        references.append(str(uuid.uuid4()))
                        ledger.grant(
                            account=account,
                            cents=cents,
                            category=PURCHASE,
                            expires_at=None if days is None else now + timedelta(days=days),
                            reference=references[-1],
                        )
                        granted += cents
                    case ("charge", cents):
                        charge(account, cents)
                        charged += cents
                    case ("wait", days):
                        now += timedelta(days=days)
                    case ("expire",):
                        ledger.expire_due()
                    case ("replay",) if references:
                        with pytest.raises(AlreadyGranted):
                            ledger.grant(account=account, cents=7, category=PURCHASE, reference=references[0])
                check_the_books(account)
        expired = -sum(movements(account, Kind.EXPIRY), Decimal(0))
        balance = Balance.objects.filter(account=account).first() or Balance()
        assert balance.amount == granted - charged - expired
        assert sum(movements(account, Kind.SETTLEMENT), Decimal(0)) == 0


# ── the command ──


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("grant_credits", *arguments, stdout=out)
    return out.getvalue()


def test_the_operator_grants_by_id_or_by_name(account: Account) -> None:
    assert "The balance is 500 cents" in run(account.text_id, "500", "--yes")
    run("Alice's", "250", "--yes", "--category", "promotional", "--expires", "2099-01-31", "--reference", "r")

    granted = LedgerEntry.objects.get(category=PROMOTIONAL)
    assert (granted.amount, granted.expires_at, granted.reference) == (250, datetime(2099, 1, 31, tzinfo=UTC), "r")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nobody", "5", "--yes"],
        ["ac_01h455vb4pex5vsknk084sn02q", "5", "--yes"],
        ["Alice's", "0", "--yes"],
        ["Alice's", "5", "--expires", "2020-01-01", "--yes"],
        ["Alice's", "five"],
        ["Alice's", "5", "--category", "free"],
    ],
)
def test_a_grant_that_means_nothing_is_refused(account: Account, arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        run(*arguments)

    assert not LedgerEntry.objects.exists()


def test_a_name_of_two_accounts_grants_to_none(account: Account) -> None:
    Account.objects.create(name=account.name)

    with pytest.raises(CommandError, match="give the ID"):
        run(account.name, "5", "--yes")


def test_the_operator_is_asked(account: Account) -> None:
    with mock.patch("builtins.input", return_value=""), pytest.raises(CommandError, match="Nothing was granted"):
        run(account.text_id, "5")

    assert not LedgerEntry.objects.exists()
