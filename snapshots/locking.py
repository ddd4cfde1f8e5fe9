"""How PostgreSQL is asked here: short waits, sessions that do not outlive their process's silence, one moment for all.

Everything here belongs to the transaction that it is called in.
"""

import uuid
from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg.errors
from django.db import OperationalError, connection, models, transaction

from snapshots.models import Epoch, Publication

_Result = TypeVar("_Result")

SNAPSHOT_ATTEMPTS: Final = 20


class ClockMicroseconds(models.Func):
    """PostgreSQL's clock, not the transaction's, in microseconds since 1970."""

    template = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
    output_field = models.BigIntegerField()


def bound_waiting(*, lock: str, idle: str) -> None:
    """How long this transaction waits for a lock, and how long the session outlives its process's silence.

    Nor does its commit wait for the disk. Should PostgreSQL crash in that moment, it has forgotten a publication and
    its changes are pending again: the same as if the publisher had died between its two writes.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SET LOCAL lock_timeout = '{lock}'; SET LOCAL idle_in_transaction_session_timeout = '{idle}';"
            "SET LOCAL synchronous_commit = off"
        )


def commit_durably() -> None:
    """Let this transaction's commit wait for the disk after all."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit TO DEFAULT")


def lock_publication(account_id: uuid.UUID, *, skip_locked: bool = False) -> Any:
    """The account's publication row, locked, with its account, the epoch and the clock; None where there is none."""
    # `no_key`: a plain FOR UPDATE would block every insert of a row that refers to it.
    return (
        Publication.objects.select_for_update(of=("self",), no_key=True, skip_locked=skip_locked)
        .select_related("account")
        .annotate(epoch=models.Subquery(Epoch.objects.values("id")[:1]), clock=ClockMicroseconds())
        .filter(account_id=account_id)
        .first()
    )


def at_one_moment(account_id: uuid.UUID, work: Callable[[Any], _Result]) -> _Result:
    """Do something with an account as it is at one moment, while nobody publishes it.

    Args:
        account_id: whose.
        work: called with the locked publication row (None where there is none) in a transaction of its own whose
            queries all see one database snapshot; called again from the start where that could not be had.
    """
    for attempt in range(1, SNAPSHOT_ATTEMPTS + 1):
        try:
            with transaction.atomic(durable=True):
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                bound_waiting(lock="5s", idle="30s")
                return work(lock_publication(account_id))
        except OperationalError as fault:
            # A publisher committed between our snapshot and our lock, or holds the lock for long.
            is_race = isinstance(fault.__cause__, psycopg.errors.SerializationFailure | psycopg.errors.LockNotAvailable)
            if not is_race or attempt == SNAPSHOT_ATTEMPTS:
                raise
    raise AssertionError
