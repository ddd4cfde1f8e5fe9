"""The visit: which user is signed in, in which account, and with which role.

The session remembers only the chosen account. Every request reads from the database whether the user still belongs to
it, and with which role. So a removed member, or one with a lowered role, keeps only the page that is already open.
"""

import uuid
from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest

from accounts.models import Account, Membership, User
from accounts.principals import Principal
from gateway_core import ids
from rest.errors import Forbidden, NotFound

Role = Membership.Role

# A higher number may do more.
_RANKS: Final = {Role.VIEWER: 0, Role.EDITOR: 1, Role.OWNER: 2}
_CHOSEN: Final = "account"


class RoleTooLow(Forbidden):
    """Your role in this account does not allow this. Ask an owner of the account."""

    code = "role_too_low"


@dataclass(frozen=True)
class Visit:
    """A signed-in user in one account."""

    user: User
    account: Account
    role: Membership.Role
    # The accounts that the user belongs to, by name. The operator's list has only those too, not every account.
    accounts: tuple[Account, ...]

    @property
    def principal(self) -> Principal:
        """The principal for the audit: the `by` of services."""
        return Principal.of(self.user)

    @property
    def may_write(self) -> bool:
        """Whether the role may change resources."""
        return self.may(Role.EDITOR)

    @property
    def is_owner(self) -> bool:
        """Whether the role may add and remove members."""
        return self.may(Role.OWNER)

    def may(self, least: Membership.Role) -> bool:
        """Whether the role is at least this one."""
        return _RANKS[self.role] >= _RANKS[least]


class NoAccount(Forbidden):
    """You do not belong to any account. Ask an owner of one to invite you."""

    code = "no_account"


def visit_of(request: HttpRequest) -> Visit | None:
    """The visit of a signed-in user: in the chosen account, else in the first by name. Two queries at most.

    The operator (superuser) may enter any account, as an owner. The result is None where the operator has not chosen an
    account and does not belong to one.
    """
    user = request.user
    if not isinstance(user, User):
        return None
    memberships = list(user.memberships.select_related("account").order_by("account__name", "account_id"))
    accounts = tuple(membership.account for membership in memberships)
    chosen = _chosen(request)
    for membership in memberships:
        if membership.account_id == chosen:
            return Visit(user, membership.account, Role.OWNER if user.is_superuser else Role(membership.role), accounts)
    if user.is_superuser and chosen is not None:
        account = Account.objects.filter(id=chosen).first()
        if account is not None:
            return Visit(user, account, Role.OWNER, accounts)
    if not memberships:
        return None
    first = memberships[0]
    return Visit(user, first.account, Role.OWNER if user.is_superuser else Role(first.role), accounts)


def choose(request: HttpRequest, text_id: str) -> Account:
    """Enter another account for the rest of this session.

    Raises:
        NotFound: there is no such account for this user.
    """
    user = request.user
    try:
        chosen = ids.from_text(ids.Prefix.ACCOUNT, text_id)
    except ids.InvalidId:
        raise NotFound from None
    accounts = Account.objects.filter(id=chosen)
    if not (isinstance(user, User) and user.is_superuser):
        accounts = accounts.filter(memberships__user=user.pk)
    account = accounts.first()
    if account is None:
        raise NotFound
    request.session[_CHOSEN] = str(account.id)
    return account


def _chosen(request: HttpRequest) -> uuid.UUID | None:
    try:
        return uuid.UUID(request.session.get(_CHOSEN, ""))
    except ValueError:
        return None
