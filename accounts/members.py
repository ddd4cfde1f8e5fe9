"""Who belongs to an account and as what: invitations, roles, leaving.

An account that has an owner always keeps one. Whoever takes an owner away holds the account's row until the end, so
that two owners cannot remove each other at once.

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
from accounts.services import add_member
from audit.actions import Action
from audit.writing import audited
from gateway_core import tokens
from rest.errors import Conflict, InvalidRequest
from rest.preconditions import locked
from rest.violations import is_uniqueness_violation

INVITATION_LIFETIME: Final = timedelta(days=7)


class LastOwner(Conflict):
    """An account needs an owner. Make somebody else an owner first."""

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
    """A new invitation with its token, which is nowhere else and never again."""

    invitation: Invitation
    token: str = field(repr=False)


def invite(*, account: Account, name: str, role: str, by: Principal) -> IssuedInvitation:
    """Make an invitation. Whoever shows its token within a week is in, as what it says.

    Args:
        account: into which.
        name: for whom, in the inviter's words.
        role: one of Membership.Role.
        by: who invites.
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
    with audited.creating(invitation, by=by, action=Action.INVITATION_CREATED):
        invitation.save(force_insert=True)
    return IssuedInvitation(invitation, token)


def revoke_invitation(*, invitation: Invitation, by: Principal) -> None:
    """Take an invitation back.

    Raises:
        NotFound: it was used or taken back meanwhile.
    """
    audited.delete(invitation, by=by, action=Action.INVITATION_REVOKED)


@transaction.atomic
def join(*, token: str, user: User) -> Membership:
    """Let a user into the account of an invitation, and use it up.

    Raises:
        InvitationInvalid: there is none with this token, or none any more.
        AlreadyMember: the user is in it; the invitation stays for whom it was meant.
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
    """Make a user for who holds an invitation, and let them in.

    Raises:
        InvitationInvalid: as `join`; then no user is made.
        UsernameTaken: somebody else has it.
        PasswordWeak: it breaks one of the rules of AUTH_PASSWORD_VALIDATORS; details tell which.
    """
    # Before anything that costs: hashing a password is slow on purpose, and anybody may ask.
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
    """Let a member be something else in the account.

    Raises:
        NotFound: they have left meanwhile.
        LastOwner: nobody else would own the account.
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
    """Take a member out of the account. The user stays, and so do the API keys that they made.

    Raises:
        NotFound: they have left meanwhile.
        LastOwner: nobody else owns the account.
    """
    _lock_account_of(member)
    _keep_an_owner_beside(locked(member))
    audited.delete(member, by=by, action=Action.MEMBER_REMOVED)


def _valid_invitation(token: str) -> Invitation:
    """The invitation of a token, its row locked: it serves once."""
    invitation = Invitation.objects.select_for_update().filter(digest=tokens.digest(token)).first()
    if invitation is None or invitation.expires_at <= timezone.now():
        raise InvitationInvalid(details={"code": InvitationInvalid.message()})
    return invitation


def _lock_account_of(member: Membership) -> None:
    """Lock the account's row, so that changes of who owns an account wait for each other."""
    Account.objects.select_for_update(no_key=True).get(pk=member.account_id)


def _keep_an_owner_beside(member: Membership) -> None:
    if member.role != Membership.Role.OWNER:
        return
    owners = Membership.objects.filter(account_id=member.account_id, role=Membership.Role.OWNER)
    if not owners.exclude(pk=member.pk).exists():
        raise LastOwner
