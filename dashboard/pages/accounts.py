"""Choosing an account: the operator's list of all accounts, and the switch between a member's own accounts."""

from typing import Final

from django.http import HttpRequest, HttpResponse

from accounts import services
from accounts.models import Account, User
from accounts.principals import Principal
from accounts.serializers import AccountForm
from dashboard.account import Role, choose
from dashboard.kit.forms import Field, Form
from dashboard.kit.lists import Filter, Filters, listing_of
from dashboard.kit.page import Page
from gateway_core import ids
from rest.errors import NotFound

FILTERS: Final = (Filter("q", "Search", placeholder="Name"),)
FIELDS: Final = (Field("name", "Name", required=True, placeholder="Platform team"),)


class AccountsPage(Page):
    """`/dashboard/accounts`, for the operator alone."""

    path = "accounts"
    name = "accounts"
    title = "Accounts"
    template = "dashboard/accounts.html"
    needs_account = False

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show one page of all accounts."""
        _for_the_operator(request)
        filters = Filters(request, FILTERS)
        accounts = Account.objects.filter(name__icontains=filters["q"]) if filters["q"] else Account.objects.all()
        return self.render(listing=listing_of(request, accounts, ids.Prefix.ACCOUNT), filters=filters)


class CreateAccountPage(Page):
    """`/dashboard/accounts/new`, for the operator alone."""

    path = "accounts/new"
    name = "create-account"
    title = "New account"
    template = "dashboard/account_create.html"
    parents = (("Accounts", "accounts"),)
    # Each method checks that the user is the operator. A role needs an account, and the operator may be in none.
    least_to_write = Role.VIEWER
    needs_account = False

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the empty form."""
        _for_the_operator(request)
        return self.render(form=Form(AccountForm, FIELDS))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Create the account, and enter it."""
        operator = _for_the_operator(request)
        form = Form(AccountForm, FIELDS, submitted=request.POST)
        with form.faults_shown():
            account = services.create_account(by=Principal.of(operator), **form.values())
            choose(request, account.text_id)
            return self.redirect("members", said="The account is created, and you are in it. Invite an owner.")
        return self.render(form=form, status=form.status)


class ChooseAccountPage(Page):
    """`POST /dashboard/accounts/choose`: enter another account."""

    path = "accounts/choose"
    name = "choose-account"
    title = "Choose an account"
    # Viewers may change accounts too.
    least_to_write = Role.VIEWER
    needs_account = False
    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """Remember the chosen account for this session, and go to the overview."""
        choose(request, request.POST.get("account", ""))
        return self.redirect("overview")


def _for_the_operator(request: HttpRequest) -> User:
    """The signed-in operator.

    Raises:
        NotFound: the user is not the operator. For everybody else these pages do not exist.
    """
    user = request.user
    if not (isinstance(user, User) and user.is_superuser):
        raise NotFound
    return user


PAGES: Final = (AccountsPage, CreateAccountPage, ChooseAccountPage)
