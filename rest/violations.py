"""Which constraint the database refused a write for, so that a service can translate it by name."""

from django.db import IntegrityError
from django.db.models import Model
from psycopg.errors import ForeignKeyViolation


def is_reference_violation(refusal: Exception, referring: type[Model]) -> bool:
    """Whether rows of a model refer to something that is not there, or would not be any more.

    Django's foreign keys are checked at the commit unless `connection.check_constraints()` asks earlier; a service that
    translates the violation does so, in a savepoint of its own.
    """
    cause = refusal.__cause__ if isinstance(refusal, IntegrityError) else None
    return isinstance(cause, ForeignKeyViolation) and cause.diag.table_name == referring._meta.db_table
