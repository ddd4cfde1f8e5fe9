"""Which answers of an upstream make the worker try the next attempt (contract, section 9).

Everything that asks this question reads it here: the worker, the health of provider keys, the dashboard.
"""

from typing import Final

# Of 4xx these alone. Besides them: no answer at all, a redirect, and every 5xx.
FAILOVER_STATUSES: Final = frozenset({401, 402, 403, 408, 429})
# How an event of usage writes "no answer".
NO_STATUS: Final = 0


def is_failover_status(status: int) -> bool:
    """Whether an attempt that ended in an error of this status was one that failover answers.

    Args:
        status: of the upstream's answer; NO_STATUS where it gave none.
    """
    return status == NO_STATUS or status in FAILOVER_STATUSES or status >= 500  # noqa: PLR2004 -- 5xx
