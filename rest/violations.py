"""Find out which database constraint refused a write, so that a service can raise its own error."""

from django.db import IntegrityError
from django.db.models import Model, RestrictedError
from psycopg.errors import ForeignKeyViolation, UniqueViolation


def is_reference_violation(refusal: IntegrityError, referring: type[Model]) -> bool:
    """Whether a write was refused because rows of `referring` refer to an object that is missing or being deleted.

    Django checks RESTRICT itself before it deletes. Only the database finds a reference that is committed after that
    check. The database checks foreign keys at the commit, or earlier in `connection.check_constraints()`. A service
    that translates the violation therefore calls that function, in a savepoint of its own.
    """
    if isinstance(refusal, RestrictedError):
        return any(isinstance(found, referring) for found in refusal.restricted_objects)
    cause = refusal.__cause__
    return isinstance(cause, ForeignKeyViolation) and cause.diag.table_name == referring._meta.db_table


def is_uniqueness_violation(refusal: IntegrityError, constraint: str) -> bool:
    """Whether the unique constraint of this name refused a write."""
    cause = refusal.__cause__
    return isinstance(cause, UniqueViolation) and cause.diag.constraint_name == constraint
