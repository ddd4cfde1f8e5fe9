"""Which account to look into: the operator's overview of all, and every member's way from one to another."""

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
        """One page of all accounts."""
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
    # The operator's own gate stands in both methods; a role is for who is in an account.
    least_to_write = Role.VIEWER
    needs_account = False

    def get(self, request: HttpRequest) -> HttpResponse:
        """The empty form."""
        _for_the_operator(request)
        return self.render(form=Form(AccountForm, FIELDS))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Open it, and enter it."""
        operator = _for_the_operator(request)
        form = Form(AccountForm, FIELDS, submitted=request.POST)
        with form.faults_told():
            account = services.create_account(by=Principal.of(operator), **form.values())
            choose(request, account.text_id)
            return self.redirect("members", said="The account is there, and you are in it. Invite an owner.")
        return self.render(form=form, status=form.status)


class ChooseAccountPage(Page):
    """`POST /dashboard/accounts/choose`: enter another account."""

    path = "accounts/choose"
    name = "choose-account"
    title = "Choose an account"
    # Where to look is everybody's own choice.
    least_to_write = Role.VIEWER
    needs_account = False
    http_method_names = ["post"]

    def post(self, request: HttpRequest) -> HttpResponse:
        """Remember the choice for this session, and begin at the overview."""
        choose(request, request.POST.get("account", ""))
        return self.redirect("overview")


def _for_the_operator(request: HttpRequest) -> User:
    """Who asks, if they are the operator. To everybody else these pages do not exist."""
    user = request.user
    if not (isinstance(user, User) and user.is_superuser):
        raise NotFound
    return user


PAGES: Final = (AccountsPage, CreateAccountPage, ChooseAccountPage)
