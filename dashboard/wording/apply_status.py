"""The text that a message after a write adds: whether the workers have applied the write."""

from typing import Final

from django.db import connection

from accounts.models import Account
from snapshots import outbox, waiting

# Seconds. A page does not wait longer. A change that is not applied by then is applied later, and the page "Data plane"
# shows it.
_SECONDS: Final = 1


def with_applied(account: Account, said: str) -> str:
    """The text `said` about a write, with the number of workers that have applied it.

    Call it after the write, in the same request. Nothing is added where the number is not known: Redis does not answer,
    or no worker runs.
    """
    if connection.in_atomic_block:
        return said
    try:
        outcome = waiting.wait(waiting.awaited(account, outbox.last_written()), seconds=_SECONDS)
    except (waiting.TooManyWaiters, waiting.NobodyKnows):
        return said
    if outcome.of == 0:
        return said
    if outcome.applied == outcome.of:
        return f"{said} {'The worker has' if outcome.of == 1 else f'All {outcome.of} workers have'} applied it."
    return f"{said} {outcome.applied} of {outcome.of} workers have applied it so far; Data plane shows when all have."
