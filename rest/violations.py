"""Which constraint refused a write, so that a service can translate it by name."""

from django.db import IntegrityError
from django.db.models import Model, RestrictedError
from psycopg.errors import ForeignKeyViolation, UniqueViolation


def is_reference_violation(refusal: IntegrityError, referring: type[Model]) -> bool:
    """Whether rows of a model refer to something that is not there, or would not be any more.

    Django looks for RESTRICT itself before it deletes; what is committed after that look only the database sees. It
    checks foreign keys at the commit unless `connection.check_constraints()` asks earlier, so a service that
    translates the violation does that, in a savepoint of its own.
    """
    if isinstance(refusal, RestrictedError):
        return any(isinstance(found, referring) for found in refusal.restricted_objects)
    cause = refusal.__cause__
    return isinstance(cause, ForeignKeyViolation) and cause.diag.table_name == referring._meta.db_table


def is_uniqueness_violation(refusal: IntegrityError, constraint: str) -> bool:
    """Whether a write was refused because of another row with the same values, by the constraint of this name."""
    cause = refusal.__cause__
    return isinstance(cause, UniqueViolation) and cause.diag.constraint_name == constraint
