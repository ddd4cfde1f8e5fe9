"""What rest asks this room: where a write that has just succeeded is in force."""

from typing import cast

from django.db import connection
from rest_framework.request import Request

from accounts.authentication import AccountRequest
from rest.propagation import WriteStatus
from snapshots import outbox, waiting


class PublicationReceipts:
    """The publications of this control plane (rest.propagation.Publications)."""

    def begin(self) -> None:
        """A request begins: it has written nothing yet."""
        outbox.forget()

    def status_of_write(self, request: Request, *, seconds: int) -> WriteStatus:
        """What is known of what the request has written, after waiting for the workers for so long at most."""
        what = waiting.awaited(cast("AccountRequest", request).account, outbox.last_written())
        if not seconds or connection.in_atomic_block:
            return WriteStatus(what.version)
        try:
            outcome = waiting.wait(what, seconds=seconds)
        except (waiting.TooManyWaiters, waiting.NobodyKnows):
            return WriteStatus(what.version)
        return WriteStatus(outcome.version, (outcome.applied, outcome.of))
