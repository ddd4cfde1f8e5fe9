"""The transactional outbox: what a service calls for every object of the snapshot that it wrote or deleted.

The row and the write commit together or not at all. Publishing happens after the commit, at once where Redis answers,
by the relay where it does not: a dead Redis never makes a committed write look failed.
"""

import uuid
from contextvars import ContextVar
from dataclasses import dataclass
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


@dataclass
class WriteReceipt:
    """What a request has written of an account's snapshot."""

    account_id: uuid.UUID
    # The outbox rows; all of them are gone when everything is published.
    changes: list[int]
    # The publication that carried it; None where it was left to the relay.
    receipt: publisher.Receipt | None = None


_written: Final[ContextVar[WriteReceipt | None]] = ContextVar("written", default=None)


def record(obj: InSnapshot) -> None:
    """Note that an object of the snapshot was written or deleted, and have its account published after the commit.

    Raises:
        NotInTransaction: the note and the write could part.
    """
    connection = transaction.get_connection()
    if not connection.in_atomic_block:
        raise NotInTransaction(NotInTransaction.__doc__)
    change = Change.objects.create(account_id=obj.account_id, document=obj.snapshot_document)
    # One publication covers all that a transaction recorded for the account. A callback that Django still holds was
    # registered no deeper than any savepoint that is still open, so it dies only together with this change.
    for _, callback, _ in connection.run_on_commit:
        if isinstance(callback, _PublishAfterCommit) and callback.account_id == obj.account_id:
            callback.changes.append(change.pk)
            return
    transaction.on_commit(_PublishAfterCommit(obj.account_id, change.pk), robust=True)


def forget() -> None:
    """A request begins in this thread: what the one before it has written is not its own."""
    _written.set(None)


def last_written() -> WriteReceipt | None:
    """What this request has committed last; None where it was nothing of a snapshot."""
    return _written.get()


def last_receipt() -> publisher.Receipt | None:
    """The publication that carried the last write of this request; None where it was left to the relay."""
    written = _written.get()
    return written.receipt if written else None


class _PublishAfterCommit:
    """Publish what a transaction has recorded for one account."""

    def __init__(self, account_id: uuid.UUID, change: int) -> None:
        self.account_id = account_id
        self.changes = [change]
        # Django asks a robust callback that failed for its name, to log it. A function has one, an object has none.
        self.__qualname__ = "publish_after_commit"

    def __call__(self) -> None:
        written = WriteReceipt(self.account_id, self.changes)
        _written.set(written)
        written.receipt = publisher.publish_inline(self.account_id)
