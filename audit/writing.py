"""A write with its event. The order is fixed: lock the row, read its state, write it, record the event.

Services say only what they write:

    with audited.changing(api_key, by=by, action=Action.API_KEY_UPDATED, if_match=if_match) as row:
        apply_changes(row, by=by, changes=changes)

Each method is one transaction (or a savepoint of the caller's). Objects that the data plane sees are written by
`snapshots.writing.published`, which also puts them into the outbox.
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
    """The ways to write a row."""

    def __init__(self, publish: Callable[[Any], None] | None = None) -> None:
        """
        Args:
            publish: called with each row that was created or changed, and with each row before it is deleted.
        """
        self._publish = publish or _publish_nothing

    @contextmanager
    def creating(self, row: Row, *, by: Author | None, action: Action) -> Iterator[Row]:
        """Record a new row. The body saves it, and whatever belongs to it."""
        with transaction.atomic():
            yield row
            self._publish(row)
            record(by, action, row)

    @contextmanager
    def changing(
        self, row: Row, *, by: Author | None, action: Action, if_match: IfMatch = ANY, is_always_event: bool = False
    ) -> Iterator[Row]:
        """Lock a row, give it to the body as it is now, and record what the body changes of it.

        A row that the body leaves as it was is neither published nor recorded.

        Args:
            row: the row as the caller read it.
            by: who does it; None where nobody is signed in.
            action: what is done.
            if_match: the state that the caller expects.
            is_always_event: record the event even if nothing that the audit may show has changed.

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

        Django looks for those rows before it deletes. A reference that is committed after that look is found by
        checking the constraints here, and not only at the commit.

        Args:
            row, by, action, if_match: as `delete`.
            users: the models whose foreign keys restrict the deletion.
            in_use: returns the error to raise where such a row exists. It may query: the row is there again.

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
        # Published and recorded first: a deleted object has no ID any more.
        self._publish(found)
        record(by, action, found, before=found.audit_state(), after=NOTHING)
        _model(found).delete()


def _locked(row: Row, if_match: IfMatch) -> Row:
    return cast("Row", locked(_model(row), if_match))


def _model(row: Audited) -> Model:
    # Every audited row is a model's; a protocol cannot say so.
    return cast("Model", row)


def _publish_nothing(_row: Any) -> None:
    pass


# Writes of what the data plane does not see.
audited: Final = Writing()
