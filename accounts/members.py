"""The members of an account: invitations, roles, removal.

An account that has an owner always keeps at least one. A transaction that removes an owner locks the account's row, so
that two owners cannot remove each other at the same time.

Source: docs/decisions/0092-members.md.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts.models import Account, Invitation, Membership, User
from accounts.principals import Principal
from accounts.quota_limits import Quota
from accounts.quotas import held
from accounts.services import add_member
from audit.actions import Action
from audit.writing import audited
from gateway_core import tokens
from rest.errors import Conflict, InvalidRequest
from rest.preconditions import locked
from rest.violations import is_uniqueness_violation

INVITATION_LIFETIME: Final = timedelta(days=7)


class LastOwner(Conflict):
    """An account needs an owner; make another member an owner first."""

    code = "last_owner"


class AlreadyMember(Conflict):
    """You belong to this account already."""

    code = "already_member"


class UsernameTaken(Conflict):
    """This user name is taken."""

    code = "username_taken"


class InvitationInvalid(InvalidRequest):
    """This invitation does not exist, has expired, or was used."""

    code = "invitation_invalid"


class PasswordWeak(InvalidRequest):
    """This password is too easy to guess."""

    code = "password_weak"


@dataclass(frozen=True)
class IssuedInvitation:
    """A new invitation with its token. The token is not stored and cannot be shown again."""

    invitation: Invitation
    token: str = field(repr=False)


def invite(*, account: Account, name: str, role: str, by: Principal) -> IssuedInvitation:
    """Create an invitation. Anyone who has its token may join once, within a week, with its role.

    Args:
        account: the account to join.
        name: the invited person, in the inviter's words.
        role: one of Membership.Role.
        by: the principal who invites.

    Raises:
        QuotaReached: the account has as many open invitations as it may have.
    """
    token = tokens.generate(tokens.INVITATION_PREFIX)
    invitation = Invitation(
        account=account,
        name=name,
        role=Membership.Role(role),
        digest=tokens.digest(token),
        expires_at=timezone.now() + INVITATION_LIFETIME,
        created_by=by.id,
    )
    with held(account.id) as quotas, audited.creating(invitation, by=by, action=Action.INVITATION_CREATED):
        quotas.take(Quota.INVITATIONS)
        invitation.save(force_insert=True)
    return IssuedInvitation(invitation, token)


def revoke_invitation(*, invitation: Invitation, by: Principal) -> None:
    """Delete an invitation, so that its token is not valid any more.

    Raises:
        NotFound: it was used or revoked meanwhile.
    """
    audited.delete(invitation, by=by, action=Action.INVITATION_REVOKED)


@transaction.atomic
def join(*, token: str, user: User) -> Membership:
    """Add a user to the account of an invitation, and delete the invitation.

    Raises:
        InvitationInvalid: no invitation has this token, or it has expired or was used.
        AlreadyMember: the user is a member already; the invitation stays valid for its addressee.
        QuotaReached: the account has as many members as it may have; the invitation stays valid.
    """
    invitation = _valid_invitation(token)
    try:
        with transaction.atomic():
            member = add_member(account=invitation.account, user=user, role=invitation.role, by=Principal.of(user))
    except IntegrityError as refusal:
        if not is_uniqueness_violation(refusal, "one_membership_per_user_and_account"):
            raise
        raise AlreadyMember from None
    invitation.delete()
    return member


@transaction.atomic
def join_as_new_user(*, token: str, username: str, email: str, password: str) -> Membership:
    """Create a user for the holder of an invitation, and add it to the account.

    Raises:
        InvitationInvalid: as `join`; no user is created.
        UsernameTaken: another user has this name.
        PasswordWeak: the password breaks a rule of AUTH_PASSWORD_VALIDATORS; details name the broken rules.
    """
    # First, because hashing a password is slow on purpose, and this form is open to everybody.
    _valid_invitation(token)
    user = User(username=User.normalize_username(username), email=email)
    try:
        validate_password(password, user)
    except ValidationError as fault:
        raise PasswordWeak(details={"password": " ".join(fault.messages)}) from None
    user.set_password(password)
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError as refusal:
        if not is_uniqueness_violation(refusal, "accounts_user_username_key"):
            raise
        raise UsernameTaken(details={"username": UsernameTaken.message()}) from None
    return join(token=token, user=user)


@transaction.atomic
def change_role(*, member: Membership, role: str, by: Principal) -> Membership:
    """Give a member another role in the account.

    Raises:
        NotFound: the member has left meanwhile.
        LastOwner: no other member owns the account.
    """
    _lock_account_of(member)
    with audited.changing(member, by=by, action=Action.MEMBER_ROLE_CHANGED) as row:
        if role != Membership.Role.OWNER:
            _keep_an_owner_beside(row)
        row.role = Membership.Role(role)
        row.save(update_fields=["role"])
    return row


@transaction.atomic
def remove_member(*, member: Membership, by: Principal) -> None:
    """Remove a member from the account. The user stays, and so do the API keys that the user created.

    Raises:
        NotFound: the member has left meanwhile.
        LastOwner: no other member owns the account.
    """
    _lock_account_of(member)
    _keep_an_owner_beside(locked(member))
    audited.delete(member, by=by, action=Action.MEMBER_REMOVED)


def _valid_invitation(token: str) -> Invitation:
    """The invitation with this token. Its row is locked, so that it is used only once."""
    invitation = Invitation.objects.select_for_update().filter(digest=tokens.digest(token)).first()
    if invitation is None or invitation.expires_at <= timezone.now():
        raise InvitationInvalid(details={"code": InvitationInvalid.message()})
    return invitation


def _lock_account_of(member: Membership) -> None:
    """Lock the account's row, so that two changes of its owners wait for each other."""
    Account.objects.select_for_update(no_key=True).get(pk=member.account_id)


def _keep_an_owner_beside(member: Membership) -> None:
    if member.role != Membership.Role.OWNER:
        return
    owners = Membership.objects.filter(account_id=member.account_id, role=Membership.Role.OWNER)
    if not owners.exclude(pk=member.pk).exists():
        raise LastOwner
