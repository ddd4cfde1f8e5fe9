"""What the services of owned resources have in common: how a row is made, and how its attributes are changed."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django.db.models import Field, Model
from django.utils import timezone

from accounts.models import Account
from accounts.owned.models import OwnedModel
from accounts.principals import Principal

Owned = TypeVar("Owned", bound=OwnedModel)


def build(model: type[Owned], *, account: Account, by: Principal, **attributes: Any) -> Owned:
    """A new object of an account, not saved yet, with who made it and when."""
    now = timezone.now()
    return model(account=account, created_at=now, updated_at=now, created_by=by.id, last_updated_by=by.id, **attributes)


def apply_changes(item: OwnedModel, *, by: Principal | None, changes: Mapping[str, Any]) -> None:
    """Write the given attributes of a locked row, and who did it.

    Nothing given: nothing changes, not even `updated_at` (contract, section 1).

    Args:
        item: the row.
        by: who writes; None where nobody is signed in, which leaves the last author in place.
        changes: values by attribute, as `set_attributes` takes them.
    """
    if not changes:
        return
    set_attributes(item, changes)
    item.updated_at = timezone.now()
    stamps = ["updated_at"]
    if by is not None:
        item.last_updated_by = by.id
        stamps.append("last_updated_by")
    item.save(update_fields=[*changes, *stamps])


def set_attributes(item: Model, changes: Mapping[str, Any]) -> None:
    """Set attributes of a row without saving it. None clears; where the column cannot be NULL it means the default."""
    for name, value in changes.items():
        column = item._meta.get_field(name)
        if value is None and isinstance(column, Field) and not column.null:
            setattr(item, name, column.get_default())
        else:
            setattr(item, name, value)
