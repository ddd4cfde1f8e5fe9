"""A connection to PostgreSQL with a limit on the server's silence, and one error for a server that takes no writes.

A server that is stopped, or a network that drops packets, keeps its connections open and sends nothing. Without a limit
every request would hold its thread until no thread is left, and clients would see a hanging gateway instead of a 503.
Commands (migrations, the relay, Celery) have no limit: their statements may be long, and no client waits for them.

A server that only reads (a standby, a primary that was demoted) refuses writes with an error that psycopg counts among
the faults of a program. It is trouble of the server, like an absence: a later try may succeed.

Source: docs/decisions/0022-bounded-database-waits.md.
"""

from typing import Any, ClassVar

import psycopg


class TakesNoWrites(psycopg.OperationalError):
    """The server only reads at the moment."""

    sqlstate = psycopg.errors.ReadOnlySqlTransaction.sqlstate


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself when the server is silent for longer than `silence_seconds`."""

    # None means no limit. The WSGI entry sets it for the process that serves requests.
    silence_seconds: ClassVar[float | None] = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as psycopg does, and close the connection at the limit, because a later answer would be of no use.

        Raises:
            psycopg.OperationalError: the server was silent for longer than the limit.
            TakesNoWrites: the statement writes, and the server only reads.
        """
        bound = self.silence_seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, bound)
        except psycopg.errors.ReadOnlySqlTransaction as fault:
            raise TakesNoWrites(*fault.args) from None
        except psycopg.OperationalError as fault:
            # psycopg's own error for a time-out is private. It is known by two facts: it has no SQLSTATE, and the
            # connection is still in order.
            is_silence = bound is not None and fault.sqlstate is None and self.pgconn.status == psycopg.pq.ConnStatus.OK
            if timeout is None and is_silence:
                self.pgconn.finish()
                raise psycopg.OperationalError(f"PostgreSQL was silent for {bound} seconds") from None
            raise
