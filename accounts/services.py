"""Every write to accounts, users and API keys."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import transaction

from accounts.heirs import bounded_expiry, makers_of
from accounts.models import Account, ApiKey, Membership, User
from accounts.owned.services import apply_changes, build, with_disabled_set
from accounts.principals import Principal
from accounts.quota_limits import Quota
from accounts.quotas import held
from audit.actions import Action
from audit.recording import NOTHING, record_act
from audit.writing import audited
from gateway_core import tokens
from gateway_core.redaction import mask
from rest.preconditions import ANY, IfMatch


@dataclass(frozen=True)
class IssuedApiKey:
    """A new API key with its token. The token is not stored and cannot be shown again."""

    api_key: ApiKey
    token: str = field(repr=False)


def create_account(*, name: str, by: Principal | None = None) -> Account:
    """Create an account without members.

    Args:
        name: a name for people.
        by: the principal; None for a management command.
    """
    account = Account(name=name)
    with audited.creating(account, by=by, action=Action.ACCOUNT_CREATED):
        account.save(force_insert=True)
    return account


@transaction.atomic
def create_user(
    *, username: str, email: str, password: str, account: Account, role: str, by: Principal | None = None
) -> User:
    """Create a dashboard user and its membership in an account.

    Args:
        username: the name for signing in.
        email: may be empty.
        password: the plain password; only its hash is stored.
        account: the account that the user belongs to.
        role: one of Membership.Role.
        by: the principal; None for a management command.
    """
    user = User.objects.create_user(username=username, email=email, password=password)
    add_member(account=account, user=user, role=role, by=by)
    return user


def add_member(*, account: Account, user: User, role: str, by: Principal | None = None) -> Membership:
    """Add a user to an account; `role` is one of Membership.Role.

    Raises:
        QuotaReached: the account has as many members as it may have.
    """
    member = Membership(account=account, user=user, role=Membership.Role(role))
    with held(account.id) as quotas, audited.creating(member, by=by, action=Action.MEMBER_ADDED):
        quotas.take(Quota.MEMBERS)
        member.save(force_insert=True)
    return member


@transaction.atomic
def reset_password(*, user: User, password: str, by: Principal | None = None) -> None:
    """Give a user a new password. The audit of each of the user's accounts records the fact, not the password."""
    user.set_password(password)
    user.save(update_fields=["password"])
    record_sign_in(user=user, action=Action.MEMBER_PASSWORD_RESET, by=by)


@transaction.atomic
def change_password(*, user: User, password: str) -> None:
    """Set the password that a user chose; it is recorded as in `reset_password`."""
    user.set_password(password)
    user.save(update_fields=["password"])
    record_sign_in(user=user, action=Action.MEMBER_PASSWORD_CHANGED, by=Principal.of(user))


def record_sign_in(*, user: User, action: Action, by: Principal | None) -> None:
    """Record in each of a user's accounts that a sign-in method has changed.

    For a user without accounts, the event belongs to no account; only the operator sees it.

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
    disabled: bool | None = None,
) -> IssuedApiKey:
    """Issue a token that manages the account. A key that an API key makes expires with it (accounts.heirs).

    Raises:
        InvalidRequest: `expires_at` is later than the expiry of the API key that makes it.
        QuotaReached: the account has as many API keys as it may have.
    """
    token = tokens.generate(tokens.API_KEY_PREFIX)
    makers = makers_of(by)
    api_key = build(
        ApiKey,
        account=account,
        by=by,
        name=name,
        description=description,
        metadata=metadata,
        expires_at=bounded_expiry(expires_at, makers=makers, is_given=expires_at is not None),
        makers=makers,
        disabled=bool(disabled),
        disabled_is_set=disabled is not None,
        digest=tokens.digest(token),
        key_redacted=mask(token),
    )
    with held(account.id) as quotas, audited.creating(api_key, by=by, action=Action.API_KEY_CREATED):
        quotas.take(Quota.API_KEYS)
        api_key.save(force_insert=True)
    return IssuedApiKey(api_key=api_key, token=token)


def update_api_key(*, api_key: ApiKey, by: Principal, if_match: IfMatch = ANY, **changes: Any) -> ApiKey:
    """Change what was given: name, description, metadata, expires_at, disabled; None clears.

    Raises:
        InvalidRequest: `expires_at` is later than the expiry of the API key that changes it.
        NotFound: it has been deleted meanwhile.
        PreconditionFailed: it has changed since the version that the caller knows.
    """
    if "expires_at" in changes and changes["expires_at"] != api_key.expires_at:
        bounded_expiry(changes["expires_at"], makers=makers_of(by), is_given=True)
    with audited.changing(api_key, by=by, action=Action.API_KEY_UPDATED, if_match=if_match) as row:
        apply_changes(row, by=by, changes=with_disabled_set(changes))
    return row


def delete_api_key(*, api_key: ApiKey, by: Principal, if_match: IfMatch = ANY) -> None:
    """Delete an API key. It may be the key that makes the request, and the account's last one.

    Raises:
        NotFound: it has been deleted meanwhile.
        PreconditionFailed: it has changed since the version that the caller knows.
    """
    with held(api_key.account_id):
        audited.delete(api_key, by=by, action=Action.API_KEY_DELETED, if_match=if_match)
