"""Record an event. Services call this for every object that they write or delete.

The event and the write commit together or not at all. An event contains only the fields that the object's
`audit_state` returns.
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
# The state of an object that does not exist: before its creation, or after its deletion.
NOTHING: Final[State] = {}


class NotInTransaction(RuntimeError):
    """An event must be recorded in the transaction of its write; no transaction is open."""


class Author(Protocol):
    """The part of a principal that the audit stores."""

    @property
    def id(self) -> str:
        """The ID as text: `aigapi_…` or `usr_…`."""

    @property
    def kind(self) -> str:
        """`api_key` or `user`."""

    @property
    def name(self) -> str:
        """The name that people use for it."""


class Audited(Protocol):
    """An object whose changes are recorded."""

    @property
    def account_id(self) -> uuid.UUID | None:
        """The UUID of the account that owns it; None for the operator's own objects."""

    @property
    def text_id(self) -> str:
        """Its ID as text, as clients see it."""

    @property
    def audit_name(self) -> str:
        """The name that people use for it; may be empty."""

    def audit_state(self) -> State:
        """The fields that the audit may show, by the API's names: no token, digest, fingerprint or sealed value.

        Values must be JSON or datetimes. A mask of a secret is allowed.
        """


def record(
    by: Author | None, action: Action, item: Audited, *, before: State = NOTHING, after: State | None = None
) -> None:
    """Record that an object was written or deleted.

    Args:
        by: the principal; None if nobody is signed in (a management command, a payment provider's notice).
        action: the kind of change.
        item: the object in its current state, with its ID.
        before: its `audit_state` before the write, read from the locked row; `NOTHING` for a new object.
        after: its state after the write; None takes the current state of `item`, `NOTHING` is a deleted object.

    A creation or a deletion is always recorded; an update only if the state changed. Call `record_act` for an event
    that changes none of these fields.

    Raises:
        NotInTransaction: no transaction is open, so the event and the write could be committed separately.
    """
    after = item.audit_state() if after is None else after
    changes = differences(before, after)
    if changes or not before or not after:
        record_act(by, action, item, changes=changes)


def record_act(by: Author | None, action: Action, item: Audited, *, changes: Mapping[str, list[Any]]) -> None:
    """Record an event even if none of the fields that the audit shows has changed. Otherwise as `record`."""
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
        changes={name: [_redacted(value) for value in pair] for name, pair in changes.items()},
        source=where.source,
        address=where.address,
        user_agent=where.user_agent and redact(where.user_agent)[:_LONGEST_NAME],
        request_id=where.request_id,
    )
    PendingEvent.objects.create(event=event)


def differences(before: State, after: State) -> dict[str, list[Any]]:
    """`{field: [old, new]}` for every field that differs; a missing field counts as null."""
    fields = list(dict.fromkeys([*before, *after]))
    return {name: [before.get(name), after.get(name)] for name in fields if before.get(name) != after.get(name)}


def _redacted(value: Any) -> Any:
    """Mask text that looks like a secret: people put tokens into names and notes, and events are kept for ever."""
    match value:
        case str():
            return redact(value)
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case list():
            return [_redacted(each) for each in value]
        case dict():
            return {name: _redacted(each) for name, each in value.items()}
        case _:
            return value
