"""A connection to PostgreSQL that does not wait for ever.

A server that is stopped, or a network that swallows packets, keeps its connections open and says nothing. Without a
bound every request would hold its thread until the last one is gone, and clients would see a hanging gateway, not 503.
Commands (migrations, the relay, Celery) have no bound: their statements may be long, and nobody waits for them.

Source: docs/decisions/0022-bounded-database-waits.md.
"""

from typing import Any, ClassVar

import psycopg


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up on a server that is silent for longer than `silence_seconds`."""

    # None: no bound. The WSGI entry sets it for the process that serves requests.
    silence_seconds: ClassVar[float | None] = None

    def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
        """As psycopg's. What the server may still answer later is of no use: the connection is closed.

        Raises:
            psycopg.OperationalError: the bound is passed.
        """
        bound = self.silence_seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, bound)
        except psycopg.OperationalError as fault:
            # psycopg's own error for this is private; it carries no state of the server's, and the connection lives.
            is_silence = bound is not None and fault.sqlstate is None and self.pgconn.status == psycopg.pq.ConnStatus.OK
            if timeout is None and is_silence:
                self.pgconn.finish()
                raise psycopg.OperationalError(f"PostgreSQL was silent for {bound} seconds") from None
            raise
