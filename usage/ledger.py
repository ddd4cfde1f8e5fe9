"""Credits: grants, charges for usage, expiry and refunds. Every movement is a new entry of the ledger.

Credits that expire soonest are used first; among those that never expire, or at the same moment, the older ones
(docs/decisions/0063-credits.md). What is charged when none are left is debt, which the next grant pays first.

Between transactions this holds, and the tests hold it for random histories:

- the balance is the sum of the account's entries, and is what its lots have left, minus its debt;
- no lot is below zero, and there is no debt while a lot has anything left;
- the debt is what the account's months were charged and not paid.

The amounts here are cents with ten places; what a client sees is whole cents.
"""

import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import Final

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from account_settings.services import record_credits_changed
from accounts.models import Account
from audit.actions import Action
from audit.recording import Author, record
from rest.errors import Conflict, InvalidRequest
from usage.models import Balance, LedgerEntry, Lot, Period
from usage.partitions import month_of

_ZERO: Final = Decimal(0)
Kind = LedgerEntry.Kind


class AlreadyGranted(Conflict):
    """Credits have been granted for this reference before."""

    code = "already_granted"


class GrantInvalid(InvalidRequest):
    """A grant is at least one cent, and expires in the future or never."""

    code = "grant_invalid"


@transaction.atomic
def grant(
    *,
    account: Account,
    cents: int,
    category: str,
    expires_at: datetime | None = None,
    reference: str | None = None,
    payment: str | None = None,
    by: Author | None = None,
) -> LedgerEntry:
    """Give credits to an account. They pay its debt first.

    Args:
        account: whose.
        cents: at least one.
        category: one of LedgerEntry.Category.
        expires_at: when what is left of them is lost; None for never.
        reference: what they are for. The same one grants once.
        payment: the payment provider's ID of what they were paid by.
        by: who gives them; None for a management command, or the payment provider's notice.

    Raises:
        GrantInvalid: no cents, or expired already.
        AlreadyGranted: the reference has been used.
    """
    now = timezone.now()
    if cents < 1 or (expires_at is not None and expires_at <= now):
        raise GrantInvalid
    books = _Books([account.id], now)
    books.expire()
    entry = LedgerEntry(
        account=account,
        kind=Kind.GRANT,
        amount=Decimal(cents),
        category=LedgerEntry.Category(category),
        expires_at=expires_at,
        reference=reference,
        payment=payment,
        created_at=now,
    )
    try:
        with transaction.atomic():
            entry.save(force_insert=True)
    except IntegrityError as fault:
        if "one_grant_per_reference" in str(fault):
            raise AlreadyGranted from None
        raise
    books.accounts[account.id].add_lot(entry)
    books.write()
    record(by, Action.CREDITS_GRANTED, entry)
    return entry


@transaction.atomic
def refund(*, payment: str, refunded: int, of: int, by: Author | None = None) -> Decimal:
    """Take back credits whose money was given back: what is left of them, and what was spent is charged again.

    Args:
        payment: the payment provider's ID, as the grant has it.
        refunded: how much of the payment was given back until now, all refunds together.
        of: how much was paid.
        by: who refunds; None for the payment provider's notice.

    Returns:
        The cents that were taken: 0 where this refund, or a later one of the payment, is booked already, and where no
        credits were granted for the payment.
    """
    bought = LedgerEntry.objects.filter(payment=payment, kind=Kind.GRANT).first()
    if bought is None or refunded < 1 or of < 1:
        return _ZERO
    books = _Books([bought.account_id], timezone.now())
    booked = LedgerEntry.objects.filter(payment=payment).exclude(kind=Kind.GRANT).aggregate(sum=models.Sum("amount"))
    whole = (bought.amount * min(refunded, of) / of).quantize(Decimal(1), ROUND_HALF_EVEN)
    due = whole + (booked["sum"] or _ZERO)
    if due <= 0:
        return _ZERO
    books.expire()
    entries = books.accounts[bought.account_id].take_back(bought, due)
    books.write()
    for entry in entries[:1]:
        record(by, Action.CREDITS_REFUNDED, entry)
    return -sum((entry.amount for entry in entries), _ZERO)


