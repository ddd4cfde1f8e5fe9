"""Which accounts have credits: a fact of the ledger that the data plane reads among an account's settings.

The ledger is in the room `usage`, which stands above this one.
"""

import uuid
from collections.abc import Callable, Collection
from typing import Final

from accounts.models import Account
from gateway_core.ports import Port

# Returns the IDs of those of the accounts whose balance is above zero now. Called for each publication of settings.
LEDGER: Final[Port[Callable[[Collection[Account]], set[uuid.UUID]]]] = Port("the ledger of credits")


def accounts_with_credits(accounts: Collection[Account]) -> set[uuid.UUID]:
    """Those of the accounts that can pay for managed inference."""
    return LEDGER.get()(accounts)
