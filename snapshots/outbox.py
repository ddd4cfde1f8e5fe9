"""The transactional outbox. Services call `record` for every object of the snapshot that they write or delete.

The change and the write commit together or not at all. After the commit the request publishes the change at once; if
Redis does not answer, the relay publishes it later. So a committed write never looks failed because Redis is down.
"""

import uuid
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final, Protocol

from django.db import transaction

from snapshots import publisher
from snapshots.models import Change


class NotInTransaction(RuntimeError):
    """A change must be recorded in the transaction of its write; no transaction is open."""


class InSnapshot(Protocol):
    """A row that the data plane uses."""

    @property
    def account_id(self) -> uuid.UUID: ...

    @property
    def snapshot_document(self) -> str:
        """The name of its document (gateway_core.snapshot)."""


@dataclass
class WriteReceipt:
    """The changes of an account's snapshot that a request has committed last."""

    account_id: uuid.UUID
    # The IDs of the outbox rows; all these rows are deleted when everything is published.
    changes: list[int]
    # The publication that contains the write; None if it was left to the relay.
    receipt: publisher.Receipt | None = None


_written: Final[ContextVar[WriteReceipt | None]] = ContextVar("written", default=None)


def record(obj: InSnapshot) -> None:
    """Record that an object of the snapshot was written or deleted, and publish its account after the commit.

    Raises:
        NotInTransaction: no transaction is open, so the change and the write could be committed separately.
    """
    connection = transaction.get_connection()
    if not connection.in_atomic_block:
        raise NotInTransaction(NotInTransaction.__doc__)
    change = Change.objects.create(account_id=obj.account_id, document=obj.snapshot_document)
    # One publication covers all changes that a transaction recorded for the account. A callback that Django still holds
    # belongs to an open savepoint or to the transaction itself. It is dropped only together with this change.
    for _, callback, _ in connection.run_on_commit:
        if isinstance(callback, _PublishAfterCommit) and callback.account_id == obj.account_id:
            callback.changes.append(change.pk)
            return
    transaction.on_commit(_PublishAfterCommit(obj.account_id, change.pk), robust=True)


def forget() -> None:
    """Forget the last write of this thread; call it when a request begins."""
    _written.set(None)


def last_written() -> WriteReceipt | None:
    """The last committed write of this request; None if it has changed no snapshot."""
    return _written.get()


def last_receipt() -> publisher.Receipt | None:
    """The publication that contains the last write of this request; None if it was left to the relay."""
    written = _written.get()
    return written.receipt if written else None


class _PublishAfterCommit:
    """A callback that publishes the changes of one account after the commit."""

    def __init__(self, account_id: uuid.UUID, change: int) -> None:
        self.account_id = account_id
        self.changes = [change]
        # Django logs the `__qualname__` of a robust callback that failed. An object does not have one by default.
        self.__qualname__ = "publish_after_commit"

    def __call__(self) -> None:
        written = WriteReceipt(self.account_id, self.changes)
        _written.set(written)
        written.receipt = publisher.publish_inline(self.account_id)
