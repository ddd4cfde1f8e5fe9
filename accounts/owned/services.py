"""Helpers for the services of owned resources: build a new row, and change a row's attributes."""

from collections.abc import Mapping
from typing import Any, TypeVar

from django.db.models import Field, Model
from django.utils import timezone

from accounts.models import Account
from accounts.owned.models import OwnedModel
from accounts.principals import Principal

Owned = TypeVar("Owned", bound=OwnedModel)


def build(model: type[Owned], *, account: Account, by: Principal, **attributes: Any) -> Owned:
    """Build an object of an account with its author and dates. It is not saved."""
    now = timezone.now()
    return model(account=account, created_at=now, updated_at=now, created_by=by.id, last_updated_by=by.id, **attributes)


def apply_changes(
    item: OwnedModel, *, by: Principal | None, changes: Mapping[str, Any], is_changed: bool = False
) -> None:
    """Save the given attributes of a locked row, its author and `updated_at`, if one of them is not as it was.

    Otherwise nothing is saved, not even `updated_at` (contract, section 1).

    Args:
        item: the row.
        by: the principal; None if nobody is signed in, which keeps the last author.
        changes: values by attribute, as `set_attributes` takes them.
        is_changed: whether rows that belong to this one have changed, which counts as a change of it.
    """
    changed = set_attributes(item, changes)
    if not changed and not is_changed:
        return
    item.updated_at = timezone.now()
    stamps = ["updated_at"]
    if by is not None:
        item.last_updated_by = by.id
        stamps.append("last_updated_by")
    item.save(update_fields=[*changed, *stamps])


def with_disabled_set(changes: Mapping[str, Any]) -> Mapping[str, Any]:
    """The changes of a token, which note that `disabled` was written. None takes that back."""
    return {**changes, "disabled_is_set": changes["disabled"] is not None} if "disabled" in changes else changes


def set_attributes(item: Model, changes: Mapping[str, Any]) -> list[str]:
    """Set attributes of a row without saving it. None clears a column, or sets its default if it cannot be NULL.

    Returns:
        The names of those attributes whose values are not as they were.
    """
    changed = []
    for name, value in changes.items():
        column = item._meta.get_field(name)
        new = value
        if value is None and isinstance(column, Field) and not column.null:
            new = column.get_default()
        if getattr(item, name) != new:
            changed.append(name)
        setattr(item, name, new)
    return changed
