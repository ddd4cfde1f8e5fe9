"""Whether an account has credits: a fact of the ledger that the data plane reads among the account's settings.

The ledger stands in a room above this one and registers itself here. Without a ledger nobody has credits.
"""

from collections.abc import Callable
from typing import Final

from accounts.models import Account

HasCredits = Callable[[Account], bool]

_ledgers: Final[list[HasCredits]] = []


def register(ledger: HasCredits) -> None:
    """Name the function that knows. Its app config calls this once; a second call replaces the first.

    Args:
        ledger: whether the account's balance is above zero now. Asked for each publication of its settings.
    """
    _ledgers[:] = [ledger]


def has_credits(account: Account) -> bool:
    """Whether the account can pay for managed inference."""
    return bool(_ledgers) and _ledgers[0](account)
