"""How PostgreSQL is asked here: short waits, sessions that do not outlive their process's silence, one moment for all.

Everything here belongs to the transaction that it is called in.
"""

import uuid
from collections.abc import Callable, Collection
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
    return lock_publications([account_id], skip_locked=skip_locked).first()


def lock_publications(accounts: Collection[uuid.UUID], *, skip_locked: bool = False) -> models.QuerySet[Any]:
    """The accounts' publication rows as `lock_publication` gives one, in the order of their IDs."""
    # `no_key`: a plain FOR UPDATE would block every insert of a row that refers to it.
    return (
        Publication.objects.select_for_update(of=("self",), no_key=True, skip_locked=skip_locked)
        .select_related("account")
        .annotate(epoch=models.Subquery(Epoch.objects.values("id")[:1]), clock=ClockMicroseconds())
        .filter(account_id__in=accounts)
        .order_by("account_id")
    )


def at_one_moment(accounts: Collection[uuid.UUID], work: Callable[[list[Any]], _Result]) -> _Result:
    """Do something with accounts as they are at one moment, while nobody publishes them.

    Args:
        accounts: whose.
        work: called with their locked publication rows in a transaction of its own whose queries all see one database
            snapshot; called again from the start where that could not be had.
    """
    for attempt in range(1, SNAPSHOT_ATTEMPTS + 1):
        try:
            with transaction.atomic(durable=True):
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                bound_waiting(lock="5s", idle="30s")
                return work(list(lock_publications(accounts)))
        except OperationalError as fault:
            # A publisher committed between our snapshot and our lock, or holds the lock for long.
            is_race = isinstance(fault.__cause__, psycopg.errors.SerializationFailure | psycopg.errors.LockNotAvailable)
            if not is_race or attempt == SNAPSHOT_ATTEMPTS:
                raise
    raise AssertionError
