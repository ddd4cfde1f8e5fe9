"""The transactional outbox: what a service calls for every object of the snapshot that it wrote or deleted.

The row and the write commit together or not at all. Publishing happens after the commit, at once where Redis answers,
by the relay where it does not: a dead Redis never makes a committed write look failed.
"""

import uuid
from contextvars import ContextVar
from typing import Final, Protocol

from django.db import transaction

from snapshots import publisher
from snapshots.models import Change


class NotInTransaction(RuntimeError):
    """A change is recorded in the transaction of the write that it tells of; there is none here."""


class InSnapshot(Protocol):
    """A model that the data plane sees."""

    @property
    def account_id(self) -> uuid.UUID: ...

    @property
    def snapshot_document(self) -> str:
        """The name of its document (gateway_core.snapshot)."""


_receipt: Final[ContextVar[publisher.Receipt | None]] = ContextVar("receipt", default=None)


def record(obj: InSnapshot) -> None:
    """Note that an object of the snapshot was written or deleted, and have its account published after the commit.

    Raises:
        NotInTransaction: the note and the write could part.
    """
    connection = transaction.get_connection()
    if not connection.in_atomic_block:
        raise NotInTransaction(NotInTransaction.__doc__)
    Change.objects.create(account_id=obj.account_id, document=obj.snapshot_document)
    publish = _PublishAfterCommit(obj.account_id)
    # One publication covers all that a transaction recorded for the account. A callback that Django still holds was
    # registered no deeper than any savepoint that is still open, so it dies only together with this change.
    if all(callback != publish for _, callback, _ in connection.run_on_commit):
        _receipt.set(None)
        transaction.on_commit(publish, robust=True)


def last_receipt() -> publisher.Receipt | None:
    """The publication that carried the last write of this request; None where it was left to the relay."""
    return _receipt.get()


class _PublishAfterCommit:
    """Publish one account; equal to another one for the same account."""

    def __init__(self, account_id: uuid.UUID) -> None:
        self._account_id = account_id
        # Django asks a robust callback that failed for its name, to log it. A function has one, an object has none.
        self.__qualname__ = "publish_after_commit"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PublishAfterCommit) and other._account_id == self._account_id

    def __hash__(self) -> int:
        return hash(self._account_id)

    def __call__(self) -> None:
        _receipt.set(publisher.publish_inline(self._account_id))