def charge(cents: Mapping[uuid.UUID, Decimal]) -> None:
    """Take what usage cost from the accounts' credits. Called in the transaction that adds the usage.

    Args:
        cents: by account; nothing negative.
    """
    due = {account: amount for account, amount in cents.items() if amount > 0}
    if not due:
        return
    books = _Books(due, timezone.now())
    books.expire()
    for account, amount in due.items():
        books.accounts[account].take(amount)
    books.write()


def expire_due() -> int:
    """Write the entries of grants that have expired. Returns the number of accounts that lost something by it."""
    now = timezone.now()
    due = Lot.objects.filter(remaining__gt=0, expires_at__lte=now)
    accounts = list(due.order_by("account_id").values_list("account_id", flat=True).distinct()[:1000])
    for account in accounts:
        with transaction.atomic():
            books = _Books([account], now)
            books.expire()
            books.write()
    return len(accounts)


def balance_of(account: Account) -> Decimal:
    """The account's balance in cents, without what has expired and is not written off yet. Negative: debt."""
    return _balances([account]).get(account.id, _ZERO)


def accounts_with_credits(accounts: Collection[Account]) -> set[uuid.UUID]:
    """The UUIDs of the given accounts whose balance is above zero, even by a fraction of a cent."""
    return {account for account, balance in _balances(accounts).items() if balance > 0}


def _balances(accounts: Collection[Account]) -> dict[uuid.UUID, Decimal]:
    expired = Lot.objects.filter(account__in=accounts, remaining__gt=0, expires_at__lte=timezone.now())
    lost = dict(expired.values_list("account_id").annotate(models.Sum("remaining")).order_by())
    found = Balance.objects.filter(account__in=accounts).values_list("account_id", "amount")
    return {account: amount - lost.get(account, _ZERO) for account, amount in found}


def whole_cents(amount: Decimal) -> int:
    """A balance as a client sees it: never more than there is."""
    return int(amount.to_integral_value(ROUND_FLOOR))


@dataclass
class _Account:
    """One account's balance, lots and new entries. Its row is locked."""

    balance: Balance
    # Open lots, in the order in which they are used.
    lots: list[Lot]
    now: datetime
    entries: list[LedgerEntry] = field(default_factory=list)
    touched: dict[uuid.UUID, Lot] = field(default_factory=dict)
    new_lots: list[Lot] = field(default_factory=list)
    # What changes in the running month, and what is paid of earlier debt.
    charged: Decimal = _ZERO
    applied: Decimal = _ZERO
    settled: Decimal = _ZERO

    def expire(self) -> None:
        """Write off what has expired."""
        due = [lot for lot in self.lots if lot.expires_at is not None and lot.expires_at <= self.now]
        for lot in due:
            self._move(Kind.EXPIRY, lot, lot.remaining)
        self.lots = [lot for lot in self.lots if lot.remaining]

    def take(self, cents: Decimal) -> None:
        """Charge: from the lots in their order, and the rest as debt."""
        self.charged += cents
        rest = cents
        for lot in self.lots:
            if not rest:
                break
            part = min(rest, lot.remaining)
            self._move(Kind.CHARGE, lot, part)
            self.applied += part
            rest -= part
        self.lots = [lot for lot in self.lots if lot.remaining]
        if rest:
            self._write(Kind.CHARGE, -rest)
            self.balance.debt += rest

    def take_back(self, bought: LedgerEntry, cents: Decimal) -> list[LedgerEntry]:
        """Take what is left of a grant, and charge again what was spent of it. What expired is gone already."""
        # Of a lot that has just expired the row does not say so yet.
        held = [*self.touched.values(), *self.lots]
        lot = next((one for one in held if one.grant_id == bought.id), None) or Lot.objects.get(grant=bought)
        moved = LedgerEntry.objects.filter(lot=bought)
        gone = moved.filter(kind__in=[Kind.EXPIRY, Kind.REFUND]).aggregate(sum=models.Sum("amount"))["sum"] or _ZERO
        just_expired = sum((one.amount for one in self.entries if one.lot_id == bought.id), _ZERO)
        again = LedgerEntry.objects.filter(payment=bought.payment, kind=Kind.CHARGE)
        charged = again.aggregate(sum=models.Sum("amount"))["sum"] or _ZERO
        spent = bought.amount + gone + just_expired + charged - lot.remaining
        first = len(self.entries)
        if part := min(cents, lot.remaining):
            self._move(Kind.REFUND, lot, part)
        self.lots = [one for one in self.lots if one.remaining]
        if (rest := min(cents - part, spent)) > 0:
            self.take(rest)
        for entry in self.entries[first:]:
            entry.payment = bought.payment
        return self.entries[first:]

    def add_lot(self, entry: LedgerEntry) -> None:
        """Take a written grant into the books; it pays the debt first."""
        lot = Lot(grant=entry, account_id=entry.account_id, remaining=entry.amount, expires_at=entry.expires_at)
        self.balance.amount += entry.amount
        self.new_lots.append(lot)
        part = min(self.balance.debt, lot.remaining)
        if part:
            self._move(Kind.SETTLEMENT, lot, part)
            self._write(Kind.SETTLEMENT, part)
            self.balance.debt -= part
            self.settled += part

    def _move(self, kind: LedgerEntry.Kind, lot: Lot, cents: Decimal) -> None:
        self._write(kind, -cents, lot)
        lot.remaining -= cents
        self.touched[lot.grant_id] = lot

    def _write(self, kind: LedgerEntry.Kind, amount: Decimal, lot: Lot | None = None) -> None:
        account = self.balance.account_id
        grant_id = lot.grant_id if lot else None
        self.entries.append(
            LedgerEntry(account_id=account, kind=kind, amount=amount, lot_id=grant_id, created_at=self.now)
        )
        self.balance.amount += amount


