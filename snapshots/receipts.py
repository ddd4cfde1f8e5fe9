"""Answers the room `rest`: in which version a write is published, and how many workers have applied it."""

from typing import cast

from django.db import connection
from rest_framework.request import Request

from accounts.authentication import AccountRequest
from rest.propagation import WriteStatus
from snapshots import outbox, waiting


class PublicationReceipts:
    """The publications of this control plane (rest.propagation.Publications)."""

    def begin(self) -> None:
        """Forget the writes of the thread's previous request."""
        outbox.forget()

    def status_of_write(self, request: Request, *, seconds: int) -> WriteStatus:
        """Report on the last write of the request, after waiting at most this many seconds for the workers."""
        what = waiting.awaited(cast("AccountRequest", request).account, outbox.last_written())
        if not seconds or connection.in_atomic_block:
            return WriteStatus(what.version)
        try:
            outcome = waiting.wait(what, seconds=seconds)
        except (waiting.TooManyWaiters, waiting.NobodyKnows):
            return WriteStatus(what.version)
        return WriteStatus(outcome.version, (outcome.applied, outcome.of))
