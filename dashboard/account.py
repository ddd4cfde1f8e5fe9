"""Whose dashboard a request sees: who is signed in, in which account, and what they may do there.

The session remembers only which account was chosen. Whether the user still belongs to it, and as what, is asked of the
database at every request, so that a removed member or a lowered role has no more than the page that is open.
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

# What a role may do, the greater the more.
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
    # All accounts that the user belongs to, by name; of the operator only those, not every account that there is.
    accounts: tuple[Account, ...]

    @property
    def principal(self) -> Principal:
        """Who acts: what services take as `by`."""
        return Principal.of(self.user)

    @property
    def may_write(self) -> bool:
        """Whether the role may change resources."""
        return self.may(Role.EDITOR)

    @property
    def is_owner(self) -> bool:
        """Whether the role may change who belongs to the account."""
        return self.may(Role.OWNER)

    def may(self, least: Membership.Role) -> bool:
        """Whether the role is at least this one."""
        return _RANKS[self.role] >= _RANKS[least]


class NoAccount(Forbidden):
    """You do not belong to any account. Ask an owner of one to invite you."""

    code = "no_account"


def visit_of(request: HttpRequest) -> Visit | None:
    """The account that a signed-in user is in: the chosen one, else the first by name. Two queries at most.

    The operator (superuser) may be in any account, as an owner; None: the operator has chosen none and belongs to none.
    """
    user = request.user
    if not isinstance(user, User):
        return None
    memberships = list(user.memberships.select_related("account").order_by("account__name", "account_id"))
    accounts = tuple(one.account for one in memberships)
    chosen = _chosen(request)
    for one in memberships:
        if one.account_id == chosen:
            return Visit(user, one.account, Role.OWNER if user.is_superuser else Role(one.role), accounts)
    if user.is_superuser and chosen is not None:
        account = Account.objects.filter(id=chosen).first()
        if account is not None:
            return Visit(user, account, Role.OWNER, accounts)
    if not memberships:
        return None
    first = memberships[0]
    return Visit(user, first.account, Role.OWNER if user.is_superuser else Role(first.role), accounts)


def choose(request: HttpRequest, text_id: str) -> Account:
    """Enter another account, from now on in this session.

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
