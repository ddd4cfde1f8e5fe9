"""Holds: usage.models

The ledger's table itself: it only grows.
"""

import pytest
from django.db import DatabaseError, connection, transaction

from accounts.models import Account
from usage.models import LedgerEntry


@pytest.fixture
def entry(account: Account) -> LedgerEntry:
    return LedgerEntry.objects.create(account=account, kind="grant", amount=100, category="purchase")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE usage_ledgerentry SET amount = 200",
        "DELETE FROM usage_ledgerentry",
        "TRUNCATE usage_ledgerentry CASCADE",
    ],
)
def test_no_entry_is_ever_changed(entry: LedgerEntry, statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE usage_ledgerentry ENABLE TRIGGER ledger_is_not_truncated")

    with pytest.raises(DatabaseError, match="the ledger only grows"), transaction.atomic():
        connection.cursor().execute(statement)

    assert LedgerEntry.objects.get().amount == 100


@pytest.mark.django_db(transaction=True)
def test_a_test_that_commits_leaves_nothing_behind() -> None:
    account = Account.objects.create(name="a")
    LedgerEntry.objects.create(account=account, kind="grant", amount=100, category="purchase")
