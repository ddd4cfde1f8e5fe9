"""Every write to accounts, users and API keys."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Field
from django.utils import timezone

from accounts.models import Account, ApiKey, Membership, Owned, User
from accounts.principals import Principal
from gateway_core import tokens
from gateway_core.redaction import mask
from rest.preconditions import ANY, IfMatch, locked


@dataclass(frozen=True)
class IssuedApiKey:
    """A new API key with its token, which is nowhere else and never again."""

    api_key: ApiKey
    token: str = field(repr=False)


@transaction.atomic
def create_account(*, name: str) -> Account:
    """Open a new account, with nobody in it."""
    return Account.objects.create(name=name)


@transaction.atomic
def create_user(*, username: str, email: str, password: str, account: Account, role: str) -> User:
    """Make a dashboard user and its membership in an account.

    Args:
        username: what the person signs in with.
        email: may be empty.
        password: in clear; Django's hasher keeps only its hash.
        account: the account that the user belongs to.
        role: one of Membership.Role.
    """
    user = User.objects.create_user(username=username, email=email, password=password)
    Membership.objects.create(account=account, user=user, role=Membership.Role(role))
    return user


@transaction.atomic
def create_api_key(
    *,
    account: Account,
    by: Principal,
    name: str | None = None,
    description: str | None = None,
    metadata: str | None = None,
    expires_at: datetime | None = None,
    disabled: bool = False,
) -> IssuedApiKey:
    """Issue a token that manages the account."""
    token = tokens.generate(tokens.API_KEY_PREFIX)
    now = timezone.now()
    api_key = ApiKey.objects.create(
        account=account,
        name=name,
        description=description,
        metadata=metadata,
        expires_at=expires_at,
        disabled=disabled,
        digest=tokens.digest(token),
        key_redacted=mask(token),
        created_at=now,
        updated_at=now,
        created_by=by.id,
        last_updated_by=by.id,
    )
    return IssuedApiKey(api_key=api_key, token=token)


@transaction.atomic
def update_api_key(*, api_key: ApiKey, by: Principal, if_match: IfMatch = ANY, **changes: Any) -> ApiKey:
    """Change what was given: name, description, metadata, expires_at, disabled; None clears.

    Raises:
        NotFound: it has been deleted meanwhile.
        PreconditionFailed: it has changed since the version that the caller knows.
    """
    api_key = locked(api_key, if_match)
    apply_changes(api_key, by=by, changes=changes)
    return api_key


@transaction.atomic
def delete_api_key(*, api_key: ApiKey, by: Principal, if_match: IfMatch = ANY) -> None:
    """Revoke an API key for ever; it may be the one that asks, and the account's last.

    Raises:
        NotFound: it has been deleted meanwhile.
        PreconditionFailed: it has changed since the version that the caller knows.
    """
    del by
    locked(api_key, if_match).delete()


def apply_changes(item: Owned, *, by: Principal, changes: dict[str, Any]) -> None:
    """Write the given attributes of a locked row, and who did it.

    Nothing given: nothing changes, not even `updated_at` (contract, section 1). None clears; where the column cannot be
    NULL that means its default.
    """
    if not changes:
        return
    for name, value in changes.items():
        column = item._meta.get_field(name)
        if value is None and isinstance(column, Field) and not column.null:
            setattr(item, name, column.get_default())
        else:
            setattr(item, name, value)
    item.last_updated_by = by.id
    item.updated_at = timezone.now()
    item.save(update_fields=[*changes, "last_updated_by", "updated_at"])
