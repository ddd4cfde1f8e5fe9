"""Write a row and record its event. The order is fixed: lock the row, read its state, write it, record the event.

Services contain only the write itself:

    with audited.changing(api_key, by=by, action=Action.API_KEY_UPDATED, if_match=if_match) as row:
        apply_changes(row, by=by, changes=changes)

Each method runs in one transaction (or in a savepoint of the caller's). For objects that the data plane uses, call
`snapshots.writing.published`, which also records them in the outbox.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from django.db import IntegrityError, connection, transaction
from django.db.models import Model

from audit.actions import Action
from audit.recording import NOTHING, Audited, Author, differences, record, record_act
from rest.preconditions import ANY, IfMatch, etag_of, locked
from rest.violations import is_reference_violation

Row = TypeVar("Row", bound=Audited)


class Writing:
    """Creates, changes and deletes rows, each with its event."""

    def __init__(self, publish: Callable[[Any], None] | None = None) -> None:
        """
        Args:
            publish: called with each row that was created or changed, and with each row before it is deleted.
        """
        self._publish = publish or _publish_nothing

    @contextmanager
    def creating(self, row: Row, *, by: Author | None, action: Action) -> Iterator[Row]:
        """Record a new row. The body of the `with` statement saves it and its parts."""
        with transaction.atomic():
            yield row
            self._publish(row)
            record(by, action, row)

    @contextmanager
    def changing(
        self, row: Row, *, by: Author | None, action: Action, if_match: IfMatch = ANY, is_always_event: bool = False
    ) -> Iterator[Row]:
        """Lock a row, pass its current state to the body of the `with` statement, and record the body's changes.

        If the body changes nothing, the row is neither published nor recorded.

        Args:
            row: the row as the caller read it.
            by: the principal; None if nobody is signed in.
            action: the kind of change.
            if_match: the states that the caller accepts.
            is_always_event: record the event even if no field that the audit shows has changed.

        Raises:
            NotFound, PreconditionFailed: as rest.preconditions.locked.
        """
        with transaction.atomic():
            found = _locked(row, if_match)
            state, before = etag_of(_model(found)), found.audit_state()
            yield found
            if etag_of(_model(found)) == state:
                return
            self._publish(found)
            if is_always_event:
                record_act(by, action, found, changes=differences(before, found.audit_state()))
            else:
                record(by, action, found, before=before)

    def delete(self, row: Audited, *, by: Author | None, action: Action, if_match: IfMatch = ANY) -> None:
        """Lock a row, record that it is deleted, and delete it.

        Raises:
            NotFound, PreconditionFailed: as rest.preconditions.locked.
        """
        with transaction.atomic():
            self._delete(_locked(row, if_match), by, action)

    def delete_unless_used(
        self,
        row: Audited,
        *,
        by: Author | None,
        action: Action,
        if_match: IfMatch = ANY,
        users: Sequence[type[Model]],
        in_use: Callable[[], Exception],
    ) -> None:
        """Delete a row that rows of other models may refer to.

        Django looks for those rows before it deletes. A reference may be committed after that; this method therefore
        checks the constraints itself, before the commit does.

        Args:
            row, by, action, if_match: as `delete`.
            users: the models whose foreign keys restrict the deletion.
            in_use: returns the error to raise if such a row exists. It may query: the deletion is rolled back by then.

        Raises:
            NotFound, PreconditionFailed: as rest.preconditions.locked.
        """
        with transaction.atomic():
            found = _locked(row, if_match)
            try:
                with transaction.atomic():
                    self._delete(found, by, action)
                    connection.check_constraints()
            except IntegrityError as refusal:
                if not any(is_reference_violation(refusal, user) for user in users):
                    raise
                raise in_use() from None

    def _delete(self, found: Audited, by: Author | None, action: Action) -> None:
        # Published and recorded first: Django clears the ID of a deleted object.
        self._publish(found)
        record(by, action, found, before=found.audit_state(), after=NOTHING)
        _model(found).delete()


def _locked(row: Row, if_match: IfMatch) -> Row:
    return cast("Row", locked(_model(row), if_match))


def _model(row: Audited) -> Model:
    # Every audited row is a model instance; a protocol cannot express that.
    return cast("Model", row)


def _publish_nothing(_row: Any) -> None:
    pass


# For objects that the data plane does not use.
audited: Final = Writing()
