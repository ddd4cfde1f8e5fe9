"""Whether the workers have what was just written, in words for the message that follows a write."""

from typing import Final

from django.db import connection

from accounts.models import Account
from snapshots import outbox, waiting

# A page is not held up for longer. What is not applied by then will be, and the Data plane's page shows it.
_SECONDS: Final = 1


def with_applied(account: Account, said: str) -> str:
    """What was said of a write, and at how many workers it is in force; called after the write, in the same request.

    Nothing is added where nobody knows: Redis is away, or no worker runs.
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
