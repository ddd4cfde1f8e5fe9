"""A connection to PostgreSQL with a limit on the server's silence.

A server that is stopped, or a network that drops packets, keeps its connections open and sends nothing. Without a limit
every request would hold its thread until no thread is left, and clients would see a hanging gateway instead of a 503.
Commands (migrations, the relay, Celery) have no limit: their statements may be long, and no client waits for them.

Source: docs/decisions/0022-bounded-database-waits.md.
"""

from typing import Any, ClassVar

import psycopg


class BoundedConnection(psycopg.Connection[Any]):
    """Closes itself when the server is silent for longer than `silence_seconds`."""

    # None means no limit. The WSGI entry sets it for the process that serves requests.
    silence_seconds: ClassVar[float | None] = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """Wait as psycopg does, and close the connection at the limit, because a later answer would be of no use.

        Raises:
            psycopg.OperationalError: the server was silent for longer than the limit.
        """
        bound = self.silence_seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, bound)
        except psycopg.OperationalError as fault:
            # psycopg's own error for a time-out is private. It is known by two facts: it has no SQLSTATE, and the
            # connection is still in order.
            is_silence = bound is not None and fault.sqlstate is None and self.pgconn.status == psycopg.pq.ConnStatus.OK
            if timeout is None and is_silence:
                self.pgconn.finish()
                raise psycopg.OperationalError(f"PostgreSQL was silent for {bound} seconds") from None
            raise
