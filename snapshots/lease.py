"""A lease in PostgreSQL: at most one process works at something at a time.

It is a row, not a lock of a session. So it also holds behind a pooler that gives each transaction another session.
A process that dies leaves a lease that lapses. One that was suspended may lose its lease without noticing, so what it
writes needs another guard too (for a rebuild: the epoch).

Source: docs/decisions/0009-snapshots.md.
"""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final

from django.db import Error as DatabaseFault
from django.db import connection, models
from django.db.models.functions import Now

from snapshots.models import Lease

# A killed process delays its successor by as much.
SECONDS: Final = 15.0


@contextmanager
def leased(name: str, *, seconds: float = SECONDS) -> Iterator[bool]:
    """Take a lease, renew it in a thread until the block ends, and give it back.

    Args:
        name: what is leased; up to 60 characters.
        seconds: the lease lapses when it was not renewed for as long.

    Yields:
        True if the lease is ours; False if another process holds it, and then the block must not do the work.
    """
    holder = uuid.uuid4()
    if not _take(name, holder, seconds):
        yield False
        return
    is_over = threading.Event()
    renewing = threading.Thread(target=_renew, args=(name, holder, seconds, is_over), name=f"lease {name}", daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        is_over.set()
        renewing.join()
        with suppress(DatabaseFault):  # then it lapses
            Lease.objects.filter(name=name, holder=holder).delete()


def _take(name: str, holder: uuid.UUID, seconds: float) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO snapshots_lease AS held (name, holder, expires_at)
            VALUES (%(name)s, %(holder)s, clock_timestamp() + make_interval(secs => %(seconds)s))
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
            WHERE held.expires_at < clock_timestamp()
            """,
            {"name": name, "holder": holder, "seconds": seconds},
        )
        return bool(cursor.rowcount == 1)


def _renew(name: str, holder: uuid.UUID, seconds: float, is_over: threading.Event) -> None:
    until = models.ExpressionWrapper(Now() + timedelta(seconds=seconds), output_field=models.DateTimeField())
    while not is_over.wait(seconds / 3):
        try:
            Lease.objects.filter(name=name, holder=holder).update(expires_at=until)
        except DatabaseFault:
            connection.close()
    connection.close()
