"""What a service calls for every object that it wrote or deleted.

The event and the write commit together or not at all. What may be told of an object is what its own `audit_state`
lists; nothing else of its row comes here.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from django.db import transaction

from audit import origin
from audit.actions import Action
from audit.models import Event, PendingEvent
from gateway_core.redaction import redact

State = Mapping[str, Any]

SYSTEM: Final = "system"
_LONGEST_NAME: Final = 255
# What is neither there before nor after a change.
NOTHING: Final[State] = {}


class NotInTransaction(RuntimeError):
    """An event is recorded in the transaction of the write that it tells of; there is none here."""


class Author(Protocol):
    """Who acts: what the audit keeps of a principal."""

    @property
    def id(self) -> str:
        """`aigapi_…`, `usr_…`"""

    @property
    def kind(self) -> str:
        """`api_key`, `user`"""

    @property
    def name(self) -> str:
        """What people call it."""


class Audited(Protocol):
    """An object whose changes are recorded."""

    @property
    def account_id(self) -> uuid.UUID | None:
        """Whose it is; None for the operator's own."""

    @property
    def text_id(self) -> str:
        """Its ID, as people and clients see it."""

    @property
    def audit_name(self) -> str:
        """What people call it; may be empty."""

    def audit_state(self) -> State:
        """All that the audit may tell of it, by the API's names: no token, digest, fingerprint or sealed value.

        JSON values, and moments; masks may.
        """


def record(
    by: Author | None, action: Action, item: Audited, *, before: State = NOTHING, after: State | None = None
) -> None:
    """Note that an object was written or deleted.

    Args:
        by: who did it; None where nobody is signed in: a management command, a payment provider's notice.
        action: what was done.
        item: the object, with its ID, as it is now.
        before: its `audit_state` from before the write, read from the locked row; nothing for a new object.
        after: its state after the write; None for that of `item` now, `NOTHING` for a deleted object.

    An object that is new or gone is always told of, one that stays only where something of its state changed. What is
    an event even if nothing shows calls `record_act`.

    Raises:
        NotInTransaction: the event and the write could part.
    """
    after = item.audit_state() if after is None else after
    changes = differences(before, after)
    if changes or not before or not after:
        record_act(by, action, item, changes=changes)


def record_act(by: Author | None, action: Action, item: Audited, *, changes: Mapping[str, list[Any]]) -> None:
    """Note that something was done to an object, whatever of it may be told. As `record` in all else."""
    if not transaction.get_connection().in_atomic_block:
        raise NotInTransaction(NotInTransaction.__doc__)
    where = origin.current()
    event = Event.objects.create(
        account_id=item.account_id,
        principal_kind=by.kind if by else SYSTEM,
        principal_id=by.id if by else "",
        principal_name=redact(by.name if by else where.source)[:_LONGEST_NAME],
        action=action,
        object_id=item.text_id,
        object_name=redact(item.audit_name)[:_LONGEST_NAME],
        changes={name: [_told(value) for value in pair] for name, pair in changes.items()},
        source=where.source,
        address=where.address,
        user_agent=where.user_agent and redact(where.user_agent)[:_LONGEST_NAME],
        request_id=where.request_id,
    )
    PendingEvent.objects.create(event=event)


def differences(before: State, after: State) -> dict[str, list[Any]]:
    """`{field: [old, new]}` for every field that differs; a field that is not there counts as null."""
    fields = list(dict.fromkeys([*before, *after]))
    return {name: [before.get(name), after.get(name)] for name in fields if before.get(name) != after.get(name)}


def _told(value: Any) -> Any:
    """A value without what looks like a secret: people put tokens into names and notes, and an event stays for ever."""
    match value:
        case str():
            return redact(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case list():
            return [_told(one) for one in value]
        case dict():
            return {name: _told(one) for name, one in value.items()}
        case _:
            return value