class _Books:
    """Several accounts' books, locked in the order of their IDs, so that two who lock the same ones take turns."""

    def __init__(self, accounts: Iterable[uuid.UUID], now: datetime) -> None:
        wanted = sorted(set(accounts))
        self._now = now
        Balance.objects.bulk_create([Balance(account_id=account) for account in wanted], ignore_conflicts=True)
        # `no_key`: nobody who refers to the row has to wait.
        balances = Balance.objects.select_for_update(no_key=True).filter(account__in=wanted).order_by("account_id")
        self.accounts = {balance.account_id: _Account(balance, [], now) for balance in balances}
        self._had_credits = {id_: one.balance.amount > 0 for id_, one in self.accounts.items()}
        lots = Lot.objects.filter(account__in=wanted, remaining__gt=0)
        for lot in lots.order_by(models.F("expires_at").asc(nulls_last=True), "grant_id"):
            self.accounts[lot.account_id].lots.append(lot)

    def expire(self) -> None:
        """Write off what has expired, so that nothing is charged to it."""
        for account in self.accounts.values():
            account.expire()

    def write(self) -> None:
        """Save everything, and publish the settings of accounts that have gained or lost all their credits."""
        accounts = list(self.accounts.values())
        LedgerEntry.objects.bulk_create([entry for account in accounts for entry in account.entries])
        Lot.objects.bulk_create([lot for account in accounts for lot in account.new_lots])
        is_new = {lot.grant_id for account in accounts for lot in account.new_lots}
        touched = [lot for account in accounts for lot in account.touched.values() if lot.grant_id not in is_new]
        Lot.objects.bulk_update(touched, ["remaining"])
        Balance.objects.bulk_update([account.balance for account in accounts], ["amount", "debt"])
        for account in accounts:
            self._write_periods(account)
            account_id = account.balance.account_id
            if (account.balance.amount > 0) != self._had_credits[account_id]:
                record_credits_changed(account_id)

    def _write_periods(self, account: _Account) -> None:
        """A charge belongs to the month in which it was booked: a closed month's invoice never grows."""
        account_id, month = account.balance.account_id, month_of(self._now)
        if account.charged:
            Period.objects.bulk_create([Period(account_id=account_id, start=month)], ignore_conflicts=True)
            Period.objects.filter(account_id=account_id, start=month).update(
                charged=models.F("charged") + account.charged, applied=models.F("applied") + account.applied
            )
        rest = account.settled
        if not rest:
            return
        owing = Period.objects.filter(account_id=account_id, charged__gt=models.F("applied") + models.F("paid"))
        for period in owing.order_by("start"):
            part = min(rest, period.charged - period.applied - period.paid)
            if period.start == month:
                period.applied += part
            else:
                period.paid += part
            period.save(update_fields=["applied", "paid"])
            rest -= part
            if not rest:
                break
