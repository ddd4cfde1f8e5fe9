"""Which accounts have credits: a fact of the ledger that the data plane reads among an account's settings.

The ledger stands in a room above this one and registers itself here. Without a ledger nobody has credits.
"""

import uuid
from collections.abc import Callable, Collection
from typing import Final

from accounts.models import Account

Ledger = Callable[[Collection[Account]], set[uuid.UUID]]

_ledgers: Final[list[Ledger]] = []


def register(ledger: Ledger) -> None:
    """Name the function that knows. Its app config calls this once; a second call replaces the first.

    Args:
        ledger: the IDs of those accounts whose balance is above zero now. Asked for each publication of settings.
    """
    _ledgers[:] = [ledger]


def accounts_with_credits(accounts: Collection[Account]) -> set[uuid.UUID]:
    """Those of the accounts that can pay for managed inference."""
    return _ledgers[0](accounts) if _ledgers else set()
