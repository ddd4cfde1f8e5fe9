"""Find the accounts that have credits. The data plane reads this as one of an account's settings.

The ledger is in the room `usage`, which may import this room; this room must not import it.
"""

import uuid
from collections.abc import Callable, Collection
from typing import Final

from accounts.models import Account
from gateway_core.ports import Port

# Returns the IDs of the given accounts whose balance is above zero. Called for each publication of settings.
LEDGER: Final[Port[Callable[[Collection[Account]], set[uuid.UUID]]]] = Port("the ledger of credits")


def accounts_with_credits(accounts: Collection[Account]) -> set[uuid.UUID]:
    """The UUIDs of the given accounts that can pay for managed inference."""
    return LEDGER.get()(accounts)
