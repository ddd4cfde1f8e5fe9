"""Transactions for publications: short waits for locks, short idle time-outs, one database snapshot for all queries.

Each function applies to the current transaction only; `at_one_moment` opens its own.
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
    """PostgreSQL's clock_timestamp() in microseconds since 1970; it is not the start of the transaction."""

    template = "(extract(epoch from clock_timestamp()) * 1000000)::bigint"
    output_field = models.BigIntegerField()


def bound_waiting(*, lock: str, idle: str) -> None:
    """Limit this transaction's waits for locks, and the time that its session may be idle.

    Its commit does not wait for the disk either. If PostgreSQL crashes at that moment, the publication is forgotten and
    its changes are pending again. The same happens if a publisher dies between its two writes.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"SET LOCAL lock_timeout = '{lock}'; SET LOCAL idle_in_transaction_session_timeout = '{idle}';"
            "SET LOCAL synchronous_commit = off"
        )


def commit_durably() -> None:
    """Make this transaction's commit wait for the disk again, after `bound_waiting` has switched that off."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit TO DEFAULT")


def lock_publication(account_id: uuid.UUID, *, skip_locked: bool = False) -> Any:
    """Lock the account's publication row and return it with account, epoch and clock; None if it does not exist."""
    return lock_publications([account_id], skip_locked=skip_locked).first()


def lock_publications(accounts: Collection[uuid.UUID], *, skip_locked: bool = False) -> models.QuerySet[Any]:
    """Lock the accounts' publication rows in the order of their IDs; each row is as in `lock_publication`."""
    # `no_key`: a plain FOR UPDATE would block every insert of a row that refers to it.
    return (
        Publication.objects.select_for_update(of=("self",), no_key=True, skip_locked=skip_locked)
        .select_related("account")
        .annotate(epoch=models.Subquery(Epoch.objects.values("id")[:1]), clock=ClockMicroseconds())
        .filter(account_id__in=accounts)
        .order_by("account_id")
    )


def at_one_moment(accounts: Collection[uuid.UUID], work: Callable[[list[Any]], _Result]) -> _Result:
    """Call `work` with several accounts in one database snapshot, while no other process publishes them.

    Args:
        accounts: the UUIDs of the accounts.
        work: called with the locked publication rows, in a new transaction whose queries all see one database snapshot.
            It is called again from the start if a concurrent publication made this impossible.
    """
    for attempt in range(1, SNAPSHOT_ATTEMPTS + 1):
        try:
            with transaction.atomic(durable=True):
                with connection.cursor() as cursor:
                    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                bound_waiting(lock="5s", idle="30s")
                return work(list(lock_publications(accounts)))
        except OperationalError as fault:
            # A publisher has committed between our snapshot and our lock, or holds the lock for a long time.
            is_race = isinstance(fault.__cause__, psycopg.errors.SerializationFailure | psycopg.errors.LockNotAvailable)
            if not is_race or attempt == SNAPSHOT_ATTEMPTS:
                raise
    raise AssertionError
