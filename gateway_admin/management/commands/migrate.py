"""Django's `migrate`, for a deployment that goes on serving: one at a time, and no request waits long behind it."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import psycopg.errors
from django.core.management import CommandParser
from django.core.management.commands import migrate
from django.db import DatabaseError, OperationalError, connections

# A change of a table waits for every transaction that reads it, and every new one waits behind the change.
LOCK_SECONDS: Final = 2
PAUSE_SECONDS: Final = 5.0
WAIT_SECONDS: Final = 0.5
TRIES: Final = 60
# The key of an advisory lock.
_LOCK: Final = int.from_bytes(b"migrate", "big")


class Command(migrate.Command):
    """Wait for another `migrate` to end. Give up a lock after 2 s, and try again after 5 s, for some seven minutes."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Take Django's own arguments, and the number of tries."""
        super().add_arguments(parser)
        parser.add_argument(
            "--tries", type=int, default=TRIES, help=f"how often a lock is tried for, {LOCK_SECONDS} s each (60)"
        )

    def handle(self, *args: Any, **options: Any) -> Any:
        """Migrate, in as many tries as it takes. A migration is done whole or not at all, so a try goes on where the
        last one ended.

        Raises:
            OperationalError: a transaction has held a table for all the tries.
        """
        tries = options.pop("tries")
        connection = connections[options["database"]]
        # A transaction of its own keeps the lock: it holds behind a pooler too, and ends with this process.
        keeper = connection.copy()
        keeper.set_autocommit(False)
        try:
            while not self._is_alone(keeper):
                keeper.rollback()
                time.sleep(WAIT_SECONDS)
            for left in reversed(range(tries)):
                try:
                    with connection.execute_wrapper(_bound):
                        return super().handle(*args, **options)
                except OperationalError as fault:
                    if not left or not isinstance(fault.__cause__, psycopg.errors.LockNotAvailable):
                        raise
                    self.stderr.write("A long transaction holds a table that a migration changes. Trying again.")
                    time.sleep(PAUSE_SECONDS)
                finally:
                    connection.close()
        finally:
            with suppress(DatabaseError):
                keeper.rollback()
            keeper.close()
        return None

    @staticmethod
    def _is_alone(keeper: Any) -> bool:
        """Try for the lock. To wait for it would hold up an index that another `migrate` builds beside the traffic."""
        with keeper.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
            return bool(cursor.fetchone()[0])


def _bound(execute: Callable[..., Any], sql: str, params: Any, many: Any, context: dict[str, Any]) -> Any:
    """Bound the wait for a lock, within a transaction. An index that is built beside the traffic has none and waits."""
    if context["connection"].in_atomic_block:
        context["cursor"].cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
    return execute(sql, params, many, context)
