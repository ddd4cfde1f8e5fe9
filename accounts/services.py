"""Every write to accounts, users and API keys."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from accounts.models import Account, ApiKey, Membership, User
from accounts.owned.services import apply_changes, build
from accounts.principals import Principal
from audit.actions import Action
from audit.recording import NOTHING, record_act
from audit.writing import audited
from gateway_core import tokens
from gateway_core.redaction import mask
from rest.preconditions import ANY, IfMatch


@dataclass(frozen=True)
class IssuedApiKey:
    """A new API key with its token, which is nowhere else and never again."""

    api_key: ApiKey
    token: str = field(repr=False)


def create_account(*, name: str, by: Principal | None = None) -> Account:
    """Open a new account, with nobody in it.

    Args:
        name: for people.
        by: who does it; None for a management command.
    """
    account = Account(name=name)
    with audited.creating(account, by=by, action=Action.ACCOUNT_CREATED):
        account.save(force_insert=True)
    return account


@transaction.atomic
def create_user(
    *, username: str, email: str, password: str, account: Account, role: str, by: Principal | None = None
) -> User:
    """Make a dashboard user and its membership in an account.

    Args:
        username: what the person signs in with.
        email: may be empty.
        password: in clear; Django's hasher keeps only its hash.
        account: the account that the user belongs to.
        role: one of Membership.Role.
        by: who does it; None for a management command.
    """
    user = User.objects.create_user(username=username, email=email, password=password)
    add_member(account=account, user=user, role=role, by=by)
    return user


def add_member(*, account: Account, user: User, role: str, by: Principal | None = None) -> Membership:
    """Let a user into an account, as one of Membership.Role."""
    member = Membership(account=account, user=user, role=Membership.Role(role))
    with audited.creating(member, by=by, action=Action.MEMBER_ADDED):
        member.save(force_insert=True)
    return member


@transaction.atomic
def reset_password(*, user: User, password: str, by: Principal | None = None) -> None:
    """Give a user a new password. What the audit of each of their accounts tells is that it was done."""
    user.set_password(password)
    user.save(update_fields=["password"])
    record_sign_in(user=user, action=Action.MEMBER_PASSWORD_RESET, by=by)


@transaction.atomic
def change_password(*, user: User, password: str) -> None:
    """A user's own new password; told as `reset_password`."""
    user.set_password(password)
    user.save(update_fields=["password"])
    record_sign_in(user=user, action=Action.MEMBER_PASSWORD_CHANGED, by=Principal.of(user))


def record_sign_in(*, user: User, action: Action, by: Principal | None) -> None:
    """Note in each of a user's accounts that how they sign in was changed; in the operator's audit for who is in none.

    Raises:
        NotInTransaction: as `audit.recording.record`.
    """
    subjects: list[Membership | User] = [*user.memberships.select_related("user")]
    for subject in subjects or [user]:
        record_act(by, action, subject, changes=NOTHING)


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
    api_key = build(
        ApiKey,
        account=account,
        by=by,
        name=name,
        description=description,
        metadata=metadata,
        expires_at=expires_at,
        disabled=disabled,
        digest=tokens.digest(token),
        key_redacted=mask(token),
    )
    with audited.creating(api_key, by=by, action=Action.API_KEY_CREATED):
        api_key.save(force_insert=True)
    return IssuedApiKey(api_key=api_key, token=token)


def update_api_key(*, api_key: ApiKey, by: Principal, if_match: IfMatch = ANY, **changes: Any) -> ApiKey:
    """Change what was given: name, description, metadata, expires_at, disabled; None clears.

    Raises:
        NotFound: it has been deleted meanwhile.
        PreconditionFailed: it has changed since the version that the caller knows.
    """
    with audited.changing(api_key, by=by, action=Action.API_KEY_UPDATED, if_match=if_match) as row:
        apply_changes(row, by=by, changes=changes)
    return row


def delete_api_key(*, api_key: ApiKey, by: Principal, if_match: IfMatch = ANY) -> None:
    """Revoke an API key for ever; it may be the one that asks, and the account's last.

    Raises:
        NotFound: it has been deleted meanwhile.
        PreconditionFailed: it has changed since the version that the caller knows.
    """
    audited.delete(api_key, by=by, action=Action.API_KEY_DELETED, if_match=if_match)
